"""Free answers to multiple choice, before a judge: which option is meant where the rules find none.

For benchmarks whose authors ask a language model there (`Benchmark.match`). The judge sees words alone, and
what it says stands in the answer's place. An answer that it could not be asked about is missing, never wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.mmbench import NO_OPTION
from arm.evals.benchmarks.registry import Benchmark
from arm.evals.scoring import Verdicts, verdicts_of
from arm.judge import Endpoint, Question

AGAIN = (
    "Write one capital letter and nothing else: that of the option that is meant, or Z for none."
)


@dataclass(frozen=True)
class Matched:
    """answers: as they are to be scored, None where missing. verdicts: each answer, and what the judge
    said of those that it was asked about. notes: what became of the answers that the rules cannot read.
    """

    answers: Mapping[str, str | None]
    verdicts: Verdicts
    notes: tuple[str, ...] = ()


def question_about(benchmark: Benchmark, item: Item, answer: str) -> Question | None:
    """None where the rules read the answer, or where nobody is asked."""
    how = benchmark.match
    text = None if how is None else how.ask(item, answer)
    if how is None or text is None:
        return None
    return Question(text, lambda reply: how.read(item, reply) is not None)


def match(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Mapping[str, str],
    endpoint: Endpoint | None,
) -> Matched:
    """Asks the judge, where there is one, about all answers that the rules cannot read."""
    told = {item.id: answers[item.id] for item in items if item.id in answers}
    said: dict[str, list[list[str | None]]] = {name: [[answer]] for name, answer in told.items()}
    how = benchmark.match
    if how is None:
        return Matched(told, Verdicts(said))
    asked = [
        (item, question)
        for item in items
        if item.id in told and (question := question_about(benchmark, item, told[item.id]))
    ]
    note = f"{len(asked):,} of {len(told):,} answers could not be read by the rules"
    if endpoint is None:
        note += " and count as wrong; name a judge for them with --judge-url and --judge-model"
        return Matched(told, Verdicts(said), (note,))
    found = endpoint.ask_each([question for _, question in asked], AGAIN)
    settled: dict[str, str | None] = dict(told)
    for (item, _), reply in zip(asked, found, strict=True):
        settled[item.id] = None if reply is None else how.read(item, reply.text)
        said[item.id][0].append(None if reply is None else reply.text)
    meant = [settled[item.id] for item, _ in asked]
    missing, none = meant.count(None), meant.count(NO_OPTION)
    note += (
        f"; {endpoint.config.model} found which option is meant for {len(meant) - missing - none:,} of them, that none "
        f"is for {none:,}, which are wrong, and {missing:,} are missing (where their judge cannot be read, the "
        "authors' code draws an option at random)"
    )
    return Matched(settled, verdicts_of(said, found, endpoint.tally.missing), (note,))
