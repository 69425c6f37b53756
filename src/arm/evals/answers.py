"""Answers to a benchmark's questions: in the model's own words, or the likeliest of given options.

    {"id": "7", "answer": "two", "source": SHA-256 of the pictures}
    {"id": "8", "answer": "C", "source": ..., "logprobs": {"A": -9.1, ...}, "tokens": {"A": 3, ...}}

One line for each answer; every process writes a file of its own. Lines are only ever added: where a
picture was changed, a later line with "again": 1, 2, ... replaces the earlier one, whichever file that
is in, and withdraws it (answer null) where the new picture cannot be asked about.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.errors import DataError, InputError
from arm.evals.benchmarks.base import Benchmark, Item
from arm.evals.benchmarks.files import Fingerprints, source_paths
from arm.evals.requests import AnswerOptions, Part, answer, as_turn, likelihoods, placed
from arm.files import write_json, write_text
from arm.pipeline import Arm
from arm.sequence import Image, Turn


@dataclass(frozen=True)
class Answer:
    """One line of a file of answers."""

    text: str | None
    """None where the answer is withdrawn."""
    source: str | None = None
    """The hash of the pictures that it is about."""
    again: int = 0
    """How many earlier lines it replaces."""


def whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file without an incomplete last one, as an interrupted run leaves it.

    Raises DataError for a file that is not text.
    """
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a file of answers ({error})") from None
    yield from whole.splitlines()


def read_lines(out: Path) -> dict[str, Answer]:
    """The newest line of each item, from the files of all processes. Raises DataError for a bad line."""
    newest: dict[str, Answer] = {}
    for path in sorted(out.glob("answers*.jsonl")):
        for number, line in enumerate(whole_lines(path), 1):
            try:
                entry = json.loads(line)
                name, text = entry["id"], entry["answer"]
                line_answer = Answer(text, entry.get("source"), entry.get("again", 0))
                if not isinstance(name, str) or not isinstance(text, str | None):
                    raise TypeError("an answer is a string")
                if name not in newest or line_answer.again >= newest[name].again:
                    newest[name] = line_answer
            except (ValueError, TypeError, KeyError, AttributeError):
                raise DataError(
                    f"{path}:{number} is not an answer; remove the line, and it is made again"
                ) from None
    return newest


def answers_of(lines: Mapping[str, Answer]) -> dict[str, str]:
    """The answers that are not withdrawn, by item."""
    return {name: line.text for name, line in lines.items() if line.text is not None}


def read_answers(out: Path) -> dict[str, str]:
    """Answers by item, from the files of all processes. Raises DataError for a bad line."""
    return answers_of(read_lines(out))


def unanswered(
    items: Sequence[Item],
    lines: Mapping[str, Answer],
    images: Path,
    fingerprints: Fingerprints,
) -> list[Item]:
    """Items without an answer, and those whose answer is about another picture than the present one.

    Where the picture is gone, the answer stays valid.
    """

    def is_valid(item: Item, old: Answer | None) -> bool:
        if old is None or old.text is None:
            return False
        try:
            return fingerprints.of(source_paths(images, item)) == old.source
        except InputError:
            return True

    return [item for item in items if not is_valid(item, lines.get(item.id))]


def write_answers(
    arm: Arm,
    items: Sequence[Item],
    images: Path,
    path: Path,
    *,
    known_words: bool = False,
    batch: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, str]:
    """Appends to a file the answers that no file of its folder has yet.

    Returns the reason by item for those that cannot be answered.
    """
    known, fingerprints = read_lines(path.parent), Fingerprints()
    if path.is_file():
        whole = "".join(f"{line}\n" for line in whole_lines(path))
        write_text(whole, path)  # an interruption here loses no answer
    todo = unanswered(items, known, images, fingerprints)
    codes, failed = dict[Path, Image](), dict[str, str]()
    with path.open("a", encoding="utf-8") as file:
        for start in range(0, len(todo), batch):
            lines: list[dict[str, Any]] = []
            asked: list[tuple[Turn, Mapping[str, str]]] = []
            for item in todo[start : start + batch]:
                old = known.get(item.id)
                line: dict[str, Any] = {"id": item.id, "answer": None}
                line |= {} if old is None else {"again": old.again + 1}
                try:
                    paths = source_paths(images, item)
                    # Neighbouring questions are often about one picture.
                    codes = {p: codes[p] if p in codes else Image(arm.encode(p)) for p in paths}
                    turn = as_turn(arm, parts_of(item, images, codes), known_words=known_words)
                    question = (turn, options_of(arm, item, known_words))
                    lines.append(line | {"source": fingerprints.of(paths)})
                    asked.append(question)
                except InputError as error:
                    failed[item.id] = str(error)
                    if old is not None and old.text is not None:
                        file.write(json.dumps(line) + "\n")
            for line, reply in zip(lines, replies(arm, asked), strict=True):
                file.write(json.dumps(line | reply) + "\n")
            file.flush()
            done = min(start + batch, len(todo))
            if done // 100 > start // 100 or done == len(todo):
                report(f"{done} of {len(todo)} answers")
    return failed


def parts_of(item: Item, images: Path, codes: Mapping[Path, Image]) -> tuple[Part, ...]:
    """A question with its pictures at their markers, or after its one picture."""
    if not item.images:
        return (*codes.values(), item.text)
    return placed(item.text, {mark: codes[images / name] for mark, name in item.images.items()})


def options_of(arm: Arm, item: Item, known_words: bool) -> Mapping[str, str]:
    """The options to rank, as the model can read them.

    Raises InputError for an unknown word, and with `known_words` where nothing is left of an option or
    two options become equal.
    """
    kept = {k: arm.text_tokenizer.known(t) if known_words else t for k, t in item.ranked.items()}
    for letter, text in kept.items():
        if not text.strip():
            raise InputError(f"the model knows no word of option {letter}, '{item.ranked[letter]}'")
        arm.text_tokenizer.ids(text)
    if len(set(kept.values())) < len(set(item.ranked.values())):
        raise InputError(f"without unknown words two options of {item.id} are the same")
    return kept


def replies(arm: Arm, asked: Sequence[tuple[Turn, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """The line entries for each turn, as one batch: greedy answers, or the likeliest of the options."""
    plain = [turn for turn, options in asked if not options]
    greedy = iter(answer(arm, plain, AnswerOptions()) if plain else ())
    turns = [turn for turn, options in asked for _ in options]
    texts = [text for _, options in asked for text in options.values()]
    logprobs = iter([each for each, _ in likelihoods(arm, turns, texts, whole=True)])
    return [
        ranked(
            {k: (next(logprobs), len(arm.text_tokenizer.ids(t)) + 1) for k, t in options.items()}
        )
        if options
        else {"answer": next(greedy)}
        for _, options in asked
    ]


def ranked(options: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    """The letter with the highest mean log-likelihood a token; the first of equal ones.

    options: for each letter the sum (nats) and the number of tokens, end included.
    """
    best = max(options, key=lambda letter: options[letter][0] / options[letter][1])
    return {
        "answer": best,
        "logprobs": {letter: logprob for letter, (logprob, _) in options.items()},
        "tokens": {letter: tokens for letter, (_, tokens) in options.items()},
    }


def write_submission(
    benchmark: Benchmark, directory: Path, items: Sequence[Item], out: Path
) -> dict[str, Any] | None:
    """Writes OUT/submission.json for the authors' server, where it alone can score the answers.

    Returns what a user must know about the file; None where the answers are scored here.
    """
    if benchmark.submission is None:
        return None
    answers = read_answers(out)
    submission = benchmark.submission(directory, items, answers)
    if submission is None:
        return None
    path = out / "submission.json"
    write_json(list(submission.entries), path)
    return {
        "benchmark": benchmark.name,
        "questions": len(items),
        "answered": sum(item.id in answers for item in items),
        "file": str(path),
        "advice": submission.advice,
    }
