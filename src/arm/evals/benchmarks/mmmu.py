"""MMMU (arXiv 2311.16502): the 900 validation questions of thirty subjects, chosen or answered freely.

Questions come as the authors publish them, a parquet file of each subject: SUBJECT/validation-*.parquet.
Where their `answer_dict_val.json` lies beside those, its answers count. The reading of answers is theirs,
but for one rule: where they draw a letter by lot, the answer is unreadable here, wrong, and counted. As
in their newest loader a picture stands wherever the question or an option names it, as <image 2>.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.errors import DataError, InputError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    flat_result,
    json_object,
    need,
    need_count,
)
from arm.evals.benchmarks.choices import LETTER_PROMPT, SHORT_PROMPT
from arm.files import keep_picture

COUNT = 900
ANSWERS = "answer_dict_val.json"
FILES = "*/validation-*.parquet"
PICTURES = tuple(f"image_{n}" for n in range(1, 8))
MARK = re.compile(r"<image\s+(\d+)>")
KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""What an open answer follows in a sentence; in the last sentence "=" too."""
Truth = str | list[str]
NOTE = (
    f"prompt: question, one option a line as (A) ..., '{LETTER_PROMPT}'; open questions: '{SHORT_PROMPT}' "
    "(both the authors'); every picture that question or options name, each time where they do, as in the authors' "
    "loader (of a question that names none the first, before it); unreadable choices are wrong, never drawn by lot"
)


def rows(
    directory: Path, columns: Sequence[str], more: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Questions of all subjects, with `more` columns where there are such. Raises DataError where there is
    no question, or one of the `columns` is missing.
    """
    paths = sorted(directory.glob(FILES))
    if not paths:
        raise DataError(f"{directory} is no MMMU directory: it has no {FILES}")
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError("MMMU's files are parquet: pip install 'arm-lmm[data]'") from None
    for path in paths:
        try:
            file = ParquetFile(path)
            missing = [c for c in columns if c not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{path} lacks the columns {', '.join(missing)}")
            found = [c for c in more if c in file.schema_arrow.names]
            yield from file.read(columns=[*columns, *found]).to_pylist()
        except (ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is no parquet file ({error})") from None


def read_truths(path: Path) -> dict[str, tuple[bool, Truth]]:
    """The authors' answers by id: whether it is multiple choice, and the answer or answers."""
    return {
        name: (
            need(entry, "question_type", f"{path}, '{name}'") == "multiple-choice",
            need(entry, "ground_truth", f"{path}, '{name}'"),
        )
        for name, entry in json_object(path).items()
    }


def listed(text: str) -> Truth:
    """A field that may be the text of a list."""
    try:
        found = ast.literal_eval(text) if text.startswith("[") else text
    except (ValueError, SyntaxError):
        return text
    return [str(part) for part in found] if isinstance(found, list) else text


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The validation questions; a group is a subject. Raises DataError."""
    path = directory / ANSWERS
    truths = read_truths(path) if path.is_file() else {}
    items = []
    for row in rows(directory, ("id", "question", "options", "answer", "question_type")):
        name = row["id"]
        if not isinstance(name, str) or Path(name).name != name:
            raise DataError(f"{directory}: {name!r} is no id of a question")
        chosen, truth = row["question_type"] == "multiple-choice", listed(row["answer"])
        if truths:
            if name not in truths:
                raise DataError(f"{path} has no answer to {name}: it is of another version")
            chosen, truth = truths[name]
        texts = listed(row["options"]) if chosen else []
        if isinstance(texts, str):
            raise DataError(f"{directory}: the options of {name} are no list: {texts[:60]}")
        options = {chr(ord("A") + i): text for i, text in enumerate(texts)}
        items.append(question(name, row["question"], options, truth))
    return need_count(items, COUNT, "MMMU (validation)", partial)


def question(name: str, text: str, options: Mapping[str, str], truth: Truth) -> Item:
    """An item from its id "validation_SUBJECT_NUMBER"; one without options is answered freely."""
    if options:
        shown = "\n".join(f"({letter}) {option}" for letter, option in options.items())
        prompt = f"{text}\n\n{shown}\n\n{LETTER_PROMPT}"
    else:
        prompt = f"{text}\n\n{SHORT_PROMPT}"
    subject = "_".join(name.split("_")[1:-1])
    images = {mark[0]: picture_name(name, int(mark[1])) for mark in MARK.finditer(prompt)}
    first = next(iter(images.values()), picture_name(name, 1))
    return Item(name, prompt, subject, first, {"options": options, "answer": truth}, images)


def picture_name(question: str, number: int) -> str:
    """The file of a question's picture, as the authors name it."""
    return f"{question}_{number}.png"


def unpack(directory: Path, items: Sequence[Item], folder: Path) -> None:
    """Writes all pictures that the items show into a folder; one that is there already stays, if it is
    still the same.
    """
    wanted = {name for item in items for name in (*item.images.values(), item.image)}
    for row in rows(directory, ("id",), PICTURES):
        for number, column in enumerate(PICTURES, 1):
            path = folder / picture_name(row["id"], number)
            content = (row.get(column) or {}).get("bytes")
            if path.name in wanted and content:
                keep_picture(content, path)


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that an answer gives: the last one in brackets, else the last that stands alone, else,
    of more than five words, the option named last. None where there is none.
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
    """A number to two places, or lower-case text; one letter needs a space beside it to be found."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def numbers(text: str) -> list[str]:
    """Numbers with thousands' commas, with exponents, and plain ones."""
    patterns = (
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    )
    return [found for pattern in patterns for found in re.findall(pattern, text)]


def read_open(answer: str) -> set[str | float]:
    """What an open answer may mean: of each line the shortest end after one of the keys (the whole
    answer where no line has one), and every number in these.
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
    told = ends or [whole]
    told = [*told, *(number for end in told for number in numbers(end))]
    return {meant for text in told for meant in normalised(text)}


def agrees(answer: str, truth: Truth) -> bool:
    """Whether an open answer holds a right text, or has a right number."""
    truths = [
        t for text in ([truth] if isinstance(truth, str) else truth) for t in normalised(text)
    ]
    said = read_open(answer)
    texts = [t for t in truths if isinstance(t, str)]
    return any(
        any(t in meant for t in texts) if isinstance(meant, str) else meant in truths
        for meant in said
    )


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy over all questions, and of each subject; `details` counts unreadable choices."""
    values: dict[str, float | None] = {}
    unreadable = 0
    for item in items:
        said = answers.get(item.id)
        if said is None:
            continue
        options, truth = item.data["options"], item.data["answer"]
        if options:
            letter = read_choice(said, options)
            unreadable += letter is None
            values[item.id] = float(letter in ([truth] if isinstance(truth, str) else truth))
        else:
            values[item.id] = float(agrees(said, truth))
    return flat_result(items, values, {"unreadable": float(unreadable)})
