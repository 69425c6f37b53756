"""Open questions with short answers: VQAv2 (arXiv 1612.00837) and GQA (arXiv 1902.09506).

VQAv2 compares an answer with those of ten people. The validation split is scored here; the right
answers to the test splits, which most papers report, are known to the authors' server alone, so for
these a file for the server is written. GQA: the balanced testdev questions, by exact match.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Benchmark,
    Item,
    Result,
    Submission,
    checked_items,
    mean_of_items,
)
from arm.evals.benchmarks.choices import SHORT_NOTE, short_prompt
from arm.evals.benchmarks.files import find_file, read_json_object, require, require_list

COUNT = 214_354
QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
TESTS = {"test-dev2015": 107_394, "test2015": 447_793}
"""Published numbers of questions of the test splits; test-dev is a part of the other."""
SERVER = "https://eval.ai/web/challenges/challenge-page/830"
NOTE = "validation split; most papers report test-dev, whose answers are not public"
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = {"a", "an", "the"}
CONTRACTED = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've
hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't
shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd
something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're
they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've
who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
y'all'd've you'd you'd've you'll you're you've""".split()
CONTRACTIONS = {
    word[: mark.start()] + word[mark.end() :]: word
    for word in CONTRACTED
    for mark in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}  # as the authors' table has it
"""Words that lack one apostrophe -> the same words with all of them."""


def question_files(split: str) -> tuple[str, ...]:
    """Where a split's questions may lie: in the user's folder, or as the authors' VQA repository has it."""
    name = f"v2_OpenEnded_mscoco_{split}_questions.json"
    return name, f"Questions/{name}"


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The validation questions where they are present, else those of test-dev, else of the whole test."""

    def present(split: str) -> bool:
        return any((directory / name).is_file() for name in question_files(split))

    for split in () if present("val2014") else TESTS:
        if present(split):
            return load_test(directory, split, partial)
    return load_validation(directory, partial)


def load_test(directory: Path, split: str, partial: bool = False) -> list[Item]:
    """The questions of a test split, without answers; the split is their group. Raises DataError."""
    name = f"VQAv2 ({split})"
    path = find_file(directory, question_files(split), name)
    items = []
    for number, entry in numbered_questions(path).items():
        where = f"{path}, question {number}"
        # Both splits ask about the pictures of the whole test.
        image = f"COCO_test2015_{int(require(entry, 'image_id', where)):012d}.jpg"
        text = short_prompt(require(entry, "question", where))
        items.append(Item(number, text, split, image))
    return checked_items(items, TESTS[split], name, partial)


def load_validation(directory: Path, partial: bool = False) -> list[Item]:
    """The validation questions with their ten answers; a group is a type of answer."""
    name = "VQAv2 (val2014)"
    asked_in = find_file(directory, question_files("val2014"), name)
    answered_in = find_file(directory, (ANNOTATIONS, f"Annotations/{ANNOTATIONS}"), name)
    questions = by_question(asked_in, "questions")
    annotations = by_question(answered_in, "annotations")
    items = []
    for number, entry in questions.items():
        if number not in annotations:
            raise DataError(f"{answered_in} has no answers to question {number} of {asked_in.name}")
        where = f"{answered_in}, question {number}"
        known = annotations[number]
        answers = require_list(require(known, "answers", where), f"{where}, 'answers'")
        people = [str(require(one, "answer", where)) for one in answers]
        image = f"COCO_val2014_{int(require(entry, 'image_id', where)):012d}.jpg"
        text = short_prompt(require(entry, "question", where))
        group = require(known, "answer_type", where)
        items.append(Item(number, text, group, image, {"answers": people}))
    return checked_items(items, COUNT, name, partial)


def numbered_questions(path: Path) -> dict[str, Mapping[str, Any]]:
    """A file's questions by their question_id. Raises DataError for one that is not a whole number."""
    questions = by_question(path, "questions")
    for name in questions:
        if not name.isdecimal():
            raise DataError(f"{path}: the question_id '{name}' is not a whole number")
    return questions


def by_question(path: Path, key: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a file's list by their question_id."""
    entries = require_list(require(read_json_object(path), key, str(path)), f"{path}, '{key}'")
    return {
        str(require(entry, "question_id", f"{path}, entry {n}")): entry
        for n, entry in enumerate(entries)
    }


def without_punctuation(text: str) -> str:
    """The text without punctuation, by the authors' rules.

    A mark beside a space is removed, as is every mark of a text with a number like 1,000; any other
    mark becomes a space. Full stops are removed unless a digit follows.
    """
    has_thousands = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        alone = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if alone or has_thousands else " ")
    return re.sub(r"\.(?!\d)", "", cleaned)


def normalised(answer: str) -> str:
    """Lower case, numbers as digits, no articles, no punctuation, apostrophes restored."""
    text = without_punctuation(answer.replace("\n", " ").replace("\t", " ").strip())
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def agreement(answer: str, people: Sequence[str]) -> float:
    """min(1, matches among nine people / 3), averaged over the ten ways to leave one person out.

    As in the authors' script, people's answers lose their punctuation only where they differ.
    """
    given = normalised(answer)
    known = [without_punctuation(p) for p in people] if len(set(people)) > 1 else list(people)
    same = [person == given for person in known]
    return sum(min(1.0, (sum(same) - one) / 3) for one in same) / len(same)


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """The mean agreement over all questions, and by type of answer: yes/no, number, other."""
    values: dict[str, float | None] = {
        item.id: None if answer is None else agreement(answer, item.data["answers"])
        for item in items
        for answer in [answers.get(item.id)]
    }
    return mean_of_items(items, values)


def submission(
    directory: Path, items: Sequence[Item], answers: Mapping[str, str]
) -> Submission | None:
    """The answers to a test split in the server's form; None for the validation split.

    Also for test-dev the server wants an entry for each question of the whole test: those entries are
    empty, and are added where the file with the whole test's questions is present.
    """
    split = items[0].group if items else ""
    if split not in TESTS:
        return None
    names = [item.id for item in items]
    lacking = sum(name not in answers for name in names)
    files = question_files("test2015")
    rest = next((directory / name for name in files if (directory / name).is_file()), None)
    if rest is not None:
        own = set(names)
        names += [name for name in numbered_questions(rest) if name not in own]
    entries = [
        {"question_id": int(name), "answer": answers.get(name, "").strip()} for name in names
    ]
    phase = {"test-dev2015": "test-dev", "test2015": "test-standard"}[split]
    if len(items) < TESTS[split]:
        advice = f"a trial of {len(items):,} of {TESTS[split]:,} questions; do not submit it"
    elif len(entries) < TESTS["test2015"]:
        advice = (
            f"the server wants all questions of test2015: put {files[0]} into {directory} and run "
            "this again; nothing is asked twice"
        )
    else:
        advice = f"submit it to the phase {phase} at {SERVER}, which scores it"
    if lacking:
        advice += f"; {lacking:,} questions have no answer and an empty entry"
    return Submission(entries, advice)


GQA_COUNT = 12_578
GQA_QUESTIONS = "testdev_balanced_questions.json"
GQA_FILES = (GQA_QUESTIONS, f"questions1.2/{GQA_QUESTIONS}", f"questions/{GQA_QUESTIONS}")


def load_gqa(directory: Path, partial: bool = False) -> list[Item]:
    """GQA's balanced testdev questions; a group is the structure of a question. Raises DataError."""
    path = find_file(directory, GQA_FILES, "GQA")
    items = []
    for name, entry in read_json_object(path).items():
        where = f"{path}, '{name}'"
        group = require(require(entry, "types", where), "structural", where)
        text = short_prompt(require(entry, "question", where))
        answer = {"answer": require(entry, "answer", where)}
        items.append(Item(name, text, group, f"{require(entry, 'imageId', where)}.jpg", answer))
    return checked_items(items, GQA_COUNT, "GQA (testdev, balanced)", partial)


def score_gqa(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """The share of exact matches in lower case without a final full stop.

    `details` has the shares of open and of binary questions.
    """
    values: dict[str, float | None] = {}
    kinds: dict[str, list[float]] = {"open": [], "binary": []}
    for item in items:
        answer = answers.get(item.id)
        if answer is not None:
            right = float(answer.strip().rstrip(".").lower() == item.data["answer"])
            values[item.id] = right
            kinds["open" if item.group == "query" else "binary"].append(right)
    details = {name: sum(right) / len(right) for name, right in kinds.items() if right}
    return mean_of_items(items, values, details)


VQA_FOLDERS = tuple(
    f"{parent}{split}"
    for parent in ("", "Images/mscoco/", "Images/")
    for split in ("val2014", "test2015")
)
BENCHMARKS = (
    Benchmark(
        "gqa",
        "questions",
        load_gqa,
        score_gqa,
        image_folders=("images",),
        notes=(SHORT_NOTE,),
    ),
    *(
        Benchmark(
            name,
            "questions",
            reader,
            score,
            image_folders=VQA_FOLDERS,
            submission=submission,
            notes=(SHORT_NOTE, NOTE),
        )
        for name, reader in (
            ("vqav2", load),
            ("vqav2-test-dev", lambda directory: load_test(directory, "test-dev2015")),
            ("vqav2-test", lambda directory: load_test(directory, "test2015")),
        )
    ),
)
