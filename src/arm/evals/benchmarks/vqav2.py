"""VQAv2 (arXiv 1612.00837): open answers against those of ten people. Image folder: val2014 or test2015.

The validation split is scored here. The right answers to the test splits, of which papers mostly report,
are with the authors' server alone: for these a file is made that it takes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    HandIn,
    Item,
    Result,
    flat_result,
    json_object,
    need,
    need_count,
    need_file,
    need_list,
)
from arm.evals.benchmarks.choices import short_prompt

COUNT = 214_354
QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
TESTS = {"test-dev2015": 107_394, "test2015": 447_793}
"""Published counts of the test splits; test-dev is a part of the other."""
SERVER = "https://eval.ai/web/challenges/challenge-page/830"
NOTE = "validation split; papers' figures are mostly of test-dev, whose answers are not public"
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
"""Words with one apostrophe missing -> with all of them."""


def test_questions(split: str) -> str:
    return f"v2_OpenEnded_mscoco_{split}_questions.json"


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The validation questions where they are there, else those of test-dev, else of the whole test."""
    for split in () if (directory / QUESTIONS).is_file() else TESTS:
        if (directory / test_questions(split)).is_file():
            return load_test(directory, split, partial)
    return load_validation(directory, partial)


def load_test(directory: Path, split: str, partial: bool = False) -> list[Item]:
    """The questions of a test split, which stands for the group, without answers. Raises DataError."""
    name = f"VQAv2 ({split})"
    path = need_file(directory, test_questions(split), name)
    items = []
    for number, entry in numbered_questions(path).items():
        where = f"{path}, question {number}"
        # Both splits ask about the pictures of the whole test.
        image = f"COCO_test2015_{int(need(entry, 'image_id', where)):012d}.jpg"
        items.append(Item(number, short_prompt(need(entry, "question", where)), split, image))
    return need_count(items, TESTS[split], name, partial)


def load_validation(directory: Path, partial: bool = False) -> list[Item]:
    """The validation questions with their ten answers; a group is the kind of answer."""
    paths = [need_file(directory, name, "VQAv2 (val2014)") for name in (QUESTIONS, ANNOTATIONS)]
    questions, annotations = (
        by_question(path, key)
        for path, key in zip(paths, ("questions", "annotations"), strict=True)
    )
    items = []
    for name, entry in questions.items():
        if name not in annotations:
            raise DataError(f"{paths[1]} has no answers to question {name} of {paths[0].name}")
        where = f"{paths[1]}, question {name}"
        known = annotations[name]
        told = need_list(need(known, "answers", where), f"{where}, 'answers'")
        people = [str(need(one, "answer", where)) for one in told]
        image = f"COCO_val2014_{int(need(entry, 'image_id', where)):012d}.jpg"
        text = short_prompt(need(entry, "question", where))
        items.append(
            Item(name, text, need(known, "answer_type", where), image, {"answers": people})
        )
    return need_count(items, COUNT, "VQAv2 (val2014)", partial)


def numbered_questions(path: Path) -> dict[str, Mapping[str, Any]]:
    """A file's questions by their question_id. Raises DataError for one that is no whole number."""
    found = by_question(path, "questions")
    for name in found:
        if not name.isdecimal():
            raise DataError(f"{path}: the question_id '{name}' is no whole number")
    return found


def by_question(path: Path, key: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a file's list by their question_id."""
    found = need_list(need(json_object(path), key, str(path)), f"{path}, '{key}'")
    return {
        str(need(entry, "question_id", f"{path}, entry {n}")): entry
        for n, entry in enumerate(found)
    }


def without_punctuation(text: str) -> str:
    """A mark that touches a space, and every mark of a text with a number like 1,000, is taken out; any
    other becomes a space. Full stops go unless a digit follows.
    """
    joined = re.search(r"\d,\d", text) is not None
    found = text
    for mark in PUNCTUATION:
        alone = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if alone or joined else " ")
    return re.sub(r"\.(?!\d)", "", found)


def normalised(answer: str) -> str:
    """Lower case, numbers as digits, no articles, no punctuation, apostrophes put back."""
    text = without_punctuation(answer.replace("\n", " ").replace("\t", " ").strip())
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def agreement(answer: str, people: Sequence[str]) -> float:
    """min(1, how many of the other nine said it / 3), averaged over the ten left out in turn.

    As in the authors' script people's answers lose their punctuation where they differ, and no more.
    """
    said = normalised(answer)
    known = [without_punctuation(p) for p in people] if len(set(people)) > 1 else list(people)
    same = [person == said for person in known]
    return sum(min(1.0, (sum(same) - one) / 3) for one in same) / len(same)


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """The mean agreement over all questions, and for yes/no, numbers and others."""
    values: dict[str, float | None] = {
        item.id: None if said is None else agreement(said, item.data["answers"])
        for item in items
        for said in [answers.get(item.id)]
    }
    return flat_result(items, values)


def hand_in(directory: Path, items: Sequence[Item], answers: Mapping[str, str]) -> HandIn | None:
    """A test split's answers as the server takes them; None for the validation split.

    The server wants an answer to each question of the whole test, for test-dev too: the others' are empty
    where their file lies in the directory.
    """
    split = items[0].group if items else ""
    if split not in TESTS:
        return None
    names = [item.id for item in items]
    lacking = sum(name not in answers for name in names)
    rest = directory / test_questions("test2015")
    if rest.is_file():
        mine = set(names)
        names += [name for name in numbered_questions(rest) if name not in mine]
    entries = [
        {"question_id": int(name), "answer": answers.get(name, "").strip()} for name in names
    ]
    phase = {"test-dev2015": "test-dev", "test2015": "test-standard"}[split]
    if len(items) < TESTS[split]:
        advice = f"a trial of {len(items):,} of {TESTS[split]:,} questions, not to be handed in"
    elif len(entries) < TESTS["test2015"]:
        advice = (
            f"the server wants all questions of test2015: lay {rest.name} into {directory} and start "
            "this again, nothing is asked twice"
        )
    else:
        advice = f"hand it in to the phase {phase} at {SERVER}, which scores it"
    if lacking:
        advice += f"; {lacking:,} questions have no answer and stand there with an empty one"
    return HandIn(entries, advice)
