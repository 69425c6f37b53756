"""The second half of a published benchmark: a judge looks at the pictures, and a report is written.

It takes what `making` left in RUN/images, or a plain folder of pictures that another system made, named
ID_K.png or ID.png. No judge call is paid twice: replies are kept, and a killed half goes on.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arm.errors import InputError
from arm.evals.benchmarks.base import Item, Result
from arm.evals.benchmarks.registry import Benchmark
from arm.evals.making import picture_path, state
from arm.evals.page import Made, Said, Shown
from arm.evals.sources import read_picture, source_path
from arm.files import atomic_write
from arm.judge import Endpoint, Exhibit, Question, Reply

Replies = Mapping[str, Sequence[Sequence[str | None]]]
"""`[item][picture][call]`, None where missing."""
AT_ONCE = 16
"""Items whose pictures are held in memory together while the judge looks at them."""
SHORT = 200
"""Questions of at most so many characters are shown beside their replies; rubrics are longer."""
AGAIN = "That could not be read. Answer exactly in the form that was asked for, and nothing else."


@dataclass(frozen=True)
class Verdicts:
    """What a judge said. models: what it called itself, version and all. tokens: what all its replies
    took, as it said itself; `uncounted` replies came without that. yes: the probabilities of a yes that came
    with replies. missing: why verdicts are missing that were to be asked for, and how many.
    """

    replies: Replies
    models: tuple[str, ...] = ()
    tokens: Mapping[str, int] | None = None
    uncounted: int = 0
    yes: tuple[float, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)


def verdicts_of(
    replies: Replies, found: Sequence[Reply | None], missing: Mapping[str, int]
) -> Verdicts:
    """With what all replies in `found` took; a question that stands twice was asked once."""
    paid = {id(reply): reply for reply in found if reply is not None}.values()
    tokens: Counter[str] = Counter()
    for reply in paid:
        tokens.update(reply.tokens or {})
    return Verdicts(
        replies,
        tuple(sorted({reply.model for reply in paid})),
        dict(tokens),
        sum(reply.tokens is None for reply in paid),
        tuple(reply.yes for reply in found if reply is not None and reply.yes is not None),
        dict(missing),
    )


def questions_for(
    benchmark: Benchmark, directory: Path, item: Item, folder: Path, images: Path, index: int
) -> list[Question | None]:
    """The judge's questions about one picture; None where the picture or its source is missing."""
    calls = benchmark.calls(directory, item)
    before = None
    if any(call.with_source for call in calls):
        try:
            before = _exhibit(source_path(images, item))
        except InputError:
            pass
    # Read once: a dozen questions about a picture of a megapixel share it.
    after = _exhibit(picture_path(folder, item, index))
    found: list[Question | None] = []
    for call in calls:
        wanted = [before, after] if call.with_source else [after]
        shown = tuple(exhibit for exhibit in wanted if exhibit is not None)
        whole = len(shown) == len(wanted)
        found.append(Question(call.text, call.readable, shown) if whole else None)
    return found


def _exhibit(path: Path | None) -> Exhibit | None:
    """A picture as a judge is shown it; None where it is missing or broken."""
    picture = None if path is None else read_picture(path)
    return None if picture is None else Exhibit(picture)


def judge(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    images: Path,
    folder: Path,
    endpoint: Endpoint,
) -> Verdicts:
    """What the judge says about every picture in `folder`; None for a missing picture or verdict."""
    replies: dict[str, list[list[str | None]]] = {
        item.id: [[] for _ in range(benchmark.pictures)] for item in items
    }
    every: list[Reply | None] = []
    outage = endpoint.outage()
    for start in range(0, len(items), AT_ONCE):
        asked = [
            (item.id, k, question)
            for item in items[start : start + AT_ONCE]
            for k in range(benchmark.pictures)
            for question in questions_for(benchmark, directory, item, folder, images, k)
        ]
        told = endpoint.ask_each([q for _, _, q in asked if q is not None], AGAIN, outage)
        every += told
        found = iter(told)
        for name, k, question in asked:
            reply = None if question is None else next(found)
            replies[name][k].append(None if reply is None else reply.text)
    return verdicts_of(replies, every, endpoint.tally.missing)


def pictures_found(benchmark: Benchmark, items: Sequence[Item], folder: Path) -> dict[str, Any]:
    """Where the pictures are, how many can be read, and the items of those that cannot."""
    found: dict[str, list[str]] = {"whole": [], "missing": [], "broken": []}
    for item in items:
        for k in range(benchmark.pictures):
            name = item.id if benchmark.pictures == 1 else f"{item.id}, picture {k}"
            found[state(folder, item, k)].append(name)
    return {
        "folder": str(folder),
        "whole": len(found["whole"]),
        "missing": found["missing"],
        "broken": found["broken"],
    }


def shown(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    images: Path,
    folder: Path,
    replies: Replies,
    result: Result,
) -> Iterator[Shown]:
    """Every item as the page shows it: source, each picture that was made, what was said of it; of a
    question the answer, and what a judge took it to mean.
    """
    for item in items:
        told = replies.get(item.id) or [[None]] * benchmark.pictures
        labels = [call.text if len(call.text) <= SHORT else "" for call in
                  benchmark.calls(directory, item)]  # fmt: skip
        if benchmark.match is not None:
            labels = ["", "which option that means, says the judge:"]
        made = []
        for k, said in enumerate(told):
            known = [*labels, *[""] * (len(said) - len(labels))]
            pairs = tuple(Said(a, s) for a, s in zip(known, said, strict=False))
            path = None if benchmark.kind == "questions" else picture_path(folder, item, k)
            made.append(Made(path, pairs, drawn=benchmark.kind != "questions"))
        yield Shown(
            item.id,
            item.text,
            item.group,
            None if item.image is None else images / item.image,
            tuple(made),
            result.value_of(item),
            result.key_of(item),
        )


def report_of(
    benchmark: Benchmark,
    result: Result,
    endpoint: Endpoint | None,
    verdicts: Verdicts,
    failed: Mapping[str, str],
    pictures: Mapping[str, Any] | None,
    made_by: Mapping[str, Any],
) -> dict[str, Any]:
    """A report as plain data, the share of missing verdicts in its first lines, with how the judge was asked.

    made_by: what the manifest says of the run; of another system's pictures, their folder's name.
    """
    about = None
    if endpoint is not None:
        tokens = {**(verdicts.tokens or {}), "uncounted_replies": verdicts.uncounted}
        about = {
            "model": endpoint.config.model,
            "called_itself": list(verdicts.models),
            "asked": endpoint.negotiation.report(),
            "tokens": tokens,
            "missing": dict(verdicts.missing),
        }
    return {
        "benchmark": benchmark.name,
        "overall": result.overall.to_dict(),
        "missing_share": result.missing_share,
        "missing": result.missing,
        "verdicts": result.total,
        "items": result.items,
        "judge": about,
        "groups": {name: score.to_dict() for name, score in result.groups.items()},
        "details": dict(result.details),
        "not_made": dict(failed),
        "made_by": dict(made_by),
        "pictures": None if pictures is None else dict(pictures),
        "values": {group: dict(found) for group, found in result.values.items()},
        "weights": dict(result.weights),
    }


def write_items(items: Sequence[Shown], run: Path) -> None:
    """RUN/items.jsonl, one line an item: its score and under which key of the report's values that stands,
    its pictures and verdicts. Paths below RUN are relative to it, so that the folder can be moved.
    """

    def place(path: Path | None) -> str | None:
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
                "source": place(item.source),
                "pictures": [place(m.path) for m in item.made],
                "said": [[s.reply for s in m.said] for m in item.made],
            }
            file.write(json.dumps(line) + "\n")
