"""`arm eval NAME` of a published benchmark: make what is not made yet, judge it, report."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from arm.cli.options import load, quiet, write_json_file
from arm.errors import DataError, InputError

if TYPE_CHECKING:
    from arm.evals.benchmarks.base import Item
    from arm.evals.benchmarks.registry import Benchmark
    from arm.evals.cost import Prices, Size
    from arm.evals.detections import Viewer
    from arm.evals.making import Settings, Shard
    from arm.judge import Endpoint, JudgeConfig


@dataclass(frozen=True)
class Wanted:
    """What the options ask for. data: the authors' files; images: the benchmark's own pictures;
    pictures: another system's, instead of the model's; shard: the share to make, None for all.
    """

    model: str
    decoder: str | None
    data: Path
    images: Path
    pictures: Path | None
    out: Path
    settings: "Settings"
    shard: "Shard | None"
    judge: "JudgeConfig | None"
    prices: "Prices | None"
    tokens_per_image: int | None
    yes: bool
    json_file: Path | None
    detector: str | None = None
    clip: str | None = None


def judge_config(
    url: str | None, model: str | None, out: Path, logprobs: bool = False
) -> "JudgeConfig | None":
    """The judge that the options or $ARM_JUDGE_URL and $ARM_JUDGE_MODEL name; None for none."""
    from arm.judge import JudgeConfig

    url, model = url or os.environ.get("ARM_JUDGE_URL"), model or os.environ.get("ARM_JUDGE_MODEL")
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise InputError("a judge has a --judge-url and a --judge-model; one of the two is missing")
    try:
        return JudgeConfig(url, model, cache=out / "replies", concurrency=8, logprobs=logprobs)
    except ValueError as error:
        raise InputError(f"--judge-url: {error}") from None


def judge_prices(read: float | None, written: float | None) -> "Prices | None":
    """Raises InputError for one price without the other, or a negative one."""
    from arm.evals.cost import Prices

    if read is None and written is None:
        return None
    # A NaN is in no order, so what is wanted is asked for.
    if read is None or written is None or not (0 <= read < math.inf and 0 <= written < math.inf):
        raise InputError("a price is two numbers from 0 on: give both --price-in and --price-out")
    return Prices(read, written)


def run(name: str, wanted: Wanted) -> None:
    """Both halves; with a shard the first alone, and under torchrun the first by all processes."""
    try:
        _run(name, wanted)
    except OSError as error:  # a full disk, a folder that cannot be written
        raise InputError(f"{wanted.out} cannot be used ({error})") from None


def _load(benchmark: "Benchmark", data: Path) -> "list[Item]":
    """All items. Raises DataError."""
    try:
        return benchmark.load(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the files of {benchmark.name} in {data} are damaged or of another version ({error!r})"
        ) from None


def _run(name: str, wanted: Wanted) -> None:
    from arm.evals.benchmarks.registry import BENCHMARKS
    from arm.evals.making import prompts_hash
    from arm.train import parallel

    benchmark = BENCHMARKS[name]
    items = _load(benchmark, wanted.data)
    prompts, items = prompts_hash(items), items[: wanted.settings.limit]
    if wanted.pictures is not None and benchmark.kind == "questions":
        raise InputError(f"{name} asks the model itself: there are no --pictures to score")
    if wanted.pictures is not None and not wanted.pictures.is_dir():
        raise InputError(f"{wanted.pictures} is no folder of pictures")
    if wanted.shard is not None and parallel.world_size() > 1:
        raise InputError("torchrun shares the items by itself; leave --shard away")
    if benchmark.unpack is not None and wanted.images == wanted.data:
        wanted = replace(wanted, images=wanted.out / "sources")
        benchmark.unpack(wanted.data, items, wanted.images)
    scores = parallel.is_main() and wanted.shard is None
    viewer = _viewer(benchmark, wanted) if scores else None
    endpoint = _endpoint(benchmark, items, wanted) if scores else None
    if wanted.pictures is None:
        made_by, failed = _make(benchmark, items, prompts, wanted, endpoint)
    elif scores:
        made_by, failed = _taken(benchmark, prompts, wanted), {}
        _show_cost(benchmark, items, wanted, endpoint, None)
    else:
        raise InputError("--pictures are made already: there is nothing to share")
    if wanted.shard is not None:
        _tell_what_is_left(benchmark, items, wanted)
    elif scores:
        _score(benchmark, items, wanted, endpoint, failed, made_by, viewer)


def _viewer(benchmark: "Benchmark", wanted: Wanted) -> "Viewer | None":
    """Detector and CLIP of a benchmark that they look at, loaded before anything is made."""
    if not benchmark.detected:
        return None
    with quiet():
        from arm.evals.detections import load_viewer

        return load_viewer(wanted.detector, wanted.clip)


def _endpoint(benchmark: "Benchmark", items: "Sequence[Item]", wanted: Wanted) -> "Endpoint | None":
    """The judge of a benchmark that has one, asked whether it is there before anything is made."""
    from arm.judge import Endpoint

    if benchmark.kind == "questions" or benchmark.detected:
        return None
    if wanted.judge is None:
        raise InputError(
            f"{benchmark.name} is scored by a judge: name it with --judge-url and --judge-model"
        )
    if not any(benchmark.calls(wanted.data, item) for item in items):
        raise InputError(
            f"{wanted.data} has no questions for the judge (DPG-Bench has them in dpg_bench.csv); without "
            "them --shard 0/1 makes the pictures and scores none"
        )
    endpoint = Endpoint(wanted.judge)
    endpoint.check()
    return endpoint


def _make(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    prompts: str,
    wanted: Wanted,
    endpoint: "Endpoint | None",
) -> tuple[dict[str, Any], dict[str, str]]:
    """Pictures or answers of this process's share; what made them, and what could not be made."""
    from arm.evals import making
    from arm.models.weights import weights_hash
    from arm.pipeline import find_model
    from arm.train import parallel

    arm = load(wanted.model, wanted.decoder)
    patch, (height, width) = arm.tokenizer.patch, arm.defaults.grids[0]
    _show_cost(benchmark, items, wanted, endpoint, (width * patch, height * patch))
    manifest = {
        "benchmark": benchmark.name,
        "prompts": prompts,
        "model": wanted.model,
        "hash": weights_hash(*sorted({find_model(wanted.model), arm.directory})),
        "decoder": wanted.decoder or arm.defaults.detokenizer,
        "seed": wanted.settings.seed,
        "known_words": wanted.settings.known_words,
    }

    def make(shard: "Shard") -> dict[str, str]:
        def say(line: str) -> None:
            typer.echo(line, err=True)

        return making.make(
            arm, benchmark, items, wanted.images, wanted.out, wanted.settings, shard, say
        )

    with quiet():
        making.begin(wanted.out, manifest)
        parallel.start()
        share = making.Shard(parallel.rank(), parallel.world_size())
        failed = make(wanted.shard or share)
        parallel.wait()
        if share.count > 1 and parallel.is_main():
            failed = make(making.WHOLE)  # all is made; what the others could not make is named
    if failed:
        item, why = next(iter(failed.items()))
        typer.echo(f"{len(failed)} of {len(items)} items passed over, as {item}: {why}", err=True)
    return manifest, failed


def _taken(benchmark: "Benchmark", prompts: str, wanted: Wanted) -> dict[str, Any]:
    """What is known of a folder of pictures that is there already. Keeps its run apart from others."""
    from arm.evals import making
    from arm.evals.benchmarks.base import json_object

    assert wanted.pictures is not None
    own = wanted.out / "manifest.json"
    if wanted.pictures.resolve() == (wanted.out / "images").resolve() and own.is_file():
        made_by = json_object(own)
        known = made_by.get("benchmark"), made_by.get("prompts", prompts)
        if known != (benchmark.name, prompts):
            raise InputError(f"{wanted.out} was made for other prompts; name another --out")
        return made_by
    made_by = {"benchmark": benchmark.name, "pictures": str(wanted.pictures.resolve())}
    making.begin(wanted.out, made_by)
    return made_by


def _show_cost(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    wanted: Wanted,
    endpoint: "Endpoint | None",
    unmade: "Size | None",
) -> None:
    """Says what the judge will cost; on a terminal asks whether to go on. `unmade` is the size of
    pictures that are still to be made, None where none will be.
    """
    from arm.evals import cost
    from arm.evals.making import picture_path

    if endpoint is None:
        return
    folder = wanted.pictures or wanted.out / "images"

    def made(item: "Item", index: int) -> "Size | None":
        found = cost.picture_size(picture_path(folder, item, index))
        cannot = benchmark.kind == "editing" and source(item) is None
        return found or (None if cannot else unmade)

    def source(item: "Item") -> "Size | None":
        return None if item.image is None else cost.picture_size(wanted.images / item.image)

    config = endpoint.config
    found = cost.estimate(
        benchmark, items, wanted.data, made, source, config.min_side, config.max_tokens,
        wanted.tokens_per_image,
    )  # fmt: skip
    kept = sum(1 for _ in (wanted.out / "replies").glob("*/*.json"))
    typer.echo(found.words(config.model, kept, wanted.prices), err=True)
    if sys.stdin.isatty() and sys.stderr.isatty() and not wanted.yes:
        if not typer.confirm("Go on?", err=True):
            typer.echo("nothing was asked", err=True)
            raise typer.Exit(1)


def _tell_what_is_left(benchmark: "Benchmark", items: "Sequence[Item]", wanted: Wanted) -> None:
    from arm.evals.making import unmade

    left = unmade(benchmark, items, wanted.out)
    said = f"{len(items) - len(left):,} of {len(items):,} items are made"
    if left:
        said += f", {len(left):,} are still missing, as {', '.join(left[:3])}"
    typer.echo(f"{said}; without --shard this command makes what is missing and scores them all")


def _score(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    wanted: Wanted,
    endpoint: "Endpoint | None",
    failed: Mapping[str, str],
    made_by: Mapping[str, Any],
    viewer: "Viewer | None",
) -> None:
    from arm.evals import making, plots, scoring
    from arm.evals import report as report_tables
    from arm.evals.html import write_page
    from arm.evals.intervals import mean_score
    from arm.evals.page import page
    from arm.models.weights import write_json

    out = wanted.out
    out.mkdir(parents=True, exist_ok=True)
    folder = wanted.pictures or out / "images"
    pictures = None
    with quiet():
        if benchmark.kind != "questions":
            pictures = scoring.pictures_found(benchmark, items, folder)
            for kind in ("missing", "broken"):
                if names := pictures[kind]:
                    few = ", ".join(names[:3])
                    typer.echo(f"{len(names):,} pictures are {kind}, as {few}", err=True)
        if viewer is not None:
            from arm.evals.detections import in_words, see

            right = see(
                viewer, items, benchmark.pictures, folder, out / "detections",
                lambda line: typer.echo(line, err=True),
            )  # fmt: skip
            result, verdicts = benchmark.score(items, right), scoring.Verdicts(in_words(right))
        elif endpoint is None:
            answers = making.read_answers(out)
            result = benchmark.score(items, answers)
            verdicts = scoring.Verdicts({i: [[answer]] for i, answer in answers.items()})
        else:
            verdicts = scoring.judge(benchmark, items, wanted.data, wanted.images, folder, endpoint)
            tally = endpoint.tally
            for why, count in sorted(tally.missing.items()):
                typer.echo(f"{count} verdicts missing: {why}", err=True)
            if tally.tokens:
                read, written = tally.tokens["prompt"], tally.tokens["completion"]
                typer.echo(f"{read:,} tokens in and {written:,} out, says the endpoint", err=True)
            result = benchmark.score(items, verdicts.replies)
        report = scoring.report_of(
            benchmark,
            result,
            wanted.judge if endpoint else None,
            verdicts,
            failed,
            pictures,
            made_by,
        )
        report |= {"notes": list(benchmark.notes)} if viewer is None else viewer.report()
        silent = sorted({item.group for item in items} - result.groups.keys())
        if silent:
            lost = f"no verdict at all in {', '.join(silent)}: the score is of the other categories alone"
            report["notes"] = [lost, *report["notes"]]
        if verdicts.yes:
            mean = mean_score(verdicts.yes)
            report["judge"]["yes_probability"] = mean.to_dict()
            report["notes"].append(
                f"where a reply began with yes or no, its mean probability of yes was {mean.value:.3f} "
                f"({mean.low:.3f} - {mean.high:.3f}, {mean.n} replies)"
            )
        if wanted.settings.limit is not None:
            trial = f"only the first {len(items)} items: not a score of {benchmark.name}"
            report["notes"] = [trial, *report["notes"]]
        write_json(report, out / "report.json")
        shown = list(
            scoring.shown(
                benchmark, items, wanted.data, wanted.images, folder, verdicts.replies, result
            )
        )
        scoring.write_items(shown, out)
        text = page(report, shown, plots.inline(report))
        write_page(text, out / "report.html")
    typer.echo(f"{out / 'report.html'} written", err=True)
    typer.echo(
        f"{benchmark.name}: {result.missing_share:.1%} of {result.total} verdicts are missing"
    )
    for note in report["notes"]:
        typer.echo(f"note: {note}", err=True)
    report_tables.print_scores({k: report[k] for k in ("overall", "groups", "details")})
    write_json_file(report, wanted.json_file)
