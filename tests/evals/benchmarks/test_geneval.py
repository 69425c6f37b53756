"""GenEval: scores worked out by hand, on tiny files in the authors' format."""

import json
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import geneval
from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.geneval import Detection


def lines(path: Path, *objects: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(o) for o in objects) + "\n")
    return path.parent


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
    with pytest.raises(DataError, match="GenEval has 553 items, this folder has 3"):
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


def test_geneval_damage_is_one_line(tmp_path: Path):
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
