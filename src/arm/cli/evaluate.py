"""`arm eval`: the world's benchmarks, comparisons on them, and the published benchmarks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arm.cli.options import Decoder, JsonFile, Model, Seed, load, quiet, write_json_file
from arm.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from arm.evals.harness import Settings
    from arm.judge import JudgeConfig

OWN = ("world", "decoders", "sweep")


def evaluate(
    benchmark: Annotated[
        str, typer.Argument(help="world, decoders, sweep, or a published one; 'list' shows all.")
    ],
    model: Model = "micro",
    decoder: Decoder = None,
    json_file: JsonFile = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and replies.")] = Path("eval"),
    into: Annotated[
        list[Path] | None,
        typer.Option(help="Fill the block <!-- scores --> or <!-- decoders --> of this file."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small sample, with wide intervals.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Folder with a published benchmark's files.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder with the benchmark's own pictures (default: --data)."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Score this folder of another system's pictures.")
    ] = None,
    judge_url: Annotated[str | None, typer.Option(help="As http://127.0.0.1:8000/v1.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge's pinned model.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first items alone, as a trial.")] = None,
    known_words: Annotated[
        bool, typer.Option("--known-words", help="Leave out words that the model does not know.")
    ] = False,
    seed: Seed = 2026,
) -> None:
    """Score a model; prints a table with 95 % intervals."""
    with quiet():
        from arm.evals import harness
        from arm.evals.benchmarks.registry import BENCHMARKS

        published = tuple(BENCHMARKS)
    if benchmark == "list":
        for name in (*OWN, *published):
            typer.echo(name)
        return
    known = (*OWN, *published)
    if benchmark not in known:
        raise InputError(
            f"there is no benchmark '{benchmark}'; there are {', '.join(known)}.{did_you_mean(benchmark, known)}"
        )
    if benchmark in published:
        if data is None:
            raise InputError(f"{benchmark} needs its authors' files: name their folder with --data")
        settings = harness.Settings(seed, limit, known_words)
        config = judge_config(judge_url, judge_model, out)
        _published(
            benchmark,
            model,
            decoder,
            data,
            images or data,
            pictures,
            out,
            config,
            settings,
            json_file,
        )
        return
    arm = load(model, decoder)
    with quiet():
        from dataclasses import replace

        from arm.evals import decoders, sweep, world
        from arm.evals import report as report_tables

        size = world.quick(seed) if quick else replace(world.Size(), seed=seed)

        def report(part: str) -> None:
            typer.echo(f"{part} ...", err=True)

        if benchmark == "world":
            result = world.evaluate(arm, size, report)
        elif benchmark == "sweep":
            result = sweep.sweep(arm, size, report)
        else:
            result = decoders.compare(arm, out, count=32 if quick else 128, seed=seed)
        report_tables.print_scores(result)
    write_json_file(result, json_file)
    for path in into or []:
        report_tables.fill_scores(path, benchmark, result)


def judge_config(url: str | None, model: str | None, out: Path) -> "JudgeConfig | None":
    """The judge that the options or $ARM_JUDGE_URL and $ARM_JUDGE_MODEL name; None for none."""
    from arm.judge import JudgeConfig

    url, model = url or os.environ.get("ARM_JUDGE_URL"), model or os.environ.get("ARM_JUDGE_MODEL")
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise InputError("a judge has a --judge-url and a --judge-model; one of the two is missing")
    try:
        return JudgeConfig(url, model, cache=out / "replies", concurrency=8)
    except ValueError as error:
        raise InputError(f"--judge-url: {error}") from None


def _published(
    name: str,
    model: str,
    decoder: str | None,
    data: Path,
    images: Path,
    pictures: Path | None,
    out: Path,
    config: "JudgeConfig | None",
    settings: "Settings",
    json_file: Path | None,
) -> None:
    """Makes what is not made yet (unless `pictures` are another system's), judges it, reports."""
    from arm.evals import harness
    from arm.evals import report as report_tables
    from arm.evals.benchmarks.registry import BENCHMARKS
    from arm.evals.page import page
    from arm.judge import Endpoint
    from arm.models.weights import weights_hash, write_json
    from arm.pipeline import find_model

    benchmark = BENCHMARKS[name]
    items = benchmark.load(data)[: settings.limit]
    endpoint = None
    if benchmark.kind != "questions":
        if config is None:
            raise InputError(
                f"{name} is scored by a judge: name it with --judge-url and --judge-model"
            )
        endpoint = Endpoint(config)
        endpoint.check()
    failed: dict[str, str] = {}
    folder = pictures or out / "images"
    if pictures is None:
        arm = load(model, decoder)
        with quiet():
            manifest = {
                "benchmark": name,
                "model": model,
                "hash": weights_hash(*sorted({find_model(model), arm.directory})),
                "decoder": decoder or arm.defaults.detokenizer,
                "seed": settings.seed,
                "known_words": settings.known_words,
            }
            harness.begin(out, manifest)
            failed = harness.make(
                arm, benchmark, items, images, out, settings, lambda t: typer.echo(t, err=True)
            )
        for item, why in list(failed.items())[:1]:
            typer.echo(
                f"{len(failed)} of {len(items)} items passed over, as {item}: {why}", err=True
            )
    elif not pictures.is_dir():
        raise InputError(f"{pictures} is no folder of pictures")
    with quiet():
        replies: harness.Replies = {}
        if endpoint is None:
            answers = harness.read_answers(out)
            replies = {name: [[answer]] for name, answer in answers.items()}
            result = benchmark.score(items, answers)
        else:
            calls = sum(len(benchmark.calls(data, item)) for item in items) * benchmark.pictures
            typer.echo(f"{calls:,} questions to {config.model if config else ''}", err=True)
            replies = harness.judge(benchmark, items, data, images, folder, endpoint)
            result = benchmark.score(items, replies)
            for why, count in sorted(endpoint.tally.missing.items()):
                typer.echo(f"{count} verdicts missing: {why}", err=True)
        report = harness.report_of(benchmark, result, config, failed)
        write_json(report, out / "report.json")
        shown_items = harness.shown(benchmark, items, images, folder, replies)
        (out / "report.html").write_text(page(report, shown_items), encoding="utf-8")
        if settings.limit is not None:
            typer.echo(f"only the first {len(items)} items: not a score of {name}", err=True)
        typer.echo(f"{out / 'report.html'} written", err=True)
        typer.echo(f"{name}: {result.missing_share:.1%} of {result.total} verdicts are missing")
        report_tables.print_scores({k: report[k] for k in ("overall", "groups", "details")})
    write_json_file(report, json_file)
