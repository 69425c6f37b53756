"""`arm eval`: the world's benchmarks, comparisons on them, and the published benchmarks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from arm.cli.options import (
    Decoder,
    JsonFile,
    Model,
    Seed,
    load,
    option_groups,
    quiet,
    write_json_file,
)
from arm.cli.published import JudgeOptions, PublishedOptions, run
from arm.errors import InputError, did_you_mean
from arm.files import make_folder, write_picture

OWN = ("world", "decoders", "sweep", "guidance", "tokenizer")
PAINTING = ("decoders", "guidance", "tokenizer")
"""Those that write a sheet of pictures to --out."""


@dataclass(frozen=True)
class Target:
    """What is evaluated, on what, and where the results go."""

    model: Model = "micro"
    decoder: Decoder = None
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with a published benchmark's files; tokenizer: of pictures."),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder for pictures and replies.")] = Path("eval")
    json_file: JsonFile = None
    limit: Annotated[int | None, typer.Option(min=1, help="The first items alone, as a trial.")] = (
        None
    )
    known_words: Annotated[
        bool, typer.Option("--known-words", help="Leave out words that the model does not know.")
    ] = False
    seed: Seed = 2026


@dataclass(frozen=True)
class OwnOptions:
    """Options of the project's own benchmarks."""

    into: Annotated[
        list[Path] | None,
        typer.Option(help="Fill the block <!-- scores --> or <!-- decoders --> of this file."),
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="A small sample, with wide intervals.")] = (
        False
    )
    split: Annotated[
        Literal["dev", "test"],
        typer.Option(help="Held-out combinations: test to report, dev to choose by."),
    ] = "test"
    extractor: Annotated[
        str | None, typer.Option(help="tokenizer: vision model for rFID, folder or hub id.")
    ] = None


@option_groups
def evaluate(
    benchmark: Annotated[
        str,
        typer.Argument(
            help="world, decoders, sweep, guidance, tokenizer, or a published one; 'list' shows all."
        ),
    ],
    target: Target,
    own: OwnOptions,
    published: PublishedOptions,
    judge: JudgeOptions,
) -> None:
    """Score a model; prints a table with 95 % intervals."""
    with quiet():
        from arm.evals.benchmarks import BENCHMARKS
    known = (*OWN, *BENCHMARKS)
    if benchmark == "list":
        for name in known:
            typer.echo(name)
        return
    if benchmark not in known:
        raise InputError(
            f"there is no benchmark '{benchmark}'; there are {', '.join(known)}.{did_you_mean(benchmark, known)}"
        )
    if benchmark in BENCHMARKS:
        if target.data is None:
            raise InputError(f"{benchmark} needs its authors' files: name their folder with --data")
        if own.quick or own.into:
            raise InputError(
                f"--quick and --into belong to the world's benchmarks; a sample of {benchmark} is --limit N"
            )
        run(benchmark, target, published, judge)
    elif benchmark == "tokenizer":
        _tokenizer(target, own)
    else:
        _world(benchmark, target, own)


def _check_outputs(benchmark: str, target: Target, own: OwnOptions) -> None:
    """Raises InputError where a file or folder for the results cannot be written, before an hour of work."""
    from arm.evals import report as report_tables

    for path in own.into or []:
        report_tables.check_block(path, benchmark)
    if benchmark in PAINTING:
        make_folder(target.out)


def _world(benchmark: str, target: Target, own: OwnOptions) -> None:
    """A benchmark on the world's scenes."""
    with quiet():
        from dataclasses import replace

        from arm.evals import decoders, guidance, tasks
        from arm.evals import report as report_tables
        from arm.world import domain as world

        _check_outputs(benchmark, target, own)
        arm = load(target.model, target.decoder)
        seed = target.seed
        size = tasks.quick_size(seed) if own.quick else replace(tasks.EvalSize(), seed=seed)

        def report(part: str) -> None:
            typer.echo(f"{part} ...", err=True)

        if benchmark == "world":
            result = world.evaluate(arm, size, report, split=own.split)
        elif benchmark == "sweep":
            result = guidance.sweep(arm, world.World(), size, report)
        elif benchmark == "guidance":
            result = guidance.measure(arm, world.World(), target.out, size, report, own.split)
        else:
            count = 32 if own.quick else 128
            result = decoders.compare(arm, world.World(), target.out, count, seed, own.split)
        report_tables.print_scores(result)
        if benchmark == "world":
            result["made_by"] = world.provenance(target.model, size, own.split)
    write_json_file(result, target.json_file)
    for path in own.into or []:
        report_tables.fill_scores(path, benchmark, result)


def _tokenizer(target: Target, own: OwnOptions) -> None:
    """What is preserved of the pictures of a folder, and a sheet of some of them."""
    with quiet():
        from arm.evals import report as report_tables
        from arm.evals import tokenizer_metrics

        _check_outputs("tokenizer", target, own)
        if target.data is None:
            raise InputError("tokenizer needs a folder of pictures: name it with --data")
        features = (
            None if own.extractor is None else tokenizer_metrics.load_extractor(own.extractor)
        )
        arm = load(target.model, target.decoder)
        result = tokenizer_metrics.evaluate(
            arm,
            target.data,
            features,
            target.limit,
            target.known_words,
            lambda line: typer.echo(line, err=True),
        )
    result["decoder"] = target.decoder or arm.defaults.detokenizer
    broken = result["passed_over"]
    for why in list(broken.values())[:1]:
        typer.echo(f"{len(broken):,} pictures passed over, as {why}", err=True)
    report_tables.print_scores({k: v for k, v in result.items() if k != "passed_over"})
    if own.extractor is not None:
        typer.echo(tokenizer_metrics.RFID_NOTE)
    write_json_file(result, target.json_file)
    with quiet():
        drawn = tokenizer_metrics.reconstruction_sheet(arm, target.data)
    write_picture(drawn, target.out / "reconstructions.png")
    typer.echo(f"{target.out / 'reconstructions.png'} written", err=True)
