"""Answers to a benchmark's questions: in the model's own words, or the likeliest of given options.

    {"id": "7", "answer": "two", "source": SHA-256 of the pictures}
    {"id": "8", "answer": "C", "source": ..., "logprobs": {"A": -9.1, ...}, "tokens": {"A": 3, ...}}

A line an answer, in a file of each process's own, so that no two lines can meet. Lines are only ever
added: where a picture was changed, a later line ("again": 1, 2, ...) takes the place of an earlier one, of
whichever file, and withdraws it (answer null) where the new picture cannot be asked about.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.errors import DataError, InputError
from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.registry import Benchmark
from arm.evals.requests import Answering, Part, answer, as_turn, likelihoods, placed
from arm.evals.sources import Fingerprints, source_paths
from arm.files import write_text
from arm.models.weights import write_json
from arm.pipeline import Arm
from arm.sequence import Image, Turn


@dataclass(frozen=True)
class Answer:
    """What stands in a file. text None: withdrawn. again: how many stood there before for its item."""

    text: str | None
    source: str | None = None
    again: int = 0


def whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file but for a last one that a kill cut off. Raises DataError for no text."""
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds no answers ({error})") from None
    yield from whole.splitlines()


def read_lines(out: Path) -> dict[str, Answer]:
    """The newest line of each item, of all shards. Raises DataError for a line that is none."""
    found: dict[str, Answer] = {}
    for path in sorted(out.glob("answers*.jsonl")):
        for number, line in enumerate(whole_lines(path), 1):
            try:
                entry = json.loads(line)
                name, text = entry["id"], entry["answer"]
                told = Answer(text, entry.get("source"), entry.get("again", 0))
                if not isinstance(name, str) or not isinstance(text, str | None):
                    raise TypeError("an answer is a text")
                if name not in found or told.again >= found[name].again:
                    found[name] = told
            except (ValueError, TypeError, KeyError, AttributeError):
                raise DataError(
                    f"{path}:{number} is no answer; take the line out, and it is made again"
                ) from None
    return found


def answers_of(lines: Mapping[str, Answer]) -> dict[str, str]:
    """The answers that stand, by item."""
    return {name: told.text for name, told in lines.items() if told.text is not None}


def read_answers(out: Path) -> dict[str, str]:
    """Answers by item, those of all shards. Raises DataError for a line that is none."""
    return answers_of(read_lines(out))


def unanswered(
    items: Sequence[Item], told: Mapping[str, Answer], images: Path, prints: Fingerprints
) -> list[Item]:
    """Items without an answer, and those whose answer is of another picture, or of one not recorded. A
    picture that is not there any more leaves its answer as it is.
    """

    def stands(item: Item, old: Answer | None) -> bool:
        if old is None or old.text is None:
            return False
        try:
            return prints.of(source_paths(images, item)) == old.source
        except InputError:
            return True

    return [item for item in items if not stands(item, told.get(item.id))]


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
    """Adds to a file the answers that are in none of its folder; why there is none, by item."""
    told, prints = read_lines(path.parent), Fingerprints()
    if path.is_file():
        whole = "".join(f"{line}\n" for line in whole_lines(path))
        write_text(whole, path)  # a kill meanwhile takes no answer away
    todo = unanswered(items, told, images, prints)
    codes, failed = dict[Path, Image](), dict[str, str]()
    with path.open("a", encoding="utf-8") as file:
        for start in range(0, len(todo), batch):
            lines: list[dict[str, Any]] = []
            asked: list[tuple[Turn, Mapping[str, str]]] = []
            for item in todo[start : start + batch]:
                old = told.get(item.id)
                line: dict[str, Any] = {"id": item.id, "answer": None}
                line |= {} if old is None else {"again": old.again + 1}
                try:
                    paths = source_paths(images, item)
                    # Neighbours often ask about one picture.
                    codes = {p: codes[p] if p in codes else Image(arm.encode(p)) for p in paths}
                    turn = as_turn(arm, parts_of(item, images, codes), known_words=known_words)
                    question = (turn, options_of(arm, item, known_words))
                    lines.append(line | {"source": prints.of(paths)})
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
    """A question with its pictures where its text says, or its one picture before it."""
    if not item.images:
        return (*codes.values(), item.text)
    return placed(item.text, {mark: codes[images / name] for mark, name in item.images.items()})


def options_of(arm: Arm, item: Item, known_words: bool) -> Mapping[str, str]:
    """The options that are ranked, as the model can read them.

    Raises InputError for an unknown word, and with known_words where of an option nothing is left, or of
    two the same.
    """
    kept = {k: arm.text_tokenizer.known(t) if known_words else t for k, t in item.ranked.items()}
    for letter, text in kept.items():
        if not text.strip():
            raise InputError(f"the model knows no word of option {letter}, '{item.ranked[letter]}'")
        arm.text_tokenizer.ids(text)
    if len(set(kept.values())) < len(set(item.ranked.values())):
        raise InputError(
            f"with the words that the model knows two options of {item.id} are the same"
        )
    return kept


def replies(arm: Arm, asked: Sequence[tuple[Turn, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """What the model answers to each turn, as one batch: greedily, or by the likeliest of its options."""
    plain = [turn for turn, options in asked if not options]
    said = iter(answer(arm, plain, Answering()) if plain else ())
    turns = [turn for turn, options in asked for _ in options]
    texts = [text for _, options in asked for text in options.values()]
    logprobs = iter([each for each, _ in likelihoods(arm, turns, texts, whole=True)])
    return [
        ranked(
            {k: (next(logprobs), len(arm.text_tokenizer.ids(t)) + 1) for k, t in options.items()}
        )
        if options
        else {"answer": next(said)}
        for _, options in asked
    ]


def ranked(options: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    """The letter of the best mean log-likelihood of a token, of equal ones the first; each option has
    its sum (nats) and its tokens, the end among them.
    """
    best = max(options, key=lambda letter: options[letter][0] / options[letter][1])
    return {
        "answer": best,
        "logprobs": {letter: logprob for letter, (logprob, _) in options.items()},
        "tokens": {letter: tokens for letter, (_, tokens) in options.items()},
    }


def hand_in(
    benchmark: Benchmark, directory: Path, items: Sequence[Item], out: Path
) -> dict[str, Any] | None:
    """Writes OUT/submission.json for the authors' server where it alone can score; None elsewhere."""
    if benchmark.hand_in is None:
        return None
    answers = read_answers(out)
    found = benchmark.hand_in(directory, items, answers)
    if found is None:
        return None
    path = out / "submission.json"
    write_json(list(found.entries), path)
    return {
        "benchmark": benchmark.name,
        "questions": len(items),
        "answered": sum(item.id in answers for item in items),
        "file": str(path),
        "advice": found.advice,
    }
