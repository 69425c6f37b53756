"""`arm eval NAME` of a published benchmark: settings from the options, and what is printed of a run."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arm.cli.options import load, quiet, write_json_file
from arm.errors import InputError, shown

if TYPE_CHECKING:
    from arm.cli.evaluate import Target
    from arm.evals.cost import Estimate, Prices
    from arm.evals.run import BenchmarkSettings, Outcome
    from arm.judge import JudgeConfig
    from arm.judge.asking import Asking


@dataclass(frozen=True)
class PublishedOptions:
    """Options of the published benchmarks."""

    images: Annotated[
        Path | None,
        typer.Option(help="Folder with the benchmark's own pictures (default: found in --data)."),
    ] = None
    pictures: Annotated[
        Path | None, typer.Option(help="Score this folder of another system's pictures.")
    ] = None
    detector: Annotated[
        str | None,
        typer.Option(help="geneval: a Mask2Former, OWLv2 or Grounding DINO, folder or hub id."),
    ] = None
    clip: Annotated[
        str | None, typer.Option(help="geneval: a CLIP that names colours, folder or hub id.")
    ] = None
    batch: Annotated[
        int, typer.Option(min=1, help="A published one: pictures or answers made together.")
    ] = 1
    shard: Annotated[
        str | None, typer.Option(help="I/N: make the items of one of N processes; score none.")
    ] = None


@dataclass(frozen=True)
class JudgeOptions:
    """Options of the judge and of what it costs."""

    judge_url: Annotated[str | None, typer.Option(help="As http://127.0.0.1:8000/v1.")] = None
    judge_model: Annotated[str | None, typer.Option(help="The judge's pinned model.")] = None
    judge_answers_as: Annotated[
        str | None,
        typer.Option(help="The model's name in the judge's replies, where it is another."),
    ] = None
    judge_max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="The longest answer of the judge (default: its authors')."),
    ] = None
    judge_tokens_field: Annotated[
        str | None,
        typer.Option(help="max_tokens or max_completion_tokens (default: learned by asking)."),
    ] = None
    judge_temperature: Annotated[
        str | None,
        typer.Option(help="The judge's; 'none' leaves it out (default: its authors')."),
    ] = None
    judge_thinking: Annotated[
        bool | None,
        typer.Option(
            "--judge-thinking/--no-judge-thinking",
            help="Whether a judge that can think does (default: its authors').",
        ),
    ] = None
    logprobs: Annotated[
        bool,
        typer.Option("--logprobs", help="Ask for the judge's probability of yes; not all give it."),
    ] = False
    ask_again: Annotated[
        bool, typer.Option("--ask-again", help="Ask again what the judge answered unreadably.")
    ] = False
    price_in: Annotated[
        float | None, typer.Option(help="Of a million tokens that the judge reads.")
    ] = None
    price_out: Annotated[
        float | None, typer.Option(help="Of a million tokens that the judge writes.")
    ] = None
    tokens_per_image: Annotated[
        int | None, typer.Option(min=1, help="Instead of the rule of 512-pixel tiles.")
    ] = None
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a judge is paid.")] = False

    def config(self, asking: "Asking", out: Path) -> "JudgeConfig | None":
        """The judge that the options or $ARM_JUDGE_URL and $ARM_JUDGE_MODEL name; None for none.

        asking: how the benchmark's authors ask theirs, for what no option sets. Raises InputError.
        """
        from arm.judge import JudgeConfig

        url = self.judge_url or os.environ.get("ARM_JUDGE_URL")
        model = self.judge_model or os.environ.get("ARM_JUDGE_MODEL")
        if url is None and model is None:
            return None
        if url is None or model is None:
            raise InputError("a judge needs both --judge-url and --judge-model; one is missing")
        given = self.judge_temperature
        tokens_field = self.judge_tokens_field
        if tokens_field not in (None, "max_tokens", "max_completion_tokens"):
            raise InputError(
                f"--judge-tokens-field is max_tokens or max_completion_tokens, not '{shown(tokens_field)}'"
            )
        try:
            return JudgeConfig(
                url,
                model,
                max_tokens=self.judge_max_tokens or asking.max_tokens,
                tokens_field=tokens_field,
                temperature=asking.temperature if given is None else _temperature(given),
                thinking=asking.thinking if self.judge_thinking is None else self.judge_thinking,
                cache=out / "replies",
                logprobs=self.logprobs,
                ask_again=self.ask_again,
                answers_as=self.judge_answers_as,
            )
        except ValueError as error:
            raise InputError(f"--judge-url: {error}") from None

    def prices(self) -> "Prices | None":
        """Raises InputError for one price without the other, or a negative one."""
        from arm.evals.cost import Prices

        read, written = self.price_in, self.price_out
        if read is None and written is None:
            return None
        if read is None or written is None:
            raise InputError("a price is two numbers: give both --price-in and --price-out")
        # A comparison with NaN is false, so the condition says what is accepted.
        if not (0 <= read < math.inf and 0 <= written < math.inf):
            raise InputError("--price-in and --price-out must be numbers that are at least 0")
        return Prices(read, written)


def _temperature(text: str) -> float | None:
    """A temperature, or None for the word none. Raises InputError."""
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


def settings_of(
    asking: "Asking", target: "Target", published: PublishedOptions, judge: JudgeOptions
) -> "BenchmarkSettings":
    """What the options ask for. Raises InputError."""
    from arm.evals.making import MakeSettings, parse_shard
    from arm.evals.run import BenchmarkSettings

    assert target.data is not None
    return BenchmarkSettings(
        data=target.data,
        out=target.out,
        model=target.model,
        decoder=target.decoder,
        images=published.images,
        pictures=published.pictures,
        make=MakeSettings(target.seed, target.limit, target.known_words, published.batch),
        shard=None if published.shard is None else parse_shard(published.shard),
        judge=judge.config(asking, target.out),
        tokens_per_image=judge.tokens_per_image,
        detector=published.detector,
        clip=published.clip,
    )


def run(name: str, target: "Target", published: PublishedOptions, judge: JudgeOptions) -> None:
    """Runs a published benchmark and prints its outcome."""
    with quiet():
        from arm.evals.benchmarks import find_benchmark
        from arm.evals.run import run_benchmark
        from arm.train import parallel

        asking = find_benchmark(name).asking
        settings, prices = settings_of(asking, target, published, judge), judge.prices()

        def before_judging(model: str, estimate: "Estimate") -> None:
            _confirm(estimate, estimate.words(model, prices), judge.yes)

        outcome = run_benchmark(
            name,
            settings,
            load=load,
            notify=lambda line: typer.echo(line, err=True),
            before_judging=before_judging,
            processes=parallel,
        )
        _print(outcome, settings)
    write_json_file(outcome.report or outcome.submission, _json_file(outcome, target.json_file))


def _json_file(outcome: "Outcome", path: Path | None) -> Path | None:
    """The file of --json where there is something to write into it."""
    return None if outcome.report is None and outcome.submission is None else path


def _confirm(estimate: "Estimate", words: str, yes: bool) -> None:
    """Prints what a judge will cost, and on a terminal asks whether to continue."""
    typer.echo(words, err=True)
    if estimate.questions and sys.stdin.isatty() and sys.stderr.isatty() and not yes:
        if not typer.confirm("Go on?", err=True):
            typer.echo("nothing was asked", err=True)
            raise typer.Exit(1)


def _print(outcome: "Outcome", settings: "BenchmarkSettings") -> None:
    """Prints what a run led to; nothing in processes other than the main one."""
    if outcome.submission is not None:
        entry = outcome.submission
        typer.echo(f"{entry['file']} written with {entry['answered']:,} answers: {entry['advice']}")
    elif settings.shard is not None:
        left = outcome.unmade
        line = f"{outcome.items - len(left):,} of {outcome.items:,} items are made"
        if left:
            line += f", {len(left):,} are still missing, as {', '.join(left[:3])}"
        typer.echo(
            f"{line}; without --shard this command makes what is missing and scores them all"
        )
    elif outcome.report is not None:
        from arm.evals import plots
        from arm.evals.report import print_scores

        report = outcome.report
        typer.echo(f"{settings.out / 'report.html'} written", err=True)
        if without := plots.lacking():
            typer.echo(without, err=True)
        share, verdicts = report["missing_share"], report["verdicts"]
        typer.echo(f"{report['benchmark']}: {share:.1%} of {verdicts} verdicts are missing")
        for note in report["notes"]:
            typer.echo(f"note: {note}", err=True)
        print_scores({key: report[key] for key in ("overall", "groups", "details")})
