"""Scores worked out by hand, on tiny files in the authors' formats."""

import json
import math
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import dsg, editing, geneval, wise, yesno
from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.geneval import Detection


def lines(path: Path, *objects: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(o) for o in objects) + "\n")
    return path.parent


# GenEval


def test_geneval_loads_and_scores(tmp_path: Path):
    directory = lines(
        tmp_path / "evaluation_metadata.jsonl",
        {"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a cow"},
        {"tag": "single_object", "include": [{"class": "bus", "count": 1}], "prompt": "a bus"},
        {"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "red"}], "prompt": "x"},
    )
    items = geneval.load(directory, partial=True)
    assert [i.id for i in items] == ["00000", "00001", "00002"]
    right = {"00000": [True, True, False, None], "00001": [False] * 4, "00002": [None, None]}
    found = geneval.score(items, right)
    # single_object: 2/3 and 0; the only prompt of `colors` has no verdict and no say.
    assert found.overall.value == pytest.approx(1 / 3)
    # Verdicts are pictures: one of four, none of four, two of two.
    assert (found.missing, found.total, set(found.groups)) == (3, 10, {"single_object"})
    assert found.items == 3 and geneval.score(items, {"00000": [True]}).missing == 2
    with pytest.raises(DataError, match="GenEval has 553 items, this directory 3"):
        geneval.load(directory)


def one(tag: str, *include: dict, exclude: tuple = ()) -> Item:
    return Item("0", "", tag, data={"include": list(include), "exclude": list(exclude)})


def seen(
    name: str, x: float, y: float, size: float = 20, score: float = 0.95, color=None
) -> Detection:
    half = size / 2
    return Detection(name, (x - half, y - half, x + half, y + half), score, color)


def test_geneval_checks():
    two = one("counting", {"class": "cup", "count": 2}, exclude=({"class": "cup", "count": 3},))
    cups = [seen("cup", x, 0) for x in (0, 50, 100)]
    assert geneval.check(two, cups[:2])
    assert not geneval.check(two, cups[:1])
    assert not geneval.check(two, cups)
    # For counting, detections need .9; elsewhere .3.
    assert not geneval.check(two, [cups[0], seen("cup", 50, 0, score=0.8)])
    single = one("single_object", {"class": "cup", "count": 1})
    assert geneval.check(single, [seen("cup", 0, 0, score=0.31)])
    assert not geneval.check(single, [seen("cup", 0, 0, score=0.3)])
    red = one("colors", {"class": "cup", "count": 1, "color": "red"})
    assert geneval.check(red, [seen("cup", 0, 0, color="red")])
    # Only the surest detection is asked for its colour.
    assert not geneval.check(
        red, [seen("cup", 0, 0, color="blue"), seen("cup", 9, 9, score=0.5, color="red")]
    )


def test_geneval_positions_by_hand():
    left = one(
        "position", {"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}
    )  # fmt: skip
    assert geneval.check(left, [seen("dog", 100, 0), seen("cat", 0, 0)])
    assert not geneval.check(left, [seen("dog", 0, 0), seen("cat", 100, 0)])
    assert not geneval.check(left, [seen("cat", 0, 0)])
    # Of an offset d, sizes of 20 and 20 leave d - 4, which is more than d / 2 from 8 on.
    assert geneval.relations(seen("a", 0, 0), seen("b", 8, 0)) == set()
    assert geneval.relations(seen("a", 0, 0), seen("b", 9, 0)) == {"left of"}
    # Diagonal: both axes make up .707 of the offset.
    assert geneval.relations(seen("a", 50, 50), seen("b", 0, 0)) == {"right of", "below"}
    assert geneval.relations(seen("a", 0, -50), seen("b", 0, 0)) == {"above"}


# DSG and DPG

CHAIN = {
    1: {"parents": []},
    2: {"parents": [1]},
    3: {"parents": [2]},
    4: {"parents": []},
}


def test_dependencies_are_transitive():
    settle = dsg.with_dependencies
    assert settle(CHAIN, {1: False, 2: True, 3: True, 4: True}) == {
        1: False,
        2: False,
        3: False,
        4: True,
    }
    assert settle(CHAIN, {1: True, 2: None, 3: True, 4: True}) == {
        1: True,
        2: None,
        3: None,
        4: True,
    }
    assert settle(CHAIN, {1: False, 2: None, 3: True, 4: True})[2] is False
    assert settle(CHAIN, {1: True, 2: None, 3: False, 4: True})[3] is False
    circle = {1: {"parents": [1, 2]}, 2: {"parents": [1]}}
    assert settle(circle, {1: True, 2: True}) == {1: True, 2: True}
    assert settle(circle, {1: False, 2: True}) == {1: False, 2: False}


def test_dsg_loads_and_scores(tmp_path: Path):
    head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
    rows = [
        'coco_1,"a dog, red",k,1,0,e,w,t,Is there a dog?',
        'coco_1,"a dog, red",k,2,1,a,c,t,Is it red?',
        'vrd_7,"x",k,1,0,e,w,t,Is there x?',
    ]
    (tmp_path / "dsg-1k-anns.csv").write_text(head + "\n".join(rows) + "\n")
    items = dsg.load_dsg(tmp_path, partial=True)
    assert [(i.id, i.text, i.group) for i in items] == [
        ("coco_1", "a dog, red", "coco"),
        ("vrd_7", "x", "vrd"),
    ]
    found = dsg.score(
        items, {"coco_1": [{1: True, 2: False}, {1: False, 2: True}], "vrd_7": [{1: True}]}
    )
    assert found.overall.value == pytest.approx((0.25 + 1.0) / 2)
    assert found.groups["coco"].value == 0.25
    assert found.details == {"questions": 5.0, "questions_missing": 0.0}
    part = dsg.score(items, {"coco_1": [{1: True, 2: None}, {1: None, 2: None}], "vrd_7": []})
    # Three of the four answers, and all about the prompt that nothing was asked about.
    assert (part.overall.value, part.missing, part.total, part.items) == (1.0, 4, 5, 2)
    (tmp_path / "dsg-1k-anns.csv").write_text("id,text\n1,x\n")
    with pytest.raises(DataError, match="lacks the columns dependency, item_id"):
        dsg.load_dsg(tmp_path, partial=True)
    (tmp_path / "dsg-1k-anns.csv").write_text(head + rows[0] + "\ncoco_2,x\n")
    with pytest.raises(DataError, match="csv:3: the line is cut"):
        dsg.load_dsg(tmp_path, partial=True)
    with pytest.raises(DataError, match=r"is no DPG-Bench directory: it has no prompts\.jsonl"):
        dsg.load_dpg(tmp_path)


# WISE


def test_wise_by_hand():
    assert wise.wiscore(2, 2, 2) == pytest.approx(1.0)
    assert wise.wiscore(1, 2, 0) == pytest.approx(0.55)
    items = [Item("1", "", "culture"), Item("450", "", "time"), Item("999", "", "chemistry")]
    replies = {
        "1": "Consistency: 2\nRealism: 1\nAesthetic Quality: 0",
        "450": "**Consistency:** 1\n**Realism:** 2\n**Aesthetic Quality:** 2",
        "999": "I cannot judge this.",
    }
    found = wise.score(items, replies, "legacy")
    expected = (0.4 * 0.8 + 0.167 * 0.65) / (0.4 + 0.167)
    assert found.overall.value == pytest.approx(expected)
    assert (found.missing, found.missing_share) == (1, pytest.approx(1 / 3))
    binary = wise.score(items[:2], {"1": "Score: 1", "450": "Score: 0"}, "verified")
    assert binary.overall.value == pytest.approx(0.4 / 0.52)


def test_wise_protocols_are_not_mixed(tmp_path: Path):
    assert (wise.category(450, "legacy"), wise.category(530, "legacy")) == ("time", "time")
    assert (wise.category(450, "verified"), wise.category(530, "verified")) == ("time", "space")
    with pytest.raises(DataError, match="1 to 1000, not 1001"):
        wise.category(1001, "legacy")
    for name in wise.FILES["legacy"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    path = tmp_path / wise.FILES["legacy"][-1]
    path.write_text('[{"Prompt": "p", "Explanation": "e", "prompt_id": 801}]')
    (item,) = wise.load(tmp_path, "legacy", partial=True)
    assert (item.id, item.group, item.data["explanation"]) == ("801", "physics", "e")
    with pytest.raises(DataError, match=r"is no WISE \(verified\) directory"):
        wise.load(tmp_path, "verified")
    path.write_text('[{"Prompt": "p"}]')
    with pytest.raises(DataError, match="entry 0: the field 'prompt_id' is missing"):
        wise.load(tmp_path, "legacy", partial=True)


# Edits


def test_gedit_by_hand():
    items = [
        Item("a", "", "color_alter"),
        Item("b", "", "color_alter"),
        Item("c", "", "text_change"),
    ]
    replies = {
        "a": ('{"score" : [9, 4], "reasoning": "x"}', '{"score": [9, 9]}'),
        "b": ('{"score": [8, 8]}', '{"score": [2, 5]}'),
        "c": ('{"score": [5, 5]}', "none"),
    }
    found = editing.score_gedit(items, replies)
    assert found.groups["color_alter"].value == pytest.approx((6 + 4) / 2)
    assert found.overall.value == 5 and found.missing == 1
    assert found.details == {"sc": 6.0, "pq": 5.5}
    replies["c"] = ('{"score": [5, 5]}', '{"score": [5, 5]}')
    # Means of groups, not of samples, and of sqrt(SC PQ), not sqrt of means.
    assert editing.score_gedit(items, replies).overall.value == pytest.approx((5 + 5) / 2)
    assert math.sqrt(6 * 5.5) != pytest.approx(5)


def test_imgedit_by_hand():
    reply = "Brief reasoning: fine.\nPrompt Compliance: 5\nVisual Naturalness: 4\nPhysical & Detail Integrity: 3"
    assert editing.read_imgedit(reply) == (5, 4, 3)
    assert editing.read_imgedit(reply.replace(" 3", " 7")) is None
    items = [Item("1", "", "add"), Item("2", "", "add"), Item("3", "", "style")]
    found = editing.score_imgedit(
        items, {"1": reply, "2": reply.replace(": 3", ": 3/5"), "3": None}
    )
    assert found.overall.value == 4 and found.missing == 1


def test_gedit_files(tmp_path: Path):
    (tmp_path / "gedit_edit.json").write_text(
        json.dumps({"k": {"prompt": "Make it red.", "id": "a/b.png", "edit_type": "color_alter"}})
    )
    (item,) = editing.load_gedit(tmp_path, partial=True)
    assert (item.id, item.text, item.image, item.group) == (
        "k",
        "Make it red.",
        "a/b.png",
        "color_alter",
    )
    (tmp_path / "gedit_edit.json").write_text(
        json.dumps({"k": {"prompt": "x", "id": "a", "edit_type": "colour"}})
    )
    with pytest.raises(DataError, match="'colour' is none of background_change"):
        editing.load_gedit(tmp_path, partial=True)
    (tmp_path / "gedit_edit.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON file"):
        editing.load_gedit(tmp_path)


# POPE and MME


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("yes", "yes"), ("No, there is not.", "no"), ("There is not a dog", "no"), ("Maybe. No", "yes"),
     ("nothing", "yes"), ("", "yes")],
)  # fmt: skip
def test_pope_reads_as_its_authors_do(answer: str, expected: str):
    assert yesno.read_pope(answer) == expected


def test_pope_by_hand(tmp_path: Path):
    labels = ("yes", "yes", "no", "no", "no")
    directory = lines(
        tmp_path / "coco/coco_pope_random.json",
        *({"question_id": i, "image": "x.jpg", "text": "Is there a car?", "label": label}
          for i, label in enumerate(labels, 1)),
    ).parent  # fmt: skip
    items = yesno.load_pope(directory, "random", partial=True)
    found = yesno.score_pope(
        items, {"1": "yes", "2": "no", "3": "Yes, there is", "4": "no", "5": None}
    )
    assert found.overall.value == 0.5 and found.missing == 1
    assert found.details == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "yes_share": 0.5}


def test_mme_by_hand():
    def ask(number: int, image: str, answer: str) -> Item:
        return Item(str(number), "", "count", image, {"answer": answer})

    items = [ask(0, "a", "yes"), ask(1, "a", "no"), ask(2, "b", "yes"), ask(3, "b", "no")]
    found = yesno.score_mme(items, {"0": "Yes.", "1": "no", "2": "no", "3": "No"})
    # Accuracy 3 of 4, both right for 1 picture of 2.
    assert found.groups["count"].value == 75 + 50
    assert found.details == {"unreadable": 0.0, "perception": 125.0}
    # As the authors count: an answer without yes or no is wrong; one that is not there says nothing.
    part = yesno.score_mme(items, {"0": "Yes.", "1": "no", "2": "well", "3": "No"})
    assert part.groups["count"].value == 125 and part.missing == 0
    assert part.details == {"unreadable": 1.0, "perception": 125.0}
    lost = yesno.score_mme(items, {"0": "Yes.", "1": "no", "3": "No"})
    assert lost.groups["count"].value == 200 and lost.missing == 1
    with pytest.raises(DataError, match="all verdicts are missing"):
        yesno.score_mme(items, {})


def test_a_sum_of_mme_is_whole_or_not_there():
    """A subtask of which no answer is there would count as zero in its sum."""
    items = [
        Item(str(n), "", task, "a", {"answer": "yes"})
        for n, task in enumerate(("count", "color", "code_reasoning"))
    ]
    found = yesno.score_mme(items, {"0": "yes", "2": "yes"})
    assert found.details == {"unreadable": 0.0, "cognition": 200.0}
    assert yesno.read_mme("A no.") == "no" and yesno.read_mme("well, no") is None


def test_damage_is_one_line(tmp_path: Path):
    def geneval_of(**line: object) -> None:
        lines(tmp_path / "evaluation_metadata.jsonl", {"tag": "colors", "prompt": "x", **line})
        geneval.load(tmp_path, partial=True)

    cow = {"class": "cow", "count": 1}
    geneval_of(include=[cow, {**cow, "position": ["above", 0]}])
    for wrong in (
        {}, {"include": 5}, {"include": [{"class": "cow"}]}, {"include": [{**cow, "class": 5}]},
        {"include": [{**cow, "position": ["above", 0]}]}, {"include": [cow], "exclude": {"a": 1}},
        {"include": [cow], "prompt": None},
    ):  # fmt: skip
        with pytest.raises(DataError):
            geneval_of(**wrong)
    lines(tmp_path / "coco/coco_pope_random.json",
          {"question_id": 1, "image": "x", "text": "t", "label": "maybe"})  # fmt: skip
    with pytest.raises(DataError, match="label 'maybe' is neither yes nor no"):
        yesno.load_pope(tmp_path, "random", partial=True)


def test_a_text_may_hold_any_end_of_a_line(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    line = {"item_id": "a", "prompt": "one\u2028two"}
    path.write_text(json.dumps(line, ensure_ascii=False) + "\n")
    (item,) = dsg.load_dpg(tmp_path, partial=True)
    assert item.text == "one\u2028two"


def test_a_broken_line_is_named(tmp_path: Path):
    path = tmp_path / "coco/coco_pope_random.json"
    path.parent.mkdir()
    path.write_text('{"question_id": 1, "image": "x", "text": "t", "label": "no"}\n{"quest\n')
    with pytest.raises(DataError, match=r"coco_pope_random\.json:2: no JSON"):
        yesno.load_pope(tmp_path, "random")
