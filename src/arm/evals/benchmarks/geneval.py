"""GenEval (arXiv 2310.11513): 553 prompts of six tags, checked by an object detector.

Four pictures a prompt; the score is the unweighted mean of the six tags' image accuracies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    json_lines,
    need,
    need_count,
    need_file,
    need_list,
    need_text,
    result,
)

COUNT = 553
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
MIN_SCORE, MIN_SCORE_COUNTING = 0.3, 0.9
"""Detections of GenEval's own detector below this are dropped; the counting tag is stricter."""
MAX_OBJECTS = 16
POSITION_THRESHOLD = 0.1
"""Share of the two objects' sizes by which they must be apart."""


@dataclass(frozen=True)
class Detection:
    """An object in a picture: class name, box (x0, y0, x1, y1) in pixels, confidence, colour."""

    name: str
    box: tuple[float, float, float, float]
    score: float
    color: str | None = None


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The items of `evaluation_metadata.jsonl`; an id is the number of its line from 0, as the
    authors' folders of pictures are named ("00012"). Raises DataError.
    """
    path = need_file(directory, "evaluation_metadata.jsonl", "GenEval")
    items = []
    for number, line in json_lines(path):
        where = f"{path}:{number}"
        tag = need(line, "tag", where)
        if tag not in TAGS:
            raise DataError(f"{where}: '{tag}' is none of {', '.join(TAGS)}")
        _check_wanted(line, where)
        items.append(Item(f"{len(items):05d}", need(line, "prompt", where), tag, data=line))
    return need_count(items, COUNT, "GenEval", partial)


def _check_wanted(line: Mapping[str, Any], where: str) -> None:
    """Raises DataError where what a picture should show is not said as `check` reads it."""
    wanted = need_list(need(line, "include", where), f"{where}, 'include'")
    unwanted = need_list(line.get("exclude", []), f"{where}, 'exclude'")
    for n, one in enumerate([*wanted, *unwanted]):
        need_text(one, "class", where)
        position = one.get("position")
        known = isinstance(position, list) and len(position) == 2 and position[1] in range(n)
        if type(need(one, "count", where)) is not int or not (known or "position" not in one):
            raise DataError(f"{where}: what it asks of '{one['class']}' cannot be read")


def relations(a: Detection, b: Detection) -> set[str]:
    """How a stands to b: none, one or two of left of, right of, above, below.

    The offset of the centres, less a tenth of both sizes along each axis; a direction counts where
    what is left along it is more than half of the whole offset's length.
    """
    first, second = np.reshape(a.box, (2, 2)), np.reshape(b.box, (2, 2))
    offset = first.mean(0) - second.mean(0)
    slack = POSITION_THRESHOLD * (np.ptp(first, 0) + np.ptp(second, 0))
    left = np.maximum(np.abs(offset) - slack, 0) * np.sign(offset)
    if np.abs(left).max() < 1e-3:
        return set()
    right, down = left / np.linalg.norm(offset)
    found = {
        "left of": right < -0.5, "right of": right > 0.5, "above": down < -0.5, "below": down > 0.5
    }  # fmt: skip
    return {name for name, holds in found.items() if holds}


def classes(item: Item) -> tuple[list[str], list[str]]:
    """The classes that an item asks about, and those of them whose colour it asks for."""
    wanted = [*item.data["include"], *item.data.get("exclude", [])]
    names = dict.fromkeys(w["class"] for w in wanted)
    return list(names), list(dict.fromkeys(w["class"] for w in wanted if "color" in w))


def kept(
    item: Item, detections: Sequence[Detection], least: float, least_counting: float
) -> dict[str, list[Detection]]:
    """Detections that count, by class, the surest first, at most sixteen of each."""
    if item.group == "counting":
        least = least_counting
    found: dict[str, list[Detection]] = {}
    for detection in sorted(detections, key=lambda d: -d.score):
        same = found.setdefault(detection.name, [])
        if detection.score > least and len(same) < MAX_OBJECTS:
            same.append(detection)
    return found


def check(
    item: Item,
    detections: Sequence[Detection],
    least: float = MIN_SCORE,
    least_counting: float = MIN_SCORE_COUNTING,
) -> bool:
    """Whether a picture shows what the prompt asks, by the authors' rules.

    least, least_counting: the thresholds of a detector whose scores mean something else.
    """
    objects = kept(item, detections, least, least_counting)
    matched: list[list[Detection]] = []
    right = True
    for wanted in item.data["include"]:
        count = wanted["count"]
        found = objects.get(wanted["class"], [])[:count]
        ok = len(found) >= count
        if ok and "color" in wanted:
            ok = sum(d.color == wanted["color"] for d in found) >= count
        if ok and "position" in wanted:
            relation, target = wanted["position"]
            others = matched[target]
            ok = bool(others) and all(relation in relations(a, b) for a in found for b in others)
        right = right and ok
        matched.append(found if ok else [])
    too_many = any(
        len(objects.get(e["class"], [])) >= e["count"] for e in item.data.get("exclude", [])
    )
    return right and not too_many


def score(items: Sequence[Item], right: Mapping[str, Sequence[bool | None]]) -> Result:
    """The score from the checks of each prompt's pictures; None is a picture that has none.

    A tag's accuracy is over pictures; intervals redraw prompts. Missing verdicts are pictures, which
    `details` counts.
    """
    values: dict[str, float | None] = {}
    pictures = missing = 0
    for item in items:
        checks = right.get(item.id) or [None]
        told = [r for r in checks if r is not None]
        pictures, missing = pictures + len(checks), missing + len(checks) - len(told)
        values[item.id] = sum(told) / len(told) if told else None
    counts = {"pictures": float(pictures), "pictures_missing": float(missing)}
    return replace(result(items, values, details=counts), missing=missing, total=pictures)
