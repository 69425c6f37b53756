"""POPE (arXiv 2305.10355) and MME (arXiv 2306.13394): questions about pictures, answered by yes or no."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial as bind
from pathlib import Path
from typing import Any

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Benchmark,
    Item,
    Result,
    checked_items,
    mean_of_groups,
)
from arm.evals.benchmarks.files import (
    find_file,
    not_here,
    read_json_lines,
    require,
    require_text,
    text_of,
)

POPE_SPLITS = ("random", "popular", "adversarial")
POPE_FOLDERS = ("coco/", "output/coco/", "")
POPE_COUNTS = {"random": (2910, 3000), "popular": (3000,), "adversarial": (3000,)}
"""Published numbers of questions; the random split exists in two versions."""
MME_COUNT = 2374
MME_LINES = "mme_questions.jsonl"
"""All questions in one file: `task`, `image`, `question` and `answer` on each line."""
MME_FOLDERS = (
    "", "MME_Benchmark", "MME_Benchmark_release_version",
    "MME_Benchmark_release_version/MME_Benchmark",
)  # fmt: skip
"""Where the authors' folders of subtasks may lie."""
PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark",
    "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def _label(line: Mapping[str, Any], key: str, where: str) -> str:
    """yes or no. Raises DataError for any other right answer."""
    answer = require_text(line, key, where).strip().lower()
    if answer not in ("yes", "no"):
        raise DataError(f"{where}: the {key} '{answer}' is neither yes nor no")
    return answer


def load_pope(directory: Path, split: str, partial: bool = False) -> list[Item]:
    """A split of POPE on COCO: `coco_pope_SPLIT.json`, a JSON object on each line."""
    names = [f"{folder}coco_pope_{split}.json" for folder in POPE_FOLDERS]
    path = find_file(directory, names, "POPE")
    items = [
        Item(
            str(require(line, "question_id", f"{path}:{n}")),
            require(line, "text", f"{path}:{n}"),
            split,
            require(line, "image", f"{path}:{n}"),
            {"answer": _label(line, "label", f"{path}:{n}")},
        )
        for n, line in read_json_lines(path)
    ]
    return checked_items(items, POPE_COUNTS[split], f"POPE ({split})", partial)


def load_pope_splits(directory: Path, partial: bool = False) -> list[Item]:
    """All three splits; an id is "SPLIT/question_id"."""
    return [
        replace(item, id=f"{split}/{item.id}")
        for split in POPE_SPLITS
        for item in load_pope(directory, split, partial)
    ]


def load_mme(directory: Path, partial: bool = False) -> list[Item]:
    """MME's questions, two about each picture, from the authors' folders or from one JSON Lines file.

    Raises DataError.
    """
    path = directory / MME_LINES
    questions = _mme_lines(path) if path.is_file() else _mme_folders(directory)
    items = [
        Item(str(n), text, task, image, {"answer": answer})
        for n, (task, image, text, answer) in enumerate(questions)
    ]
    return checked_items(items, MME_COUNT, "MME", partial)


def _mme_lines(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Subtask, picture, question and answer of each line."""
    for n, line in read_json_lines(path):
        task, image, text = (
            require_text(line, key, f"{path}:{n}") for key in ("task", "image", "question")
        )
        yield task, f"{task}/{image}", text, _label(line, "answer", f"{path}:{n}")


def _mme_folders(directory: Path) -> Iterator[tuple[str, str, str, str]]:
    """The same from the authors' release: a folder for each subtask, a text file for each picture.

    The text file has two lines of question, tab, answer. It lies beside its picture, or in
    SUBTASK/questions_answers_YN where the pictures lie in SUBTASK/images.
    """
    roots = [directory / folder for folder in MME_FOLDERS]
    root = next((r for r in roots if (r / PERCEPTION[0]).is_dir()), None)
    if root is None:
        folders = [f"{folder}/{PERCEPTION[0]}".lstrip("/") for folder in MME_FOLDERS]
        raise not_here(directory, (*(f"{f}/*.txt" for f in folders), MME_LINES), "MME")
    for task in sorted((*PERCEPTION, *COGNITION)):
        texts, images = root / task / "questions_answers_YN", root / task / "images"
        if not texts.is_dir():
            texts, images = root / task, root / task
        files = sorted(f for f in texts.glob("*.txt") if not f.name.startswith("."))
        if not files:
            raise DataError(f"{texts} has no .txt files: the subtask {task} of MME is missing")
        for file in files:
            image = _picture_named(images, file.stem).relative_to(directory).as_posix()
            lines = [line for line in text_of(file).split("\n") if line.strip()]
            for n, line in enumerate(lines, 1):
                question, tab, answer = line.rpartition("\t")
                where = f"{file}:{n}"
                if not tab:
                    raise DataError(f"{where}: expected a question, a tab, and yes or no")
                yield task, image, question.strip(), _label({"answer": answer}, "answer", where)


def _picture_named(folder: Path, stem: str) -> Path:
    """The picture of a question file; with .jpg where it is not there."""
    names = (folder / f"{stem}{suffix}" for suffix in (".jpg", ".png", ".jpeg"))
    return next((name for name in names if name.is_file()), folder / f"{stem}.jpg")


def read_pope(answer: str) -> str:
    """POPE's reading: no where the first sentence, without commas, has a word No, not or no; else yes."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def score_pope(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy with its interval; `details` has precision, recall, F1 of yes and the share of yes.

    POPE reads every answer as yes or no; only an answer that is None is missing.
    """
    read = {i.id: read_pope(a) for i in items if (a := answers.get(i.id)) is not None}
    pairs = [(i.data["answer"] == "yes", read[i.id] == "yes") for i in items if i.id in read]
    hits = sum(true and given for true, given in pairs)
    yes_given, yes_true = sum(given for _, given in pairs), sum(true for true, _ in pairs)
    precision, recall = hits / max(1, yes_given), hits / max(1, yes_true)
    details = {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "yes_share": yes_given / max(1, len(pairs)),
    }
    right = {i.id: float(read[i.id] == i.data["answer"]) for i in items if i.id in read}
    return mean_of_groups(items, right, details=details)


def score_pope_splits(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy of each split and their mean.

    `details` has precision, recall, F1 and the share of yes: their means over the splits, and those
    of each split.
    """
    details: dict[str, float] = {}
    splits = {s: [i for i in items if i.group == s] for s in POPE_SPLITS}
    by_split = {
        split: score_pope(members, answers).details
        for split, members in splits.items()
        if any(answers.get(i.id) is not None for i in members)
    }
    for name in ("precision", "recall", "f1", "yes_share"):
        each = {f"{split} {name}": scores[name] for split, scores in by_split.items()}
        if each:
            details |= {name: sum(each.values()) / len(each), **each}
    right = {
        i.id: float(read_pope(a) == i.data["answer"])
        for i in items
        if (a := answers.get(i.id)) is not None
    }
    return mean_of_groups(items, right, details=details)


def read_mme(answer: str) -> str | None:
    """MME's reading: yes or no within the first four characters; None for anything else, which is wrong."""
    start = answer.strip().lower()[:4]
    return next((word for word in ("yes", "no") if word in start), None)


def score_mme(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy % + accuracy-plus % of each subtask, 0 to 200; `overall` is their mean.

    Accuracy-plus is the share of pictures with both answers right. `details` has the published sums
    of perception (at most 2,000) and cognition (800) where all their subtasks have a score, and the
    number of unreadable answers. A picture has one score, which its questions share.
    """
    keys = {item.id: f"{item.group}/{item.image}" for item in items}
    pictures: dict[str, Item] = {}
    answered: dict[str, list[bool | None]] = {}
    unreadable = 0
    for item in items:
        answer, key = answers.get(item.id), keys[item.id]
        read = None if answer is None else read_mme(answer)
        unreadable += answer is not None and read is None
        right = None if answer is None else read == item.data["answer"]
        pictures.setdefault(key, Item(key, "", item.group))
        answered.setdefault(key, []).append(right)
    values: dict[str, float | None] = {}
    for key, checks in answered.items():
        known = [check for check in checks if check is not None]
        complete = len(known) == len(checks)
        values[key] = 100 * (sum(known) / len(known) + all(known)) if complete else None
    scored = mean_of_groups(list(pictures.values()), values)
    details = {"unreadable": float(unreadable)}
    subtasks = {picture.group for picture in pictures.values()}
    for kind, names in (
        ("perception", subtasks & set(PERCEPTION)),
        ("cognition", subtasks - set(PERCEPTION)),
    ):
        # A sum that lacks a subtask would count it as zero.
        if names and names <= scored.groups.keys():
            details[kind] = sum(scored.groups[name].value for name in sorted(names))
    return replace(scored, details=details, keys=keys)


COCO_FOLDERS = ("val2014", "coco/val2014")
BENCHMARKS = (
    Benchmark("pope", "questions", load_pope_splits, score_pope_splits, image_folders=COCO_FOLDERS),
    *(
        Benchmark(
            f"pope-{split}",
            "questions",
            bind(load_pope, split=split),
            score_pope,
            image_folders=COCO_FOLDERS,
        )
        for split in POPE_SPLITS
    ),
    Benchmark("mme", "questions", load_mme, score_mme, best=200.0),
)
