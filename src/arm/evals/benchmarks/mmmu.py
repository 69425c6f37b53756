"""MMMU (arXiv 2311.16502): the 900 validation questions of thirty subjects, multiple choice or open.

The questions are the authors' data set, a folder for each subject. Where their `answer_dict_val.json`
lies beside those folders, its answers count. Answers are read by the authors' rules but for one: where
they draw a letter at random, the answer is unreadable here, wrong, and counted. As in their newest
loader, a picture stands wherever the question or an option names it, as in <image 2>.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.errors import DataError
from arm.evals.benchmarks.base import Benchmark, Item, Result, checked_items, mean_of_items
from arm.evals.benchmarks.choices import LETTER_PROMPT, SHORT_PROMPT
from arm.evals.benchmarks.files import (
    find_tables,
    not_here,
    read_json_object,
    require,
    table_rows,
)
from arm.files import keep_picture

COUNT = 900
ANSWERS = "answer_dict_val.json"
TABLES = ("*/validation-*.parquet", "*/validation/*.arrow")
"""The data set as `hf download` leaves it, and each subject as `save_to_disk` writes it."""
PICTURES = tuple(f"image_{n}" for n in range(1, 8))
MARK = re.compile(r"<image\s+(\d+)>")
KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""What an open answer follows in a sentence; in the last sentence "=" too."""
Truth = str | list[str]
NOTE = (
    f"prompt: question, one option a line as (A) ..., '{LETTER_PROMPT}'; open questions: '{SHORT_PROMPT}' "
    "(both the authors'); a picture stands wherever question or options name it, as in the authors' loader (the first "
    "picture stands before a question that names none); unreadable choices are wrong, never drawn at random"
)


def read_rows(
    directory: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The questions of all subjects. Raises DataError where there are none or a column is missing."""
    paths = find_tables(directory, TABLES)
    if not paths:
        raise not_here(directory, TABLES, "MMMU")
    yield from table_rows(paths, columns, optional)


def read_truths(path: Path) -> dict[str, tuple[bool, Truth]]:
    """The authors' answers by id: whether it is multiple choice, and the right answer or answers."""
    return {
        name: (
            require(entry, "question_type", f"{path}, '{name}'") == "multiple-choice",
            require(entry, "ground_truth", f"{path}, '{name}'"),
        )
        for name, entry in read_json_object(path).items()
    }


def parse_list(text: str) -> Truth:
    """The list that a field holds as Python text, or the text itself."""
    try:
        content = ast.literal_eval(text) if text.startswith("[") else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return [str(part) for part in content] if isinstance(content, list) else text


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The validation questions; a group is a subject. Raises DataError."""
    path = directory / ANSWERS
    truths = read_truths(path) if path.is_file() else {}
    items = []
    for row in read_rows(directory, ("id", "question", "options", "answer", "question_type")):
        name = row["id"]
        if not isinstance(name, str) or Path(name).name != name:
            raise DataError(f"{directory}: {name!r} is not the id of a question")
        has_options, truth = row["question_type"] == "multiple-choice", parse_list(row["answer"])
        if truths:
            if name not in truths:
                raise DataError(f"{path} has no answer to {name}: it is another version")
            has_options, truth = truths[name]
        texts = parse_list(row["options"]) if has_options else []
        if isinstance(texts, str):
            raise DataError(f"{directory}: the options of {name} are not a list: {texts[:60]}")
        options = {chr(ord("A") + i): text for i, text in enumerate(texts)}
        items.append(question(name, row["question"], options, truth))
    return checked_items(items, COUNT, "MMMU (validation)", partial)


def question(name: str, text: str, options: Mapping[str, str], truth: Truth) -> Item:
    """An item from its id "validation_SUBJECT_NUMBER"; one without options is an open question."""
    if options:
        listed = "\n".join(f"({letter}) {option}" for letter, option in options.items())
        prompt = f"{text}\n\n{listed}\n\n{LETTER_PROMPT}"
    else:
        prompt = f"{text}\n\n{SHORT_PROMPT}"
    subject = "_".join(name.split("_")[1:-1])
    images = {mark[0]: picture_name(name, int(mark[1])) for mark in MARK.finditer(prompt)}
    first = next(iter(images.values()), picture_name(name, 1))
    return Item(name, prompt, subject, first, {"options": options, "answer": truth}, images)


def picture_name(question: str, number: int) -> str:
    """The file name of a question's picture, as the authors name it."""
    return f"{question}_{number}.png"


def unpack(directory: Path, items: Sequence[Item], folder: Path) -> bool:
    """Writes the items' pictures into a folder; a file that is still right stays. Returns True."""
    needed = {name for item in items for name in (*item.images.values(), item.image)}
    for row in read_rows(directory, ("id",), PICTURES):
        for number, column in enumerate(PICTURES, 1):
            path = folder / picture_name(row["id"], number)
            content = (row.get(column) or {}).get("bytes")
            if path.name in needed and content:
                keep_picture(content, path)
    return True


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that an answer gives; None where there is none.

    The last letter in brackets, else the last that stands alone, else, in an answer of more than five
    words, the option that is named last.
    """
    for mark in ",.!?;:'":
        answer = answer.strip(mark)
    text = f" {answer} "
    for shape in ("({})", " {} "):
        places = {letter: text.rfind(shape.format(letter)) for letter in options}
        if max(places.values(), default=-1) >= 0:
            return max(places, key=lambda letter: places[letter])
    if len(text.split()) > 5:
        places = {letter: text.lower().rfind(option.lower()) for letter, option in options.items()}
        if max(places.values(), default=-1) >= 0:
            return max(places, key=lambda letter: places[letter])
    return None


def normalised(text: str) -> list[str | float]:
    """A number rounded to two places, or lower-case text; a single letter must have a space beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def numbers(text: str) -> list[str]:
    """The numbers in a text: with commas for thousands, with exponents, and plain."""
    patterns = (
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    )
    return [match for pattern in patterns for match in re.findall(pattern, text)]


def read_open(answer: str) -> set[str | float]:
    """What an open answer may mean.

    The shortest rest of each line after one of the keys (the whole answer where no line has one), and
    every number in these.
    """
    whole = answer.strip().strip(".").lower()
    lines = whole.split("\n")
    ends = []
    for n, line in enumerate(lines):
        end = ""
        for key in (*KEYS, *(("=",) if n == len(lines) - 1 else ())):
            tail = line.split(key)[-1].strip()
            if key in line and (not end or len(tail) < len(end)):
                end = tail
        if end and end not in (":", ",", ".", "!", "?", ";", "'"):
            ends.append(end)
    texts = ends or [whole]
    texts = [*texts, *(number for text in texts for number in numbers(text))]
    return {meant for text in texts for meant in normalised(text)}


def agrees(answer: str, truth: Truth) -> bool:
    """Whether an open answer contains a right text or has a right number."""
    truths = [
        t for text in ([truth] if isinstance(truth, str) else truth) for t in normalised(text)
    ]
    texts = [t for t in truths if isinstance(t, str)]
    return any(
        any(t in meant for t in texts) if isinstance(meant, str) else meant in truths
        for meant in read_open(answer)
    )


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy over all questions, and of each subject; `details` counts unreadable choices."""
    values: dict[str, float | None] = {}
    unreadable = 0
    for item in items:
        answer = answers.get(item.id)
        if answer is None:
            continue
        options, truth = item.data["options"], item.data["answer"]
        if options:
            letter = read_choice(answer, options)
            unreadable += letter is None
            values[item.id] = float(letter in ([truth] if isinstance(truth, str) else truth))
        else:
            values[item.id] = float(agrees(answer, truth))
    return mean_of_items(items, values, {"unreadable": float(unreadable)})


BENCHMARKS = (Benchmark("mmmu", "questions", load, score, unpack=unpack, notes=(NOTE,)),)
