"""`arm plan`: what a run costs before it is paid for."""

import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arm.cli.options import JsonFile, write_json_file
from arm.errors import ConfigError, InputError

if TYPE_CHECKING:
    from arm.train.lm import LMRun
    from arm.train.plan import Cluster, Mix, Plan
    from arm.train.plan_parts import PartsPlan


def plan(
    run: Annotated[str, typer.Argument(help="MODULE:FUNCTION, as lm:micro_pt.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, as loop.steps=100")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs, one process each.")] = 1,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100, b200, ...")] = "h100",
    mfu: Annotated[float, typer.Option(help="Share of the bf16 peak that is reached.")] = 0.4,
    code_share: Annotated[
        float | None, typer.Option(help="Share of tokens with a code's loss; 0.8 by default.")
    ] = None,
    text_share: Annotated[
        float | None, typer.Option(help="Share of tokens with a word's loss; 0.2 by default.")
    ] = None,
    document_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a document; the whole row by default.")
    ] = None,
    sample_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sample, where `samples` counts them.")
    ] = None,
    measured: Annotated[
        bool, typer.Option("--measure", help="Also run a step here, and compare.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Parameters, memory, FLOPs, tokens a second and GPU-hours of a run, from its configuration."""
    from arm.config import load_run
    from arm.train.gpus import gpu_named
    from arm.train.lm import LMRun
    from arm.train.plan import Cluster, Mix
    from arm.train.plan import plan as plan_lm

    config = load_run(run, overrides or [])
    given = (code_share, text_share, document_tokens, sample_tokens)
    try:
        cluster = Cluster(gpu_named(gpu), gpus, mfu)
        rest = None if code_share is None else 1 - code_share
        mix = Mix(
            0.8 if code_share is None else code_share,
            (0.2 if rest is None else rest) if text_share is None else text_share,
            document_tokens or 0,
            sample_tokens or 0,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    if not isinstance(config, LMRun):
        if measured:
            raise ConfigError(f"--measure is of language-model runs, {run} is no such run")
        from arm.train.plan_parts import parts_plan

        _print_parts(run, parts := parts_plan(config, cluster))
        write_json_file(_plain(parts) | {"run": run, "total_bytes": parts.total}, json_file)
        return
    made = plan_lm(config, cluster, None if all(g is None for g in given) else mix)
    _print(run, made)
    found = {"run": run, **made.to_dict()}
    if measured:
        found["measured"] = _measure(config, mix, cluster)
    write_json_file(found, json_file)


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _line(name: str, value: str) -> None:
    typer.echo(f"  {name:32} {value:>18}")


def _print(run: str, plan: "Plan") -> None:
    cluster, data = plan.cluster, plan.to_dict()
    typer.echo(f"{run} on {cluster.count} {cluster.gpu.name}: {plan.headline}")
    _print_counts(plan.parameters)
    typer.echo(f"memory of a GPU at its fullest moment, the {plan.memory.moment}")
    for name, size in data["bytes"].items():
        if size:
            _line(name, f"{size / 1e9:.3f} GB")
    _line("rows at a time", f"{plan.micro_rows:g}")
    _line("most rows at a time that fit", str(plan.largest_micro_rows))
    typer.echo("FLOPs a token")
    for name, size in data["flops_per_token"].items():
        if size:
            _line(name, f"{size / 1e9:.4g} GFLOP")
    typer.echo(
        f"speed at {cluster.mfu:.0%} of {cluster.gpu.flops / 1e12:,.0f} TFLOP/s ({cluster.gpu.source})"
    )
    _line("tokens a step", f"{plan.tokens_per_step:,.0f}")
    _line("tokens a second", f"{plan.tokens_per_second:,.0f}")
    _line("tokens a second and GPU", f"{plan.tokens_per_second / cluster.count:,.0f}")
    _line(f"hours of {plan.steps:,} steps", f"{plan.hours:,.2f}")
    _line("GPU-hours", f"{data['gpu_hours']:,.1f}")
    for note in plan.notes:
        typer.echo(f"- {note}")


def _print_counts(counts: dict[str, Any]) -> None:
    typer.echo("parameters (of them trained)")
    for name, count in counts.items():
        _line(
            name,
            f"{count.total:,}" + ("" if count.trained == count.total else f" ({count.trained:,})"),
        )
    total, trained = (sum(getattr(c, n) for c in counts.values()) for n in ("total", "trained"))
    _line("total", f"{total:,}" + ("" if total == trained else f" ({trained:,})"))


def _print_parts(run: str, plan: "PartsPlan") -> None:
    typer.echo(f"{run}: {plan.total / 1e9:.3f} GB a GPU before activations")
    _print_counts(plan.parts)
    typer.echo("memory of a GPU")
    for name, size in plan.state.items():
        if size:
            _line(name, f"{size / 1e9:.3f} GB")
    for note in plan.notes:
        typer.echo(f"- {note}")


def _measure(run: "LMRun", mix: "Mix", cluster: "Cluster") -> dict[str, Any]:
    """Runs a step on this machine, with what it takes predicted for the same batch."""
    measuring = importlib.import_module("arm.train.measure")
    found = measuring.compare(run, mix)
    typer.echo(f"measured on this machine ({found.measured.device}), {found.batch}")
    typer.echo(f"  {'':20} {'predicted':>14} {'measured':>14} {'ratio':>7}")
    rows = [("memory, GB", found.predicted_bytes / 1e9, found.measured.peak_bytes / 1e9)]
    if found.measured.flops is not None:
        rows.append(("hardware TFLOP", found.predicted_flops / 1e12, found.measured.flops / 1e12))
    for name, expected, real in rows:
        typer.echo(f"  {name:20} {expected:14.5f} {real:14.5f} {expected / real:7.3f}")
    typer.echo(f"  a step took {found.measured.seconds:.3f} s")
    typer.echo(f"- FLOPs: {measuring.COUNTED}")
    return _plain(found)
