"""MMBench: scores worked out by hand, on tiny files in the authors' format."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from arm.errors import DataError
from arm.evals.benchmarks import mmbench
from arm.evals.benchmarks.base import Item


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
    with pytest.raises(DataError, match="question 6 has 1 of 2 rotations: the file is incomplete"):
        mmbench.load(mmbench_file(tmp_path / "cut", *more))


def test_mmbench_of_another_layout_is_named(tmp_path: Path):
    with pytest.raises(
        DataError,
        match=r"does not hold MMBench: expected MMBench_DEV_EN\.tsv or another \.tsv file in it",
    ):
        mmbench.load(tmp_path)
    with pytest.raises(DataError, match="lacks the columns answer; its test split has no answers"):
        mmbench.load(mmbench_file(tmp_path / "test", row(1, "A"), without="answer"))
    with pytest.raises(DataError, match="index 1: the answer 'D' is none of A, B"):
        mmbench.load(mmbench_file(tmp_path / "d", row(1, "D")))
    with pytest.raises(DataError, match="two items have the same id"):
        mmbench.load(mmbench_file(tmp_path / "twice", row(1, "A"), row(1, "A")))


OPTIONS = {"A": "a cow", "B": "z", "C": "zebras"}
ITEM = Item("1", "", "scene", data={"options": OPTIONS, "question": "what is it ?", "answer": "A",
                                    "ability": ""})  # fmt: skip


def test_only_what_the_rules_cannot_read_is_asked_about():
    assert mmbench.match_prompt(ITEM, "C") is None
    assert mmbench.match_prompt(ITEM, "it is a cow") is None
    prompt = mmbench.match_prompt(ITEM, "something that moos")
    assert prompt is not None and prompt.endswith(
        "Question: what is it ?\nOptions: A. a cow B. z C. zebras\nAnswer: something that moos\nLetter:"
    )


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"), ("(C)", "C"), ("Letter: A", "A"), ("a cow", "A"), ("Z", ""), ("Z.", ""),
        ("Z, as none of the options is meant", ""), ("A or Z", None), ("A or B", None), ("D", None),
        ("", None), ("I cannot tell", None),
    ],
)  # fmt: skip
def test_reading_the_language_model(reply: str, expected: str | None):
    """Z means none also where an option's text is a z."""
    assert mmbench.read_match(ITEM, reply) == expected


def test_an_answer_that_means_no_option_is_wrong_and_counted():
    found = mmbench.score([ITEM], {"1": mmbench.NO_OPTION})
    assert found.overall.value == 0.0 and found.missing == 0 and found.details["unreadable"] == 1.0
