"""GenEval (arXiv 2310.11513): 553 prompts with six tags, checked by an object detector.

Four pictures of each prompt; the score is the unweighted mean of the six tags' accuracies over pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arm.errors import DataError
from arm.evals.benchmarks.base import Benchmark, Item, Result, checked_items, mean_of_groups
from arm.evals.benchmarks.files import (
    find_file,
    read_json_lines,
    require,
    require_list,
    require_text,
)

COUNT = 553
FILES = ("evaluation_metadata.jsonl", "prompts/evaluation_metadata.jsonl")
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
MIN_SCORE, MIN_SCORE_COUNTING = 0.3, 0.9
"""Confidence that a detection by GenEval's own detector must exceed; the counting tag is stricter."""
MAX_OBJECTS = 16
POSITION_THRESHOLD = 0.1
"""The share of both objects' sizes by which two objects must be apart."""


@dataclass(frozen=True)
class Detection:
    """An object in a picture."""

    name: str
    """The class name."""
    box: tuple[float, float, float, float]
    """(x0, y0, x1, y1) in pixels."""
    score: float
    """The detector's confidence, in [0, 1]."""
    color: str | None = None


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The items of `evaluation_metadata.jsonl`. Raises DataError.

    An id is the number of its line from 0, as in the names of the authors' picture folders ("00012").
    """
    path = find_file(directory, FILES, "GenEval")
    items = []
    for number, line in read_json_lines(path):
        where = f"{path}:{number}"
        tag = require(line, "tag", where)
        if tag not in TAGS:
            raise DataError(f"{where}: the tag '{tag}' is none of {', '.join(TAGS)}")
        _check_objects(line, where)
        items.append(Item(f"{len(items):05d}", require(line, "prompt", where), tag, data=line))
    return checked_items(items, COUNT, "GenEval", partial)


def _check_objects(line: Mapping[str, Any], where: str) -> None:
    """Raises DataError where the description of what a picture should show is not of the form that
    `check` reads.
    """
    wanted = require_list(require(line, "include", where), f"{where}, 'include'")
    unwanted = require_list(line.get("exclude", []), f"{where}, 'exclude'")
    for n, one in enumerate([*wanted, *unwanted]):
        require_text(one, "class", where)
        position = one.get("position")
        known = isinstance(position, list) and len(position) == 2 and position[1] in range(n)
        if type(require(one, "count", where)) is not int or not (known or "position" not in one):
            raise DataError(f"{where}: the requirement for '{one['class']}' cannot be read")


def relations(a: Detection, b: Detection) -> set[str]:
    """The position of a relative to b: none, one or two of left of, right of, above, below.

    The offset between the centres is reduced along each axis by a tenth of both sizes; a direction
    counts where the reduced offset along it is more than half of the original offset's length.
    """
    first, second = np.reshape(a.box, (2, 2)), np.reshape(b.box, (2, 2))
    offset = first.mean(0) - second.mean(0)
    slack = POSITION_THRESHOLD * (np.ptp(first, 0) + np.ptp(second, 0))
    reduced = np.maximum(np.abs(offset) - slack, 0) * np.sign(offset)
    if np.abs(reduced).max() < 1e-3:
        return set()
    right, down = reduced / np.linalg.norm(offset)
    directions = {
        "left of": right < -0.5, "right of": right > 0.5, "above": down < -0.5, "below": down > 0.5
    }  # fmt: skip
    return {name for name, holds in directions.items() if holds}


def classes(item: Item) -> tuple[list[str], list[str]]:
    """The classes that an item mentions, and those of them whose colour it specifies."""
    wanted = [*item.data["include"], *item.data.get("exclude", [])]
    names = dict.fromkeys(w["class"] for w in wanted)
    return list(names), list(dict.fromkeys(w["class"] for w in wanted if "color" in w))


def confident(
    item: Item, detections: Sequence[Detection], least: float, least_counting: float
) -> dict[str, list[Detection]]:
    """Detections above the item's threshold by class, most confident first, at most sixteen each."""
    if item.group == "counting":
        least = least_counting
    by_class: dict[str, list[Detection]] = {}
    for detection in sorted(detections, key=lambda d: -d.score):
        same = by_class.setdefault(detection.name, [])
        if detection.score > least and len(same) < MAX_OBJECTS:
            same.append(detection)
    return by_class


def check(
    item: Item,
    detections: Sequence[Detection],
    least: float = MIN_SCORE,
    least_counting: float = MIN_SCORE_COUNTING,
) -> bool:
    """Whether a picture shows what the prompt asks for, by the authors' rules.

    least, least_counting: the thresholds, which depend on the detector.
    """
    objects = confident(item, detections, least, least_counting)
    matched: list[list[Detection]] = []
    right = True
    for wanted in item.data["include"]:
        count = wanted["count"]
        same = objects.get(wanted["class"], [])[:count]
        ok = len(same) >= count
        if ok and "color" in wanted:
            ok = sum(d.color == wanted["color"] for d in same) >= count
        if ok and "position" in wanted:
            relation, target = wanted["position"]
            others = matched[target]
            ok = bool(others) and all(relation in relations(a, b) for a in same for b in others)
        right = right and ok
        matched.append(same if ok else [])
    too_many = any(
        len(objects.get(e["class"], [])) >= e["count"] for e in item.data.get("exclude", [])
    )
    return right and not too_many


def score(items: Sequence[Item], right: Mapping[str, Sequence[bool | None]]) -> Result:
    """The score from whether each picture of each prompt is right; None where a picture is missing.

    A tag's accuracy is over pictures; intervals resample prompts. Verdicts are counted as pictures,
    whose numbers `details` has.
    """
    values: dict[str, float | None] = {}
    pictures = missing = 0
    for item in items:
        checks = right.get(item.id) or [None]
        known = [r for r in checks if r is not None]
        pictures, missing = pictures + len(checks), missing + len(checks) - len(known)
        values[item.id] = sum(known) / len(known) if known else None
    counts = {"pictures": float(pictures), "pictures_missing": float(missing)}
    scored = mean_of_groups(items, values, details=counts)
    return replace(scored, missing=missing, total=pictures)


BENCHMARKS = (Benchmark("geneval", "drawing", load, score, images_per_item=4, uses_detector=True),)
