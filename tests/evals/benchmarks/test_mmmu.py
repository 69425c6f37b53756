"""MMMU: tiny files in its authors' layout, with scores worked out by hand."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from arm.errors import DataError
from arm.evals.benchmarks import mmmu


def png(color: tuple[int, int, int], side: int = 2) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


def mmmu_files(root: Path, **changes: str) -> Path:
    """Two subjects of two questions; of the first the second picture is of four pixels of its number, and
    shown before the first and in an option too; of the other no picture is named.
    """
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number, subject in enumerate(("Art_Theory", "Math")):
        first, second = ({"bytes": png((n, number, 0)), "path": f"{n}.png"} for n in (1, 2))
        rows = [
            {
                "id": f"validation_{subject}_1", "question": "<image 2> as <image 1>. Which?",
                "options": "['a red fox', 'as <image 2>']", "answer": "B",
                "question_type": "multiple-choice", "image_1": first, "image_2": second,
            },
            {
                "id": f"validation_{subject}_2", "question": "How many?", "options": "[]",
                "answer": "['4', 'four']", "question_type": "open", "image_1": first,
                "image_2": None,
            },
        ]  # fmt: skip
        rows = [{changes.get(k, k): v for k, v in row.items()} for row in rows]
        (root / subject).mkdir(parents=True)
        parquet.write_table(
            pa.Table.from_pylist(rows), root / subject / "validation-00000-of-00001.parquet"
        )
    return root


def test_mmmu_by_hand(tmp_path: Path):
    root = mmmu_files(tmp_path / "mmmu")
    items = mmmu.load(root, partial=True)
    assert [i.id for i in items][:2] == ["validation_Art_Theory_1", "validation_Art_Theory_2"]
    assert {i.group for i in items} == {"Art_Theory", "Math"}
    assert items[0].text == (
        "<image 2> as <image 1>. Which?\n\n(A) a red fox\n(B) as <image 2>\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert items[0].images == {
        "<image 2>": "validation_Art_Theory_1_2.png", "<image 1>": "validation_Art_Theory_1_1.png",
    }  # fmt: skip
    assert items[0].image == "validation_Art_Theory_1_2.png"
    # One that names no picture is asked about its first.
    assert (items[1].image, items[1].images) == ("validation_Art_Theory_2_1.png", {})
    assert items[1].data == {"options": {}, "answer": ["4", "four"]}
    answers = {
        "validation_Art_Theory_1": "The answer is (B).",
        "validation_Art_Theory_2": "so there are 4.0 of them",
        "validation_Math_1": "who knows",
        "validation_Math_2": None,
    }
    found = mmmu.score(items, answers)
    # Right, right, unreadable and therefore wrong, missing: two of three.
    assert found.overall.value == pytest.approx(2 / 3)
    assert (found.missing, found.total, found.details) == (1, 4, {"unreadable": 1.0})
    assert found.groups["Math"].value == 0.0
    # The authors' answer file counts where it lies beside the questions.
    truth = {"question_type": "multiple-choice", "ground_truth": "A"}
    open_truth = {"question_type": "short-answer", "ground_truth": "5"}
    told = {i.id: truth if i.data["options"] else open_truth for i in items}
    (root / mmmu.ANSWERS).write_text(json.dumps(told))
    assert [i.data["answer"] for i in mmmu.load(root, partial=True)] == ["A", "5", "A", "5"]
    del told["validation_Math_1"]
    (root / mmmu.ANSWERS).write_text(json.dumps(told))
    with pytest.raises(DataError, match="no answer to validation_Math_1"):
        mmmu.load(root, partial=True)


def test_mmmu_unpacks_all_pictures_that_are_shown(tmp_path: Path):
    root, folder = mmmu_files(tmp_path / "mmmu"), tmp_path / "sources"
    items = mmmu.load(root, partial=True)
    mmmu.unpack(root, items[2:], folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "validation_Math_1_1.png", "validation_Math_1_2.png", "validation_Math_2_1.png"
    ]  # fmt: skip
    with Image.open(folder / items[2].images["<image 2>"]) as picture:
        assert picture.getpixel((0, 0)) == (2, 1, 0)
    # One that is not the table's any more is written anew.
    (folder / "validation_Math_1_2.png").write_bytes(png((9, 9, 9)))
    mmmu.unpack(root, items[2:], folder)
    assert (folder / "validation_Math_1_2.png").read_bytes() == png((2, 1, 0))


def test_mmmu_of_another_layout_is_named(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"does not hold MMMU: expected \*/validation-\*\.parquet or "
    ):
        mmmu.load(tmp_path)
    root = mmmu_files(tmp_path / "other", options="choices")
    with pytest.raises(DataError, match="lacks the columns options"):
        mmmu.load(root, partial=True)
    (root / "Math/validation-00000-of-00001.parquet").write_bytes(b"PAR")
    (root / "Art_Theory/validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="is no whole Parquet file"):
        mmmu.load(root, partial=True)
    with pytest.raises(DataError, match="MMMU \\(validation\\) has 900 items, this folder has 4"):
        mmmu.load(mmmu_files(tmp_path / "cut"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("(A) or rather (B)", "B"), ("A B", "B"), ("B", "B"), ("B.", "B"), ("b", None),
        ("I would say it is a red fox there", "A"), ("a red fox", None), ("", None),
    ],
)  # fmt: skip
def test_mmmu_reads_choices_as_its_authors_do(answer: str, expected: str | None):
    assert mmmu.read_choice(answer, {"A": "a red fox", "B": "a blue fox"}) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("The result is 1,250", "1250", True), ("x = 0.5", "0.50", True), ("0.504", "0.5", True),
        ("It is MgS", ["$MgS$", "MgS"], True), ("a transformation", "Transformation", True),
        ("C", "C", True), ("cat", "C", False), ("the answer is vitamin c now", "C", True), ("42", "4", False),
        ("2e3 m", "2000", True),
    ],
)  # fmt: skip
def test_mmmu_reads_open_answers_as_its_authors_do(
    answer: str, truth: str | list[str], right: bool
):
    # A lone letter is sought with a space beside it, so that it is not found inside a word.
    assert mmmu.agrees(answer, truth) is right
