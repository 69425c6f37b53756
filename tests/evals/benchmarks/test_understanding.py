"""Questions about pictures: tiny files in their authors' layouts, with scores worked out by hand."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from arm.errors import DataError
from arm.evals.benchmarks import choices, gqa, mmbench, vqav2, yesno
from arm.evals.benchmarks.registry import BENCHMARKS


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


# Multiple choice

OPTIONS = {"A": "a dog", "B": "two cats", "C": "grass", "D": "none"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"), ("B.", "B"), ("(C) grass", "C"), ("The answer is D", "D"), ("Two cats.", "B"),
        ("A", "A"), ("A small animal sits here", None),  # an article, perhaps
        ("b", None), ("A or B", None), ("a dog on grass", None), ("", None), ("a horse", None),
    ],
)  # fmt: skip
def test_a_letter_is_read_by_rules_alone(answer: str, expected: str | None):
    assert choices.read_choice(answer, OPTIONS) == expected


def test_a_choice_is_asked_for_in_lines():
    assert choices.choice_prompt("What is it?", {"A": "x", "B": "y"}, "Look.") == (
        "Look.\nWhat is it?\nA. x\nB. y\nAnswer with the option's letter from the given choices directly."
    )


# MMBench


def picture_text() -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def mmbench_file(root: Path, *rows: dict[str, str], without: str = "") -> Path:
    names = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image",
             "l2-category"]  # fmt: skip
    names = [n for n in names if n != without]
    root.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(names), *("\t".join(row.get(n, "") for n in names) for row in rows)]
    (root / "mmbench_dev.tsv").write_text("\n".join(lines) + "\n")
    return root


def row(index: int, answer: str, **more: str) -> dict[str, str]:
    base = {"index": str(index), "question": "Which?", "hint": "nan", "A": "x1", "B": "y2",
            "answer": answer, "category": "identity", "image": picture_text(),
            "l2-category": "perception"}  # fmt: skip
    return {**base, **more}


def test_mmbench_is_right_only_in_every_rotation(tmp_path: Path):
    root = mmbench_file(
        tmp_path / "b", row(1, "A", C="z3"), row(2, "B"), row(3, "A", category="ocr")
    )
    items = mmbench.load(root)
    assert [i.id for i in items] == [
        "1", "1000001", "2000001", "2", "1000002", "3", "1000003"
    ]  # fmt: skip
    # Pass 1 begins at the second option: y2, z3, x1, so that x1 is C; pass 2 at z3, so x1 is B.
    assert items[1].data["options"] == {"A": "y2", "B": "z3", "C": "x1"}
    assert [i.data["answer"] for i in items[:3]] == ["A", "C", "B"]
    assert items[1].text.startswith("Which?\nA. y2\nB. z3\nC. x1\nAnswer with")
    answers = {
        "1": "A", "1000001": "C", "2000001": "B",  # right in all
        "2": "B", "1000002": "B",  # wrong in the second
        "3": "A", "1000003": None,  # a pass is missing, none is wrong
    }  # fmt: skip
    found = mmbench.score(items, answers)
    assert found.overall.value == 0.5 and (found.missing, found.total) == (1, 3)
    assert found.details == {"unreadable": 0.0, "first_pass": 1.0, "perception": 0.5}
    wrong = mmbench.score(items, {**answers, "3": "no idea"})
    assert wrong.overall.value == pytest.approx(1 / 3) and wrong.missing == 0
    assert wrong.details["unreadable"] == 1.0


def test_mmbench_takes_rotations_from_the_file(tmp_path: Path):
    rows = [row(5, "A"), row(1_000_005, "B", A="y2", B="x1", image="5")]
    items = mmbench.load(mmbench_file(tmp_path / "b", *rows))
    assert [(i.id, i.data["answer"], i.image) for i in items] == [
        ("5", "A", "5.jpg"), ("1000005", "B", "5.jpg")
    ]  # fmt: skip
    mmbench.unpack(tmp_path / "b", items, tmp_path / "sources")
    assert [p.name for p in (tmp_path / "sources").iterdir()] == ["5.jpg"]
    with Image.open(tmp_path / "sources/5.jpg") as picture:
        assert picture.size == (8, 8)
    # One that is not the table's any more is written anew.
    first = (tmp_path / "sources/5.jpg").read_bytes()
    (tmp_path / "sources/5.jpg").write_bytes(first + b"more")
    mmbench.unpack(tmp_path / "b", items, tmp_path / "sources")
    assert (tmp_path / "sources/5.jpg").read_bytes() == first
    more = [*rows, row(6, "A")]
    with pytest.raises(DataError, match="question 6 has 1 of 2 rotations: the file is cut"):
        mmbench.load(mmbench_file(tmp_path / "cut", *more))


def test_mmbench_of_another_layout_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"it has one \.tsv file, not none"):
        mmbench.load(tmp_path)
    with pytest.raises(DataError, match="lacks the columns answer; its test split has no answers"):
        mmbench.load(mmbench_file(tmp_path / "test", row(1, "A"), without="answer"))
    with pytest.raises(DataError, match="index 1: the answer 'D' is none of A, B"):
        mmbench.load(mmbench_file(tmp_path / "d", row(1, "D")))
    with pytest.raises(DataError, match="two items have the same id"):
        mmbench.load(mmbench_file(tmp_path / "twice", row(1, "A"), row(1, "A")))


# GQA


def test_gqa_by_hand(tmp_path: Path):
    def ask(answer: str, kind: str) -> dict[str, object]:
        return {
            "question": "Is it?",
            "answer": answer,
            "imageId": "n7",
            "types": {"structural": kind},
        }

    questions = {"1": ask("yes", "verify"), "2": ask("dog", "query"), "3": ask("left", "query")}
    write(tmp_path / "testdev_balanced_questions.json", questions)
    items = gqa.load(tmp_path, partial=True)
    assert (items[0].image, items[0].group) == ("n7.jpg", "verify")
    assert items[0].text == "Is it?\nAnswer the question using a single word or phrase."
    found = gqa.score(items, {"1": "Yes.", "2": "a dog", "3": "left"})
    assert found.overall.value == pytest.approx(2 / 3)
    assert found.details == {"open": 0.5, "binary": 1.0}
    with pytest.raises(DataError, match="has 12,578 items, this directory 3"):
        gqa.load(tmp_path)
    with pytest.raises(DataError, match="is no GQA directory"):
        gqa.load(tmp_path / "nowhere")


# POPE as one


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


def test_all_are_offered_by_name():
    names = {"geneval", "pope", "mmmu", "mmbench", "seed", "seed-letters", "gqa", "vqav2"}
    assert names <= BENCHMARKS.keys()
    assert all(BENCHMARKS[n].notes for n in ("mmmu", "mmbench", "seed", "gqa", "vqav2"))
    for name in ("dsg", "dpg"):
        assert "in the place of the authors' VQA model" in " ".join(BENCHMARKS[name].notes)
    assert BENCHMARKS["geneval"].pictures == 4 and BENCHMARKS["geneval"].detected


@pytest.mark.parametrize("content", ["[]", "{}", "3", '"x"', "[1]", '{"a": 1}', "null", "", "{"])
@pytest.mark.parametrize(
    "name",
    [
        "geneval", "dpg", "gedit", "imgedit", "wise", "pope", "mme", "seed", "gqa", "vqav2"
    ],
)  # fmt: skip
def test_files_of_another_shape_are_one_clear_line(name: str, content: str, tmp_path: Path):
    files = (
        "evaluation_metadata.jsonl", "prompts.jsonl", "gedit_edit.json", "basic_edit.json",
        "legacy/cultural_common_sense.json", "legacy/spatio-temporal_reasoning.json",
        "legacy/natural_science.json", "coco/coco_pope_random.json", "mme_questions.jsonl",
        "SEED-Bench.json", "testdev_balanced_questions.json", vqav2.QUESTIONS, vqav2.ANNOTATIONS,
    )  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    with pytest.raises(DataError) as error:
        BENCHMARKS[name].load(tmp_path)
    assert "\n" not in str(error.value)
