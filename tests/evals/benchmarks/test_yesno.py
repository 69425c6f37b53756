"""POPE and MME: scores worked out by hand, on tiny files in the authors' format."""

import json
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import yesno
from arm.evals.benchmarks.base import Item


def lines(path: Path, *objects: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(o) for o in objects) + "\n")
    return path.parent


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


def test_pope_reports_each_split_and_their_mean(tmp_path: Path):
    for split, labels in (("random", "yn"), ("popular", "yyn"), ("adversarial", "n")):
        lines = [
            json.dumps({"question_id": n, "image": "x.jpg", "text": "Is there a car?",
                        "label": "yes" if label == "y" else "no"})
            for n, label in enumerate(labels)
        ]  # fmt: skip
        path = tmp_path / f"coco/coco_pope_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
    items = yesno.load_pope_splits(tmp_path, partial=True)
    assert [i.id for i in items] == [
        "random/0", "random/1", "popular/0", "popular/1", "popular/2", "adversarial/0"
    ]  # fmt: skip
    answers = {i.id: "yes" for i in items}
    found = yesno.score_pope_splits(items, answers)
    assert {k: v.value for k, v in found.groups.items()} == {
        "random": 0.5, "popular": pytest.approx(2 / 3), "adversarial": 0.0
    }  # fmt: skip
    assert found.overall.value == pytest.approx((1 / 2 + 2 / 3) / 3)
    # F1 of yes: precision 1/2, 2/3 and 0, recall 1, 1 and 0.
    f1 = [2 / 3, 4 / 5, 0.0]
    assert found.details["f1"] == pytest.approx(sum(f1) / 3)
    assert found.details["popular f1"] == pytest.approx(f1[1])
    assert yesno.score_pope_splits(items, {"random/0": "yes"}).missing == 5


def test_a_label_is_yes_or_no(tmp_path: Path):
    lines(tmp_path / "coco/coco_pope_random.json",
          {"question_id": 1, "image": "x", "text": "t", "label": "maybe"})  # fmt: skip
    with pytest.raises(DataError, match="label 'maybe' is neither yes nor no"):
        yesno.load_pope(tmp_path, "random", partial=True)


def test_a_broken_line_is_named(tmp_path: Path):
    path = tmp_path / "coco/coco_pope_random.json"
    path.parent.mkdir()
    path.write_text('{"question_id": 1, "image": "x", "text": "t", "label": "no"}\n{"quest\n')
    with pytest.raises(DataError, match=r"coco_pope_random\.json:2: not JSON"):
        yesno.load_pope(tmp_path, "random")
