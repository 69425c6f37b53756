"""GenEval from detections to a score: each of the six tags by hand, and nothing looked at twice."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.errors import InputError
from arm.evals.benchmarks import geneval
from arm.evals.benchmarks.base import Item
from arm.evals.detect import Found
from arm.evals.detections import ColorNamer, Viewer, in_words, load_viewer, see


class Scripted:
    """A detector that finds what a picture's first pixel says."""

    name, least, least_counting, notes = "scripted", 0.3, 0.9, ("made up",)

    def __init__(self, scenes: Sequence[Sequence[Found]], key: str = "d") -> None:
        self.scenes, self.key, self.looks = scenes, key, 0

    def __call__(self, image: Image.Image, classes: Sequence[str]) -> list[Found]:
        self.looks += 1
        number = image.getpixel((0, 0))
        assert isinstance(number, tuple)
        return [found for found in self.scenes[int(number[0])] if found.name in classes]


class Reds(ColorNamer):
    """Cows are red and dogs blue, but in the scene where that is swapped."""

    def __init__(self) -> None:
        self.name, self.key, self.asked = "reds", "c", []

    def __call__(self, image: Image.Image, found: Sequence[Found]) -> list[str]:
        self.asked += [one.name for one in found]
        number = image.getpixel((0, 0))
        assert isinstance(number, tuple)
        red = "dog" if number[0] == SWAPPED else "cow"
        return ["red" if one.name == red else "blue" for one in found]


def at(name: str, x: float, score: float = 0.95) -> Found:
    return Found(name, score, (x - 10, 0, x + 10, 20))


def item(number: int, tag: str, *include: dict, exclude: Sequence[dict] = ()) -> Item:
    data = {"include": list(include), "exclude": list(exclude)}
    return Item(f"{number:05d}", tag, tag, data=data)


COW, DOG = {"class": "cow", "count": 1}, {"class": "dog", "count": 1}
SCENES = (
    [at("cow", 20)],
    [at("cow", 20), at("dog", 80)],
    [at("cow", 20), at("cow", 80)],
    [at("cow", 20), at("cow", 80, 0.5)],
    [],
    [at("cow", 20), at("dog", 80)],
)
"""A cow; a cow left of a dog; two cows; two cows, one unsure; nothing; a cow left of a dog, colours swapped."""
SWAPPED = 5
CASES = (
    (item(0, "single_object", COW), (True, True, True, True, False, True)),
    (item(1, "two_object", COW, DOG), (False, True, False, False, False, True)),
    (
        item(2, "counting", {"class": "cow", "count": 2}, exclude=[{"class": "cow", "count": 3}]),
        (False, False, True, False, False, False),
    ),
    (item(3, "colors", {**COW, "color": "red"}), (True, True, True, True, False, False)),
    (
        item(4, "position", COW, {**DOG, "position": ["right of", 0]}),
        (False, True, False, False, False, True),
    ),
    (
        item(5, "color_attr", {**COW, "color": "red"}, {**DOG, "color": "green"}),
        (False, False, False, False, False, False),
    ),
    (
        item(6, "color_attr", {**COW, "color": "red"}, {**DOG, "color": "blue"}),
        (False, True, False, False, False, False),
    ),
    (
        item(7, "color_attr", {**COW, "color": "blue"}, {**DOG, "color": "red"}),
        (False, False, False, False, False, True),
    ),
)


def write(folder: Path, items: Sequence[Item]) -> None:
    """Picture k of each item begins with a pixel that says which scene it is."""
    folder.mkdir(exist_ok=True)
    for one in items:
        for k in range(len(SCENES)):
            picture = np.zeros((20, 100, 3), dtype=np.uint8)
            picture[0, 0] = k, int(one.id), 0
            Image.fromarray(picture).save(folder / f"{one.id}_{k}.png")


def test_the_six_tags_by_hand(tmp_path: Path):
    items = [case[0] for case in CASES]
    write(tmp_path / "images", items)
    viewer = Viewer(Scripted(SCENES), Reds())
    right = see(viewer, items, 6, tmp_path / "images", tmp_path / "cache")
    assert right == {one.id: list(expected) for one, expected in CASES}
    found = geneval.score(items, right)
    # Of six pictures a prompt; three prompts share the last tag.
    assert {k: v.value for k, v in found.groups.items()} == pytest.approx({
        "single_object": 5 / 6, "two_object": 2 / 6, "counting": 1 / 6, "colors": 4 / 6,
        "position": 2 / 6, "color_attr": 2 / 18,
    })  # fmt: skip
    assert found.overall.value == pytest.approx((14 / 6 + 1 / 9) / 6)
    assert found.details == {"pictures": 48.0, "pictures_missing": 0.0}


def test_nothing_is_looked_at_twice(tmp_path: Path):
    items = [CASES[0][0], CASES[3][0]]
    write(tmp_path / "images", items)
    folder, cache = tmp_path / "images", tmp_path / "cache"
    detector, namer = Scripted(SCENES), Reds()
    viewer = Viewer(detector, namer)
    first = see(viewer, items, 5, folder, cache)
    assert detector.looks == 10
    assert (
        len(namer.asked) == 6
    )  # the cows of the item that asks for a colour, in its five pictures
    assert see(viewer, items, 5, folder, cache) == first and detector.looks == 10
    # A picture that changed, was lost or broke is told from the others; so is another detector.
    Image.fromarray(np.full((20, 100, 3), 1, dtype=np.uint8)).save(folder / "00000_0.png")
    (folder / "00000_1.png").unlink()
    (folder / "00000_2.png").write_bytes(b"no picture")
    again = see(viewer, items, 5, folder, cache)
    assert detector.looks == 11 and again["00000"] == [True, None, None, True, False]
    assert in_words(again)["00000"] == [["right"], [None], [None], ["right"], ["wrong"]]
    assert geneval.score(items, again).details["pictures_missing"] == 2.0
    other = Scripted(SCENES, key="other")
    see(Viewer(other, namer), items, 5, folder, cache)
    assert other.looks == 8


def test_a_kill_leaves_whole_files(tmp_path: Path):
    items = [CASES[1][0]]
    write(tmp_path / "images", items)
    detector = Scripted(SCENES[:2])  # the third picture's scene is none: it fails there
    with pytest.raises(IndexError):
        see(Viewer(detector, Reds()), items, 5, tmp_path / "images", tmp_path / "cache")
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 2 and all(json.loads(p.read_text()) for p in kept)
    whole = Scripted(SCENES)
    see(Viewer(whole, Reds()), items, 5, tmp_path / "images", tmp_path / "cache")
    assert whole.looks == 3
    # Half a file is none: that picture is looked at again, and the file is whole after it.
    for text in ("", "{", "[{}]", "5"):
        kept[0].write_text(text)
        found = see(Viewer(whole, Reds()), items, 5, tmp_path / "images", tmp_path / "cache")
        assert len(found["00001"]) == 5 and isinstance(json.loads(kept[0].read_text()), list)
    assert whole.looks == 3 + 4


def test_thresholds_are_the_detector_s(tmp_path: Path):
    counting = CASES[2][0]
    write(tmp_path / "images", [counting])
    detector = Scripted(SCENES)
    detector.least_counting = 0.4
    right = see(Viewer(detector, Reds()), [counting], 5, tmp_path / "images", tmp_path / "cache")
    assert right[counting.id] == [False, False, True, True, False]


def test_both_models_are_needed():
    with pytest.raises(InputError, match="name them with --detector and --clip"):
        load_viewer("x", None)
