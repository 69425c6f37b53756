"""What `arm eval NAME` has to do with a judge: which one, what it will cost, why verdicts are missing."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from arm.errors import InputError, shown

if TYPE_CHECKING:
    from arm.cli.published import Wanted
    from arm.evals.benchmarks.base import Item
    from arm.evals.benchmarks.registry import Benchmark
    from arm.evals.cost import Estimate, Prices, Size
    from arm.judge import Endpoint, JudgeConfig
    from arm.judge.asking import Asking


@dataclass(frozen=True)
class JudgeOptions:
    """The options of `arm eval` about a judge. None: not given, so that `asking` of the benchmark holds.

    temperature: a number, or "none" to leave it to the endpoint.
    """

    url: str | None = None
    model: str | None = None
    answers_as: str | None = None
    max_tokens: int | None = None
    tokens_field: str | None = None
    temperature: str | None = None
    thinking: bool | None = None
    logprobs: bool = False
    ask_again: bool = False


def judge_config(options: JudgeOptions, asking: "Asking", out: Path) -> "JudgeConfig | None":
    """The judge that the options or $ARM_JUDGE_URL and $ARM_JUDGE_MODEL name; None for none.

    asking: how the benchmark's authors ask theirs. Raises InputError for options that do not fit.
    """
    from arm.judge import JudgeConfig

    url = options.url or os.environ.get("ARM_JUDGE_URL")
    model = options.model or os.environ.get("ARM_JUDGE_MODEL")
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise InputError("a judge has a --judge-url and a --judge-model; one of the two is missing")
    temperature = asking.temperature
    if options.temperature is not None:
        temperature = _temperature(options.temperature)
    field = options.tokens_field
    if field not in (None, "max_tokens", "max_completion_tokens"):
        raise InputError(
            f"--judge-tokens-field is max_tokens or max_completion_tokens, not '{shown(field)}'"
        )
    try:
        return JudgeConfig(
            url, model, max_tokens=options.max_tokens or asking.max_tokens, tokens_field=field,
            temperature=temperature, cache=out / "replies", logprobs=options.logprobs,
            thinking=asking.thinking if options.thinking is None else options.thinking,
            ask_again=options.ask_again, answers_as=options.answers_as,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"--judge-url: {error}") from None


def _temperature(text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 2:
        raise InputError(
            f"--judge-temperature is a number from 0 to 2 or 'none', not '{shown(text)}'"
        )
    return value


def judge_prices(read: float | None, written: float | None) -> "Prices | None":
    """Raises InputError for one price without the other, or a negative one."""
    from arm.evals.cost import Prices

    if read is None and written is None:
        return None
    # A NaN is in no order, so what is wanted is asked for.
    if read is None or written is None or not (0 <= read < math.inf and 0 <= written < math.inf):
        raise InputError("a price is two numbers from 0 on: give both --price-in and --price-out")
    return Prices(read, written)


def endpoint_of(
    benchmark: "Benchmark", items: "Sequence[Item]", wanted: "Wanted"
) -> "Endpoint | None":
    """The judge of a benchmark that has one, asked whether it is there before anything is made. One
    that reads answers where the rules cannot is welcome, but not needed.
    """
    from arm.judge import Endpoint

    matches = benchmark.match is not None and wanted.judge is not None
    if benchmark.detected or (benchmark.kind == "questions" and not matches):
        return None
    if wanted.judge is None:
        raise InputError(
            f"{benchmark.name} is scored by a judge: name it with --judge-url and --judge-model"
        )
    if not matches and not any(benchmark.calls(wanted.data, item) for item in items):
        raise InputError(
            f"{wanted.data} has no questions for the judge (DPG-Bench has them in dpg_bench.csv); without "
            "them --shard 0/1 makes the pictures and scores none"
        )
    endpoint = Endpoint(wanted.judge, lambda line: typer.echo(line, err=True))
    endpoint.check()
    return endpoint


def show_cost(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    wanted: "Wanted",
    endpoint: "Endpoint | None",
    unmade: "Size | None",
) -> None:
    """Says what the judge will cost; on a terminal asks whether to go on. `unmade` is the size of
    pictures that are still to be made, None where none will be.
    """
    if endpoint is None:
        return
    if benchmark.kind == "questions":
        found = _of_answers(benchmark, items, wanted, endpoint)
    else:
        found = _of_pictures(benchmark, items, wanted, endpoint, unmade)
    typer.echo(found.words(endpoint.config.model, wanted.prices), err=True)
    if found.questions and sys.stdin.isatty() and sys.stderr.isatty() and not wanted.yes:
        if not typer.confirm("Go on?", err=True):
            typer.echo("nothing was asked", err=True)
            raise typer.Exit(1)


def _of_answers(
    benchmark: "Benchmark", items: "Sequence[Item]", wanted: "Wanted", endpoint: "Endpoint"
) -> "Estimate":
    from arm.evals.answers import answers_of, read_lines, unanswered
    from arm.evals.cost import estimate_matching
    from arm.evals.sources import Fingerprints

    lines = read_lines(wanted.out)
    answers = answers_of(lines)
    for item in unanswered(items, lines, wanted.images, Fingerprints()):
        answers.pop(item.id, None)
    return estimate_matching(
        benchmark, items, answers, endpoint.is_settled, endpoint.config.max_tokens
    )


def _of_pictures(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    wanted: "Wanted",
    endpoint: "Endpoint",
    unmade: "Size | None",
) -> "Estimate":
    from arm.evals import cost
    from arm.evals.making import picture_path
    from arm.evals.scoring import questions_for

    folder = wanted.pictures or wanted.out / "images"
    # Only where replies are kept is it worth the time to read every picture.
    any_kept = any((wanted.out / "replies").glob("*/*.json"))

    def made(item: "Item", index: int) -> "Size | None":
        found = cost.picture_size(picture_path(folder, item, index))
        cannot = benchmark.kind == "editing" and source(item) is None
        return found or (None if cannot else unmade)

    def source(item: "Item") -> "Size | None":
        return None if item.image is None else cost.picture_size(wanted.images / item.image)

    def settled(item: "Item", index: int) -> list[bool]:
        if not any_kept:
            return []
        asked = questions_for(benchmark, wanted.data, item, folder, wanted.images, index)
        return [question is not None and endpoint.is_settled(question) for question in asked]

    config = endpoint.config
    return cost.estimate(
        benchmark, items, wanted.data, made, source, config.min_side, config.max_tokens,
        wanted.tokens_per_image, settled,
    )  # fmt: skip


def tell_missing(endpoint: "Endpoint") -> None:
    """Why verdicts are missing, a line for each reason, and what the endpoint says it took."""
    from arm.judge.endpoint import STILL_UNREADABLE

    tally = endpoint.tally
    for why, count in sorted(tally.missing.items()):
        more = " (--ask-again does)" if why == STILL_UNREADABLE else ""
        typer.echo(f"{count:,} verdicts missing: {why}{more}", err=True)
    if tally.tokens:
        read, written = tally.tokens["prompt"], tally.tokens["completion"]
        typer.echo(f"{read:,} tokens in and {written:,} out, says the endpoint", err=True)
