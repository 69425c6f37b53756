"""MMBench (arXiv 2307.06281): multiple choice; a question is right only if right in every rotation.

The authors' TSV file has the columns index, question, hint, A to D, answer, category, l2-category and
image (base64). Some versions hold the rotations of the options as rows with index + k * 1,000,000; for
the others they are made here: pass k begins with the k-th option.

Answers are read by rules (`choices.read_choice`); where these find no option, the authors ask a language
model which option is meant, or Z for none (section 4.2 and their code). So does `match_prompt`, in our
own words. Where that reply is unreadable too, their code picks an option at random; here the pass is
missing.
"""

import base64
import binascii
import csv
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    AnswerMatching,
    Benchmark,
    Item,
    Result,
    checked_items,
    mean_of_items,
)
from arm.evals.benchmarks.choices import LETTER_NOTE, LETTERS, choice_prompt, read_choice
from arm.evals.benchmarks.files import not_here
from arm.files import keep_picture
from arm.judge.answer import final_answer
from arm.judge.choices import read_letter

TABLES = ("MMBench*.tsv", "*.tsv")
COLUMNS = ("index", "question", "hint", "A", "B", "answer", "category", "image")
PASS = 1_000_000
"""Rotation k of a question has its index plus k times this."""
MIN_IMAGE_CHARS = 64
"""A shorter `image` field is not a picture but the index of the row that holds it."""
NONE, NO_OPTION = "Z", ""
"""The language model's letter for an answer that means no option, and what then replaces the answer: no
rule finds an option in it."""
NOTE = (
    "answers are read by MMBench's rules: one letter, or one option's text; a judge says which option any other answer "
    "means, asked in our own words after the authors' template"
)
AGAIN = (
    "Write one capital letter and nothing else: that of the option that is meant, or Z for none."
)
MATCH_PROMPT = """\
Somebody was asked a question with a few options and answered freely. Find the option that the answer means.
Write one capital letter and nothing else: that of the option, or Z if the answer means none of them.

Question: Which animal stands on the meadow?
Options: A. dog B. horse C. sheep
Answer: it looks like a small pony
Letter: B

Question: Which animal stands on the meadow?
Options: A. dog B. horse C. sheep
Answer: a wooden bridge
Letter: Z

Question: {question}
Options: {options}
Answer: {answer}
Letter:"""


def load(directory: Path, partial: bool = False) -> list[Item]:
    """Every rotation of every question of a TSV file, or of the one in a folder. Raises DataError."""
    path = table(directory)
    items = [read_item(row, path) for row in read_rows(path)]
    if items and all(int(item.id) < PASS for item in items):
        items = [rotated for item in items for rotated in rotations(item)]
    passes: dict[int, list[Item]] = {}
    for item in items:
        passes.setdefault(int(item.id) % PASS, []).append(item)
    for index, rotated in passes.items():
        expected = {index + PASS * k for k in range(len(rotated[0].data["options"]))}
        if {int(item.id) for item in rotated} != expected and not partial:
            raise DataError(
                f"{path}: question {index} has {len(rotated)} of {len(expected)} rotations: the file is incomplete"
            )
    if not items:
        raise DataError(f"{path} holds no question")
    return checked_items(items, len(items), "MMBench", partial)


def table(directory: Path) -> Path:
    """The TSV file: `directory` itself, or the one in it. Raises DataError for none or several."""
    if directory.is_file():
        return directory
    matches = (sorted(directory.glob(pattern)) for pattern in TABLES)
    files = next((files for files in matches if files), [])
    if not files:
        raise not_here(directory, ("MMBench_DEV_EN.tsv or another .tsv file",), "MMBench")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{directory} has several tables ({names}); name one of the files instead")
    return files[0]


def read_rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Raises DataError where the file is not a table with MMBench's columns."""
    # The standard library's limit is 128 KiB a field; a picture in base64 is longer.
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                more = "; its test split has no answers, use dev" if missing == ["answer"] else ""
                raise DataError(f"{path} lacks the columns {', '.join(missing)}{more}")
            for row in reader:
                if None in (row[column] for column in COLUMNS):
                    raise DataError(f"{path}:{reader.line_num}: the line is incomplete")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table of MMBench ({error})") from None


def field_text(text: str | None) -> str:
    """A field's text; "" where it is empty or holds pandas' words for nothing."""
    return "" if text is None or text.lower() in ("nan", "none") else text.strip()


def read_item(row: Mapping[str, str], path: Path) -> Item:
    """The question of a row. Raises DataError."""
    where = f"{path}, index {row['index']}"
    if not row["index"].isdecimal():
        raise DataError(f"{where}: the index is not a whole number")
    options = {letter: field_text(row.get(letter)) for letter in LETTERS}
    options = {letter: text for letter, text in options.items() if text}
    if row["answer"] not in options:
        raise DataError(f"{where}: the answer '{row['answer']}' is none of {', '.join(options)}")
    hint, picture = field_text(row["hint"]), row["image"] or ""
    image = picture if len(picture) < MIN_IMAGE_CHARS else row["index"]
    data = {
        "options": options,
        "answer": row["answer"],
        "question": row["question"],
        "hint": hint,
        "ability": field_text(row.get("l2-category")),
    }
    text = choice_prompt(row["question"], options, hint)
    return Item(row["index"], text, row["category"], f"{image}.jpg", data)


def rotations(item: Item) -> list[Item]:
    """The passes of a question: its options, beginning with each of them in turn."""
    letters, texts = list(item.data["options"]), list(item.data["options"].values())
    passes = []
    for k in range(len(letters)):
        options = dict(zip(letters, texts[k:] + texts[:k], strict=True))
        answer = letters[(letters.index(item.data["answer"]) - k) % len(letters)]
        text = choice_prompt(item.data["question"], options, item.data["hint"])
        data = {**item.data, "options": options, "answer": answer}
        passes.append(Item(str(int(item.id) + k * PASS), text, item.group, item.image, data))
    return passes


def unpack(directory: Path, items: Sequence[Item], folder: Path) -> bool:
    """Writes the items' pictures into a folder; a file that is still right stays. Returns True."""
    needed = {item.image for item in items}
    for row in read_rows(table(directory)):
        name, picture = f"{row['index']}.jpg", row["image"] or ""
        if name in needed and len(picture) >= MIN_IMAGE_CHARS:
            try:
                content = base64.b64decode(picture, validate=True)
            except binascii.Error:
                continue  # the item is then reported as one whose picture is missing
            keep_picture(content, folder / name)
    return True


def match_prompt(item: Item, answer: str) -> str | None:
    """What a language model is asked about an answer; None where the rules read it."""
    options = item.data["options"]
    if read_choice(answer, options) is not None:
        return None
    listed = " ".join(f"{letter}. {text}" for letter, text in options.items())
    return MATCH_PROMPT.format(question=item.data["question"], options=listed, answer=answer)


def read_match(item: Item, reply: str) -> str | None:
    """The letter in a reply to `match_prompt`, `NO_OPTION` where none is meant; None where unreadable."""
    options = item.data["options"]
    letter = read_letter(reply, [*options, NONE])
    if letter is not None:
        return NO_OPTION if letter == NONE else letter
    answer = final_answer(reply)
    if answer is None or re.search(rf"\b{NONE}\b", answer):  # "A or Z" means neither
        return None
    return read_choice(answer, options)


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """The share of questions that are right in every pass, and by category.

    A question with a wrong pass is wrong; one with a missing pass and no wrong one is missing. An
    answer that names no option is wrong. All passes of a question share its score. `details` has the
    accuracy of the first pass alone, the number of answers in which no option was found, and the
    scores by ability.
    """
    keys = {item.id: str(int(item.id) % PASS) for item in items}
    passes: dict[str, list[bool | None]] = {}
    first: dict[str, Item] = {}
    unreadable = 0
    for item in items:
        answer = answers.get(item.id)
        letter = None if answer is None else read_choice(answer, item.data["options"])
        unreadable += answer is not None and letter is None
        question = keys[item.id]
        first.setdefault(question, Item(question, "", item.group, data=item.data))
        right = None if answer is None else letter == item.data["answer"]
        passes.setdefault(question, []).append(right)
    values = {
        question: 0.0 if False in checks else None if None in checks else 1.0
        for question, checks in passes.items()
    }
    single = [bool(checks[0]) for checks in passes.values() if checks[0] is not None]
    details = {"unreadable": float(unreadable)}
    if single:
        details["first_pass"] = sum(single) / len(single)
    abilities: dict[str, list[float]] = {}
    for question, value in values.items():
        if value is not None and first[question].data["ability"]:
            abilities.setdefault(first[question].data["ability"], []).append(value)
    details |= {name: sum(scores) / len(scores) for name, scores in abilities.items()}
    return replace(mean_of_items(list(first.values()), values, details), keys=keys)


BENCHMARKS = (
    Benchmark(
        "mmbench",
        "questions",
        load,
        score,
        unpack=unpack,
        matching=AnswerMatching(match_prompt, read_match, AGAIN, NO_OPTION),
        notes=(LETTER_NOTE, NOTE),
    ),
)
