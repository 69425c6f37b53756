"""MMBench (arXiv 2307.06281): multiple choice, right only where it is right in every rotation.

A TSV file of the authors: index, question, hint, A to D, answer, category, l2-category, and the picture in
base64. Some of its versions hold the rotations as rows of their own, numbered index + k * 1,000,000 with
the options moved on; where they do not, they are made here, the options of pass k begun at the k-th.

An answer is read by rules (`choices.read_choice`); where they find no option, the authors ask a language model
which one is meant, or Z for none (section 4.2 and their code). So does `match_prompt`, in words of our own.
Their code draws an option at random where that model cannot be read either; here such a pass is missing.
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
from arm.evals.benchmarks.base import Item, Result, flat_result, need_count
from arm.evals.benchmarks.choices import LETTERS, choice_prompt, read_choice
from arm.files import keep_picture
from arm.judge.answer import final_answer
from arm.judge.choices import read_letter

COLUMNS = ("index", "question", "hint", "A", "B", "answer", "category", "image")
PASS = 1_000_000
"""Pass k of a question has its index plus k times this."""
SHORT = 64
"""A picture's text below this length is the index of the row that holds the picture."""
NONE, NO_OPTION = "Z", ""
"""What the language model says of an answer that means no option, and what then stands in its place: no rule
finds a letter or an option's text in it."""
NOTE = (
    "read by MMBench's rules: one letter, or one option's text; which option any other answer means is a "
    "judge's to say, in words of our own after the authors' template"
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
    """Every pass of every question of the one TSV file of a directory. Raises DataError."""
    path = table(directory)
    items = [item for row in rows(path) for item in [item_of(row, path)]]
    if items and all(int(item.id) < PASS for item in items):
        items = [turned for item in items for turned in rotations(item)]
    passes: dict[int, list[Item]] = {}
    for item in items:
        passes.setdefault(int(item.id) % PASS, []).append(item)
    for index, found in passes.items():
        wanted = {index + PASS * k for k in range(len(found[0].data["options"]))}
        if {int(item.id) for item in found} != wanted and not partial:
            raise DataError(
                f"{path}: question {index} has {len(found)} of {len(wanted)} rotations: the file is cut"
            )
    if not items:
        raise DataError(f"{path} holds no question")
    return need_count(items, len(items), "MMBench", partial)


def table(directory: Path) -> Path:
    """The one TSV file of a directory. Raises DataError for none or several."""
    found = sorted(directory.glob("*.tsv"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DataError(f"{directory} is no MMBench directory: it has one .tsv file, not {names}")
    return found[0]


def rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Raises DataError where the file is no table of MMBench's columns."""
    # The standard library takes fields of 128 KiB; a picture in base64 is longer.
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                more = "; its test split has no answers, use dev" if missing == ["answer"] else ""
                raise DataError(f"{path} lacks the columns {', '.join(missing)}{more}")
            for row in reader:
                if None in (row[column] for column in COLUMNS):
                    raise DataError(f"{path}:{reader.line_num}: the line is cut")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of MMBench ({error})") from None


def filled(text: str | None) -> str:
    """A field's text, "" for pandas' ways to write nothing."""
    return "" if text is None or text.lower() in ("nan", "none") else text.strip()


def item_of(row: Mapping[str, str], path: Path) -> Item:
    where = f"{path}, index {row['index']}"
    if not row["index"].isdecimal():
        raise DataError(f"{where}: no whole number")
    options = {letter: filled(row.get(letter)) for letter in LETTERS}
    options = {letter: text for letter, text in options.items() if text}
    if row["answer"] not in options:
        raise DataError(f"{where}: the answer '{row['answer']}' is none of {', '.join(options)}")
    hint, picture = filled(row["hint"]), row["image"] or ""
    shown = picture if len(picture) < SHORT else row["index"]
    data = {
        "options": options,
        "answer": row["answer"],
        "question": row["question"],
        "hint": hint,
        "ability": filled(row.get("l2-category")),
    }
    text = choice_prompt(row["question"], options, hint)
    return Item(row["index"], text, row["category"], f"{shown}.jpg", data)


def rotations(item: Item) -> list[Item]:
    """The passes of a question: its options begun at each of them in turn."""
    letters, texts = list(item.data["options"]), list(item.data["options"].values())
    found = []
    for k in range(len(letters)):
        turned = dict(zip(letters, texts[k:] + texts[:k], strict=True))
        answer = letters[(letters.index(item.data["answer"]) - k) % len(letters)]
        text = choice_prompt(item.data["question"], turned, item.data["hint"])
        data = {**item.data, "options": turned, "answer": answer}
        found.append(Item(str(int(item.id) + k * PASS), text, item.group, item.image, data))
    return found


def unpack(directory: Path, items: Sequence[Item], folder: Path) -> None:
    """Writes the items' pictures into a folder, as they are named there; one that is there already stays, if
    it is still the same.
    """
    wanted = {item.image for item in items}
    for row in rows(table(directory)):
        name, picture = f"{row['index']}.jpg", row["image"] or ""
        if name in wanted and len(picture) >= SHORT:
            try:
                content = base64.b64decode(picture, validate=True)
            except binascii.Error:
                continue  # the item is then reported as one whose picture is missing
            keep_picture(content, folder / name)


def match_prompt(item: Item, answer: str) -> str | None:
    """What a language model is asked about an answer; None where the rules read it."""
    options = item.data["options"]
    if read_choice(answer, options) is not None:
        return None
    shown = " ".join(f"{letter}. {text}" for letter, text in options.items())
    return MATCH_PROMPT.format(question=item.data["question"], options=shown, answer=answer)


def read_match(item: Item, reply: str) -> str | None:
    """The letter in a reply to `match_prompt`, `NO_OPTION` where none is meant; None for any other reply."""
    options = item.data["options"]
    letter = read_letter(reply, [*options, NONE])
    if letter is not None:
        return NO_OPTION if letter == NONE else letter
    answer = final_answer(reply)
    if answer is None or re.search(rf"\b{NONE}\b", answer):  # Z and another letter
        return None
    return read_choice(answer, options)


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """The share of questions that are right in every pass, and by category. A question with a wrong pass
    is wrong; one with a missing pass and no wrong one is missing. An answer that names no option is wrong.
    All passes of a question share its score.

    `details`: accuracy of the first pass alone, answers in which no option was found, and the scores by ability.
    """
    keys = {item.id: str(int(item.id) % PASS) for item in items}
    passes: dict[str, list[bool | None]] = {}
    first: dict[str, Item] = {}
    unreadable = 0
    for item in items:
        said = answers.get(item.id)
        letter = None if said is None else read_choice(said, item.data["options"])
        unreadable += said is not None and letter is None
        question = keys[item.id]
        first.setdefault(question, Item(question, "", item.group, data=item.data))
        right = None if said is None else letter == item.data["answer"]
        passes.setdefault(question, []).append(right)
    values = {
        question: 0.0 if False in told else None if None in told else 1.0
        for question, told in passes.items()
    }
    single = [bool(told[0]) for told in passes.values() if told[0] is not None]
    details = {"unreadable": float(unreadable)}
    if single:
        details["first_pass"] = sum(single) / len(single)
    abilities: dict[str, list[float]] = {}
    for question, value in values.items():
        if value is not None and first[question].data["ability"]:
            abilities.setdefault(first[question].data["ability"], []).append(value)
    details |= {name: sum(found) / len(found) for name, found in abilities.items()}
    return replace(flat_result(list(first.values()), values, details), keys=keys)
