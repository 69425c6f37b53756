"""`arm bench`: speed and memory as ratios of variants that run side by side."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arm.cli.options import JsonFile, Model, load, quiet, write_json_file
from arm.errors import InputError

if TYPE_CHECKING:
    from arm.bench.rounds import Tick, Trial

bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure speed and memory: variants side by side in one run, as ratios to the first.",
)

Repeats = Annotated[int, typer.Option(min=1, help="Rounds; each runs every variant once.")]


@bench_app.command()
def train(
    run: Annotated[
        str, typer.Argument(help="MODULE:FUNCTION of a language model, as lm:micro_pt.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, as backbone.hidden_size=64")
    ] = None,
    layers: Annotated[
        int, typer.Option(min=0, help="Cut the network to so many layers; 0 keeps the run's.")
    ] = 0,
    tokens: Annotated[
        str | None, typer.Option(help="Lengths of rows, a step of one row each: 4096,16384,81920.")
    ] = None,
    document_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of a packed document; 0 fills rows with one.")
    ] = 0,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also try torch.compile, which costs a minute.")
    ] = False,
    side: Annotated[
        int, typer.Option("--matrix", min=0, help="Side of the measured matrices; 0: large ones.")
    ] = 0,
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """One optimiser step of a run: attention, recomputation, chunks, bf16; its share of the matrix rate.

    Weights are random and made on the device; nothing is read but the run's data where they are there.
    """
    from arm.config import load_run

    config = load_run(run, overrides or [])
    lengths = _numbers(tokens, "--tokens", "4096,16384") if tokens else ()
    with quiet():
        from arm.bench import train as subject
        from arm.train.lm import LMRun
        from arm.train.training import training_device
    if not isinstance(config, LMRun):
        raise InputError(f"{run} is no run of a language model; name one like lm:micro_pt")
    wanted = subject.Wanted(layers, lengths, document_tokens, compiled, side)
    _measure(f"train {run}", subject.trials(config, wanted, training_device()), repeats, json_file)


@bench_app.command()
def generate(
    model: Model = "micro",
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,8,64",
    samples: Annotated[int, typer.Option(min=2, help="Samples of one prompt.")] = 8,
    peer: Annotated[
        bool, typer.Option("--peer/--no-peer", help="transformers' generate on the same weights.")
    ] = True,
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Drawing and answering by batch size, guided and not, beside transformers; one prefill or many.

    Greedy, so that all variants must sample the same tokens; those that do not are left out.
    """
    sizes = _numbers(batch, "--batch", "1,8,64")
    with quiet():
        from arm.bench import generate as subject
        from arm.train.training import training_device
        from arm.world.domain import World

        device = training_device()
        found = subject.trials(load(model), World(), model, sizes, samples, peer, device)
        _measure(f"generate {model}", found, repeats, json_file)


@bench_app.command()
def pictures(
    model: Model = "micro",
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,8,64",
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Pictures a second into codes, and out of codes by each decoder, by batch size."""
    sizes = _numbers(batch, "--batch", "1,8,64")
    with quiet():
        from arm.bench import pictures as subject
        from arm.train.training import training_device
        from arm.world.domain import World

        found = subject.trials(load(model), World(), sizes, training_device())
        _measure(f"pictures {model}", found, repeats, json_file)


def _numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """'1,8' -> (1, 8). Raises InputError for anything else."""
    parts = text.replace(" ", "").split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"{option} '{text}' is no list of numbers above 0; give {example}")
    return tuple(dict.fromkeys(map(int, parts)))


def _measure(subject: str, trials: "Iterable[Trial]", repeats: int, json_file: Path | None) -> None:
    """Measures and prints one table after the other; the file holds all so far."""
    from arm.bench.rounds import described, measure
    from arm.bench.tables import heading, print_table, to_dict
    from arm.train.training import training_device

    device = training_device()
    machine = described(device)
    typer.echo(heading(machine, repeats))
    tables: list[dict[str, Any]] = []
    for trial in trials:
        with _bar(trial, repeats) as tick:
            table = measure(trial, repeats, device, time.perf_counter, tick)
        print_table(table)
        tables.append(to_dict(table))
        found = {"subject": subject, "machine": machine, "repeats": repeats, "tables": tables}
        write_json_file(found, json_file)


@contextmanager
def _bar(trial: "Trial", repeats: int) -> "Iterator[Tick]":
    """A progress bar on a terminal, nothing elsewhere."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("", total=trial.calls(repeats))
        yield lambda name: progress.update(bar, advance=1, description=name)
