"""The second half of a published benchmark: a judge scores the pictures or answers, and a report is written.

The pictures are those in RUN/images, or those of another system in a plain folder, named ID_K.png or
ID.png. Replies of the judge are kept, so no question is paid for twice and an interrupted run can be
continued.

A judge may also read answers to multiple choice that the benchmark's rules cannot read
(`Benchmark.matching`). It sees only text, and what it says an answer means replaces the answer. An
answer that it could not be asked about is missing, never wrong.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arm.errors import InputError
from arm.evals.benchmarks.base import Benchmark, Item, Result
from arm.evals.benchmarks.files import read_picture, shown_source, source_path
from arm.evals.making import picture_path, picture_state
from arm.evals.page import Made, Said, Shown
from arm.files import atomic_write
from arm.judge import Endpoint, Exhibit, Question, Reply
from arm.judge.endpoint import STILL_UNREADABLE

Replies = Mapping[str, Sequence[Sequence[str | None]]]
"""`[item][picture][question]`, None where missing."""
AT_ONCE = 16
"""Items whose pictures are held in memory together while the judge looks at them."""
SHORT = 200
"""Questions of at most so many characters are shown beside their replies in the report."""
AGAIN = "That could not be read. Answer exactly in the form that was asked for, and nothing else."


@dataclass(frozen=True)
class Verdicts:
    """What a judge replied."""

    replies: Replies
    models: tuple[str, ...] = ()
    """The names that the judge's model gave itself, with their versions."""
    tokens: Mapping[str, int] | None = None
    """Tokens of all replies, as the endpoint counted them."""
    uncounted: int = 0
    """Replies that came without a count of tokens."""
    yes: tuple[float, ...] = ()
    """The probabilities of yes that came with replies."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Why verdicts are missing, and how many for each reason."""


def collect_verdicts(
    replies: Replies, received: Sequence[Reply | None], missing: Mapping[str, int]
) -> Verdicts:
    """The verdicts with the models and tokens of all received replies.

    A reply that occurs several times, because its question does, was paid for once.
    """
    paid = {id(reply): reply for reply in received if reply is not None}.values()
    tokens: Counter[str] = Counter()
    for reply in paid:
        tokens.update(reply.tokens or {})
    return Verdicts(
        replies,
        tuple(sorted({reply.model for reply in paid})),
        dict(tokens),
        sum(reply.tokens is None for reply in paid),
        tuple(reply.yes for reply in received if reply is not None and reply.yes is not None),
        dict(missing),
    )


def picture_questions(
    benchmark: Benchmark, directory: Path, item: Item, folder: Path, images: Path, index: int
) -> list[Question | None]:
    """The questions to the judge about one picture; None where the picture or its source is missing."""
    prompts = benchmark.judge_prompts(directory, item)
    source = None
    if any(prompt.shows_source for prompt in prompts):
        try:
            source = _exhibit(source_path(images, item))
        except InputError:
            pass
    # Read once for all questions about the picture.
    made = _exhibit(picture_path(folder, item, index))
    questions: list[Question | None] = []
    for prompt in prompts:
        wanted = [source, made] if prompt.shows_source else [made]
        shown = tuple(exhibit for exhibit in wanted if exhibit is not None)
        complete = len(shown) == len(wanted)
        questions.append(Question(prompt.text, prompt.readable, shown) if complete else None)
    return questions


def _exhibit(path: Path | None) -> Exhibit | None:
    """A picture for the judge; None where it is missing or broken."""
    picture = None if path is None else read_picture(path)
    return None if picture is None else Exhibit(picture)


def judge_pictures(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    images: Path,
    folder: Path,
    endpoint: Endpoint,
) -> Verdicts:
    """What the judge replies about every picture in `folder`; None for a missing picture or reply."""
    replies: dict[str, list[list[str | None]]] = {
        item.id: [[] for _ in range(benchmark.images_per_item)] for item in items
    }
    every: list[Reply | None] = []
    outage = endpoint.outage()
    for start in range(0, len(items), AT_ONCE):
        asked = [
            (item.id, k, question)
            for item in items[start : start + AT_ONCE]
            for k in range(benchmark.images_per_item)
            for question in picture_questions(benchmark, directory, item, folder, images, k)
        ]
        received = endpoint.ask_each([q for _, _, q in asked if q is not None], AGAIN, outage)
        every += received
        remaining = iter(received)
        for name, k, question in asked:
            reply = None if question is None else next(remaining)
            replies[name][k].append(None if reply is None else reply.text)
    return collect_verdicts(replies, every, endpoint.tally.missing)


def missing_lines(endpoint: Endpoint) -> list[str]:
    """Why verdicts are missing, a line for each reason, and the tokens that the endpoint counted."""
    tally, lines = endpoint.tally, []
    for why, count in sorted(tally.missing.items()):
        more = " (--ask-again does)" if why == STILL_UNREADABLE else ""
        lines.append(f"{count:,} verdicts missing: {why}{more}")
    if tally.tokens:
        read, written = tally.tokens["prompt"], tally.tokens["completion"]
        lines.append(f"{read:,} tokens in and {written:,} out, says the endpoint")
    return lines


@dataclass(frozen=True)
class MatchedAnswers:
    """Answers after a judge read those that the rules cannot."""

    answers: Mapping[str, str | None]
    """What is scored; None where missing."""
    verdicts: Verdicts
    """Each answer, with the judge's reply about it where it was asked."""
    notes: tuple[str, ...] = ()
    """How many answers the rules could not read, and what became of them."""


def matching_question(benchmark: Benchmark, item: Item, answer: str) -> Question | None:
    """The question to the judge about an answer; None where the rules read it or no judge is used."""
    matching = benchmark.matching
    text = None if matching is None else matching.ask(item, answer)
    if matching is None or text is None:
        return None
    return Question(text, lambda reply: matching.read(item, reply) is not None)


def match_answers(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Mapping[str, str],
    endpoint: Endpoint | None,
) -> MatchedAnswers:
    """Asks the judge, where there is one, about all answers that the rules cannot read."""
    given = {item.id: answers[item.id] for item in items if item.id in answers}
    replies: dict[str, list[list[str | None]]] = {name: [[text]] for name, text in given.items()}
    matching = benchmark.matching
    if matching is None:
        return MatchedAnswers(given, Verdicts(replies))
    asked = [
        (item, question)
        for item in items
        if item.id in given and (question := matching_question(benchmark, item, given[item.id]))
    ]
    note = f"{len(asked):,} of {len(given):,} answers could not be read by the rules"
    if endpoint is None:
        note += " and count as wrong; name a judge for them with --judge-url and --judge-model"
        return MatchedAnswers(given, Verdicts(replies), (note,))
    received = endpoint.ask_each([question for _, question in asked], matching.again)
    settled: dict[str, str | None] = dict(given)
    for (item, _), reply in zip(asked, received, strict=True):
        settled[item.id] = None if reply is None else matching.read(item, reply.text)
        replies[item.id][0].append(None if reply is None else reply.text)
    meanings = [settled[item.id] for item, _ in asked]
    missing, none = meanings.count(None), meanings.count(matching.no_option)
    note += (
        f"; {endpoint.config.model} found the option that is meant for {len(meanings) - missing - none:,} of them and "
        f"none for {none:,}, which are wrong; {missing:,} are missing (where their judge cannot be read, the authors' "
        "code picks an option at random)"
    )
    verdicts = collect_verdicts(replies, received, endpoint.tally.missing)
    return MatchedAnswers(settled, verdicts, (note,))


def count_pictures(benchmark: Benchmark, items: Sequence[Item], folder: Path) -> dict[str, Any]:
    """How many pictures in a folder can be read, and the items whose pictures are missing or broken."""
    states: dict[str, list[str]] = {"whole": [], "missing": [], "broken": []}
    for item in items:
        for k in range(benchmark.images_per_item):
            name = item.id if benchmark.images_per_item == 1 else f"{item.id}, picture {k}"
            states[picture_state(folder, item, k)].append(name)
    return {
        "folder": str(folder),
        "whole": len(states["whole"]),
        "missing": states["missing"],
        "broken": states["broken"],
    }


def report_items(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    images: Path,
    folder: Path,
    replies: Replies,
    result: Result,
) -> Iterator[Shown]:
    """Every item as the report shows it: source, pictures and the replies about each of them; for a
    question the answer, and what a judge took it to mean.
    """
    is_drawn = benchmark.kind != "questions"
    for item in items:
        by_picture = replies.get(item.id) or [[None]] * benchmark.images_per_item
        labels = [
            prompt.text if len(prompt.text) <= SHORT else ""
            for prompt in benchmark.judge_prompts(directory, item)
        ]
        if benchmark.matching is not None:
            labels = ["", "the option that it means, says the judge:"]
        made = []
        for k, texts in enumerate(by_picture):
            padded = [*labels, *[""] * (len(texts) - len(labels))]
            pairs = tuple(Said(label, text) for label, text in zip(padded, texts, strict=False))
            path = picture_path(folder, item, k) if is_drawn else None
            made.append(Made(path, pairs, drawn=is_drawn))
        yield Shown(
            item.id,
            item.text,
            item.group,
            shown_source(images, item),
            tuple(made),
            result.value_of(item),
            result.key_of(item),
        )


def build_report(
    benchmark: Benchmark,
    result: Result,
    endpoint: Endpoint | None,
    verdicts: Verdicts,
    failed: Mapping[str, str],
    pictures: Mapping[str, Any] | None,
    made_by: Mapping[str, Any],
) -> dict[str, Any]:
    """A report as plain data, with the share of missing verdicts among its first entries and how the judge
    was asked.

    made_by: the manifest of the run, or where another system's pictures came from.
    """
    judge = None
    if endpoint is not None:
        judge = {
            "model": endpoint.config.model,
            "called_itself": list(verdicts.models),
            "asked": endpoint.negotiation.report(),
            "tokens": {**(verdicts.tokens or {}), "uncounted_replies": verdicts.uncounted},
            "missing": dict(verdicts.missing),
        }
    return {
        "benchmark": benchmark.name,
        "overall": result.overall.to_dict(),
        "missing_share": result.missing_share,
        "missing": result.missing,
        "verdicts": result.total,
        "items": result.items,
        "judge": judge,
        "groups": {name: score.to_dict() for name, score in result.groups.items()},
        "details": dict(result.details),
        "not_made": dict(failed),
        "made_by": dict(made_by),
        "pictures": None if pictures is None else dict(pictures),
        "values": {group: dict(values) for group, values in result.values.items()},
        "weights": dict(result.weights),
    }


def write_items(items: Sequence[Shown], run: Path) -> None:
    """Writes RUN/items.jsonl: each item's score with its key, pictures and replies.

    Paths below RUN are relative to it, so that the folder can be moved.
    """

    def portable(path: Path | None) -> str | None:
        if path is None:
            return None
        whole, root = path.resolve(), run.resolve()
        return str(whole.relative_to(root) if whole.is_relative_to(root) else whole)

    with (
        atomic_write(run / "items.jsonl") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for item in items:
            line = {
                "id": item.name,
                "group": item.group,
                "text": item.text,
                "value": item.value,
                "key": item.key or item.name,
                "source": portable(item.source),
                "pictures": [portable(made.path) for made in item.made],
                "said": [[said.reply for said in made.said] for made in item.made],
            }
            file.write(json.dumps(line) + "\n")
