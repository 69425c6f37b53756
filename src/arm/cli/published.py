"""`arm eval NAME` of a published benchmark: make what is not made yet, judge it, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from arm.cli.judged import endpoint_of, show_cost, tell_missing
from arm.cli.options import load, quiet, write_json_file
from arm.errors import DataError, InputError

if TYPE_CHECKING:
    from arm.evals.benchmarks.base import Item, Result
    from arm.evals.benchmarks.registry import Benchmark
    from arm.evals.cost import Prices
    from arm.evals.detections import Viewer
    from arm.evals.making import Settings, Shard
    from arm.evals.scoring import Verdicts
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
    endpoint = endpoint_of(benchmark, items, wanted) if scores else None
    if wanted.pictures is None:
        made_by, failed = _make(benchmark, items, prompts, wanted, endpoint)
    elif scores:
        made_by, failed = _taken(benchmark, prompts, wanted), {}
        show_cost(benchmark, items, wanted, endpoint, None)
    else:
        raise InputError("--pictures are made already: there is nothing to share")
    if wanted.shard is not None:
        _tell_what_is_left(benchmark, items, wanted)
    elif scores and not _handed_in(benchmark, items, wanted):
        _score(benchmark, items, wanted, endpoint, failed, made_by, viewer)


def _handed_in(benchmark: "Benchmark", items: "Sequence[Item]", wanted: Wanted) -> bool:
    """Whether the authors' server alone can score the answers; then writes and names the file for it."""
    from arm.evals.answers import hand_in

    told = hand_in(benchmark, wanted.data, items, wanted.out)
    if told is None:
        return False
    typer.echo(f"{told['file']} written with {told['answered']:,} answers: {told['advice']}")
    write_json_file(told, wanted.json_file)
    return True


def _viewer(benchmark: "Benchmark", wanted: Wanted) -> "Viewer | None":
    """Detector and CLIP of a benchmark that they look at, loaded before anything is made."""
    if not benchmark.detected:
        return None
    with quiet():
        from arm.evals.detections import load_viewer

        return load_viewer(wanted.detector, wanted.clip)


def _make(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    prompts: str,
    wanted: Wanted,
    endpoint: "Endpoint | None",
) -> tuple[dict[str, Any], dict[str, str]]:
    """Pictures or answers of this process's share; what made them, and what could not be made."""
    from arm.config import to_json
    from arm.evals import making
    from arm.model_directory import find_model, sampler_of
    from arm.models.weights import weights_hash
    from arm.train import parallel

    with quiet():
        parallel.init_processes()  # before the model goes to a GPU: to this process's own
    arm = load(wanted.model, wanted.decoder)
    patch, (height, width) = arm.tokenizer.patch, arm.defaults.grids[0]
    show_cost(benchmark, items, wanted, endpoint, (width * patch, height * patch))
    decoder, elsewhere = wanted.decoder or arm.defaults.detokenizer, ("parts", "detokenizer")
    manifest = {
        "benchmark": benchmark.name,
        "prompts": prompts,
        "model": wanted.model,
        "hash": weights_hash(*sorted({find_model(wanted.model), arm.directory})),
        "decoder": decoder,
        "sampler": sampler_of(arm.directory, decoder),
        "defaults": {k: v for k, v in to_json(arm.defaults).items() if k not in elsewhere},
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
        share = making.Shard(parallel.rank(), parallel.world_size())
        failed = make(wanted.shard or share)
        parallel.barrier()
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
    return made_by | {"prompts": prompts}


def _tell_what_is_left(benchmark: "Benchmark", items: "Sequence[Item]", wanted: Wanted) -> None:
    from arm.evals.making import unmade

    left = unmade(benchmark, items, wanted.out)
    said = f"{len(items) - len(left):,} of {len(items):,} items are made"
    if left:
        said += f", {len(left):,} are still missing, as {', '.join(left[:3])}"
    typer.echo(f"{said}; without --shard this command makes what is missing and scores them all")


def _result(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    wanted: Wanted,
    folder: Path,
    endpoint: "Endpoint | None",
    viewer: "Viewer | None",
) -> "tuple[Result, Verdicts, list[str]]":
    """The score, what it was made of, and notes on this run's own verdicts."""
    from arm.evals import scoring

    if viewer is not None:
        from arm.evals.detections import in_words, see

        right = see(
            viewer, items, benchmark.pictures, folder, wanted.out / "detections",
            lambda line: typer.echo(line, err=True),
        )  # fmt: skip
        return benchmark.score(items, right), scoring.Verdicts(in_words(right)), []
    notes = []
    if benchmark.kind == "questions":
        from arm.evals.answers import read_answers
        from arm.evals.matching import match

        matched = match(benchmark, items, read_answers(wanted.out), endpoint)
        scored, verdicts, notes = matched.answers, matched.verdicts, list(matched.notes)
    else:
        assert endpoint is not None
        verdicts = scoring.judge(benchmark, items, wanted.data, wanted.images, folder, endpoint)
        scored = verdicts.replies
    if endpoint is not None:
        tell_missing(endpoint)
    return benchmark.score(items, scored), verdicts, notes


def _score(
    benchmark: "Benchmark",
    items: "Sequence[Item]",
    wanted: Wanted,
    endpoint: "Endpoint | None",
    failed: Mapping[str, str],
    made_by: Mapping[str, Any],
    viewer: "Viewer | None",
) -> None:
    from arm.evals import plots, scoring
    from arm.evals import report as report_tables
    from arm.evals.html import write_page
    from arm.evals.page import page
    from arm.evals.statistics import mean_score
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
        result, verdicts, notes = _result(benchmark, items, wanted, folder, endpoint, viewer)
        report = scoring.report_of(
            benchmark,
            result,
            endpoint,
            verdicts,
            failed,
            pictures,
            made_by,
        )
        report |= {"notes": [*benchmark.notes, *notes]} if viewer is None else viewer.report()
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
    if without := plots.lacking():
        typer.echo(without, err=True)
    typer.echo(
        f"{benchmark.name}: {result.missing_share:.1%} of {result.total} verdicts are missing"
    )
    for note in report["notes"]:
        typer.echo(f"note: {note}", err=True)
    report_tables.print_scores({k: report[k] for k in ("overall", "groups", "details")})
    write_json_file(report, wanted.json_file)
