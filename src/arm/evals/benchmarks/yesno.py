"""POPE (arXiv 2305.10355) and MME (arXiv 2306.13394): questions with yes or no for an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    json_lines,
    need,
    need_count,
    need_file,
    need_text,
    result,
)

POPE_SPLITS = ("random", "popular", "adversarial")
POPE_COUNTS = {"random": (2910, 3000), "popular": (3000,), "adversarial": (3000,)}
"""Published counts; two versions of the random split are about."""
MME_COUNT = 2374
PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark",
    "artwork", "OCR",
)  # fmt: skip


def _label(line: Mapping[str, Any], key: str, where: str) -> str:
    """yes or no. Raises DataError for another answer, which nothing that is said could be right by."""
    answer = need_text(line, key, where).lower()
    if answer not in ("yes", "no"):
        raise DataError(f"{where}: the {key} '{answer}' is neither yes nor no")
    return answer


def load_pope(directory: Path, split: str, partial: bool = False) -> list[Item]:
    """A split of POPE on COCO: `coco/coco_pope_SPLIT.json`, a JSON object a line."""
    path = need_file(directory, f"coco/coco_pope_{split}.json", "POPE")
    items = [
        Item(
            str(need(line, "question_id", f"{path}:{n}")),
            need(line, "text", f"{path}:{n}"),
            split,
            need(line, "image", f"{path}:{n}"),
            {"answer": _label(line, "label", f"{path}:{n}")},
        )
        for n, line in json_lines(path)
    ]
    counts = POPE_COUNTS[split]
    count = len(items) if len(items) in counts else counts[-1]
    return need_count(items, count, f"POPE ({split})", partial)


def load_pope_splits(directory: Path, partial: bool = False) -> list[Item]:
    """All three splits; an id is "SPLIT/question_id"."""
    return [
        replace(item, id=f"{split}/{item.id}")
        for split in POPE_SPLITS
        for item in load_pope(directory, split, partial)
    ]


def load_mme(directory: Path, partial: bool = False) -> list[Item]:
    """`mme_questions.jsonl`: two questions about each picture."""
    path = need_file(directory, "mme_questions.jsonl", "MME")
    items = []
    for n, line in json_lines(path):
        task, image, text = (
            need_text(line, key, f"{path}:{n}") for key in ("task", "image", "question")
        )
        answer = {"answer": _label(line, "answer", f"{path}:{n}")}
        items.append(Item(str(len(items)), text, task, f"{task}/{image}", answer))
    return need_count(items, MME_COUNT, "MME", partial)


def read_pope(answer: str) -> str:
    """POPE's reading: the first sentence without commas; a word No, not or no means no, else yes."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def score_pope(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy with its interval; `details` has precision, recall, F1 of yes and the share of yes.

    POPE reads everything as yes or no; an answer that is missing is None and leaves the score.
    """
    said = {i.id: read_pope(a) for i in items if (a := answers.get(i.id)) is not None}
    pairs = [(i.data["answer"] == "yes", said[i.id] == "yes") for i in items if i.id in said]
    hits = sum(t and s for t, s in pairs)
    yes_said, yes_true = sum(s for _, s in pairs), sum(t for t, _ in pairs)
    precision, recall = hits / max(1, yes_said), hits / max(1, yes_true)
    details = {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "yes_share": yes_said / max(1, len(pairs)),
    }
    right = {i.id: float(said[i.id] == i.data["answer"]) for i in items if i.id in said}
    return result(items, right, details=details)


def score_pope_splits(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy of each split and their mean; `details` has precision, recall, F1 and the share of yes,
    each as its mean over the splits, and of each split.
    """
    details: dict[str, float] = {}
    splits = {s: [i for i in items if i.group == s] for s in POPE_SPLITS}
    told = {
        split: score_pope(found, answers).details
        for split, found in splits.items()
        if any(answers.get(i.id) is not None for i in found)
    }
    for name in ("precision", "recall", "f1", "yes_share"):
        each = {f"{split} {name}": found[name] for split, found in told.items()}
        if each:
            details |= {name: sum(each.values()) / len(each), **each}
    right = {
        i.id: float(read_pope(a) == i.data["answer"])
        for i in items
        if (a := answers.get(i.id)) is not None
    }
    return result(items, right, details=details)


def read_mme(answer: str) -> str | None:
    """MME's reading: yes or no among the first four characters; None for anything else, which is wrong."""
    start = answer.strip().lower()[:4]
    return next((word for word in ("yes", "no") if word in start), None)


def score_mme(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy % + accuracy-plus % of each subtask (0 to 200); `details` has the sums of perception
    (2,000 at most) and cognition (800), as published, where all their subtasks have a score, and counts
    unreadable answers. `overall` is the mean of the subtasks. A picture has one score, which
    its questions share.
    """
    keys = {item.id: f"{item.group}/{item.image}" for item in items}
    pairs: dict[str, Item] = {}
    pictures: dict[str, list[bool | None]] = {}
    unreadable = 0
    for item in items:
        said, key = answers.get(item.id), keys[item.id]
        read = None if said is None else read_mme(said)
        unreadable += said is not None and read is None
        right = None if said is None else read == item.data["answer"]
        pairs.setdefault(key, Item(key, "", item.group))
        pictures.setdefault(key, []).append(right)
    values: dict[str, float | None] = {}
    for key, told in pictures.items():
        known = [t for t in told if t is not None]
        complete = len(known) == len(told)
        values[key] = 100 * (sum(known) / len(known) + all(known)) if complete else None
    found = result(list(pairs.values()), values)
    details = {"unreadable": float(unreadable)}
    subtasks = {pair.group for pair in pairs.values()}
    for kind, names in (
        ("perception", subtasks & set(PERCEPTION)),
        ("cognition", subtasks - set(PERCEPTION)),
    ):
        # A sum without one of its parts would count that part as zero.
        if names and names <= found.groups.keys():
            details[kind] = sum(found.groups[name].value for name in sorted(names))
    return replace(found, details=details, keys=keys)
