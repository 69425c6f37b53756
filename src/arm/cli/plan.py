"""`arm plan`: what a run costs before it is paid for."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arm.cli.options import JsonFile, write_json_file
from arm.errors import ConfigError, InputError

if TYPE_CHECKING:
    from arm.plan.estimates import Mix
    from arm.plan.hardware import HostMemory
    from arm.plan.language_model import Count, Plan
    from arm.plan.stages import StagePlan
    from arm.train.lm import LMRun


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
    from arm.plan.estimates import Mix
    from arm.plan.hardware import Cluster, gpu_named
    from arm.plan.language_model import plan as plan_language_model
    from arm.train.lm import LMRun

    config = load_run(run, overrides or [])
    given = (code_share, text_share, document_tokens, sample_tokens)
    code = Mix.code if code_share is None else code_share
    rest = Mix.text if code_share is None else 1 - code_share
    try:
        cluster = Cluster(gpu_named(gpu), gpus, mfu)
        text = rest if text_share is None else text_share
        mix = Mix(code, text, document_tokens or 0, sample_tokens or 0)
    except ValueError as error:
        raise InputError(str(error)) from None
    if not isinstance(config, LMRun):
        if measured:
            raise ConfigError(f"--measure is of language-model runs, {run} is no such run")
        from arm.plan.stages import stage_plan

        stage = stage_plan(config, cluster)
        _print_stage(run, stage)
        totals = {"total_bytes": stage.total, "host_bytes": _host(stage.host)}
        write_json_file(asdict(stage) | {"run": run, **totals}, json_file)
        return
    planned = plan_language_model(config, cluster, None if all(g is None for g in given) else mix)
    _print_plan(run, planned)
    result = {"run": run, **planned.to_dict()}
    if measured:
        result["measured"] = _measure(config, mix)
    write_json_file(result, json_file)


def _print_line(name: str, value: str) -> None:
    typer.echo(f"  {name:42} {value:>18}")


def _print_bytes(sizes: Mapping[str, float]) -> None:
    for name, size in sizes.items():
        if size:
            _print_line(name, f"{size / 1e9:.3f} GB")


def _print_plan(run: str, plan: "Plan") -> None:
    cluster, data = plan.cluster, plan.to_dict()
    typer.echo(f"{run} on {cluster.count} {cluster.gpu.name}: {plan.headline}")
    _print_counts(plan.parameters)
    typer.echo(f"memory of a GPU at its fullest moment, the {plan.memory.moment}")
    _print_bytes(data["bytes"])
    _print_line("rows at a time", f"{plan.micro_rows:g}")
    _print_line("most rows at a time that fit", str(plan.largest_micro_rows))
    _print_host(plan.host)
    typer.echo("FLOPs a token")
    for name, flops in data["flops_per_token"].items():
        if flops:
            _print_line(name, f"{flops / 1e9:.4g} GFLOP")
    typer.echo(
        f"speed at {cluster.mfu:.0%} of {cluster.gpu.flops / 1e12:,.0f} TFLOP/s ({cluster.gpu.source})"
    )
    _print_line("tokens a step", f"{plan.tokens_per_step:,.0f}")
    _print_line("tokens a second", f"{plan.tokens_per_second:,.0f}")
    _print_line("tokens a second and GPU", f"{plan.tokens_per_second / cluster.count:,.0f}")
    _print_line(f"hours of {plan.steps:,} steps", f"{plan.hours:,.2f}")
    _print_line("GPU-hours", f"{data['gpu_hours']:,.1f}")
    for note in plan.notes:
        typer.echo(f"- {note}")


def _print_counts(counts: "Mapping[str, Count]") -> None:
    def numbers(total: int, trained: int) -> str:
        return f"{total:,}" + ("" if trained == total else f" ({trained:,})")

    typer.echo("parameters (trained)")
    for name, count in counts.items():
        _print_line(name, numbers(count.total, count.trained))
    total, trained = (sum(getattr(c, n) for c in counts.values()) for n in ("total", "trained"))
    _print_line("total", numbers(total, trained))


def _host(host: "HostMemory") -> dict[str, float]:
    """What of a host's memory one process needs, by kind."""
    return {
        "loading the model (before training)": host.loading,
        "copy of a checkpoint while it is written": host.checkpoint,
        f"/dev/shm ({host.workers} workers x {host.prefetched} batches)": host.shm,
        "total": host.total,
    }


def _print_host(host: "HostMemory") -> None:
    typer.echo("host memory of a process (one a GPU)")
    _print_bytes(_host(host))


def _print_stage(run: str, plan: "StagePlan") -> None:
    typer.echo(f"{run}: {plan.total / 1e9:.3f} GB a GPU before activations")
    _print_counts(plan.parts)
    typer.echo("memory of a GPU")
    _print_bytes(plan.state | plan.sampling)
    _print_host(plan.host)
    for note in plan.notes:
        typer.echo(f"- {note}")


def _measure(run: "LMRun", mix: "Mix") -> dict[str, Any]:
    """Performs a step on this machine and prints it beside the prediction for the same batch."""
    from arm.plan.language_model import compare
    from arm.train.measure import COUNTED

    comparison = compare(run, mix)
    measured = comparison.measured
    typer.echo(f"measured on this machine ({measured.device}), {comparison.batch}")
    typer.echo(f"  {'':20} {'predicted':>14} {'measured':>14} {'ratio':>7}")
    rows = [("memory, GB", comparison.predicted_bytes / 1e9, measured.peak_bytes / 1e9)]
    if measured.flops is not None:
        rows.append(("hardware TFLOP", comparison.predicted_flops / 1e12, measured.flops / 1e12))
    for name, predicted, real in rows:
        typer.echo(f"  {name:20} {predicted:14.5f} {real:14.5f} {predicted / real:7.3f}")
    typer.echo(f"  a step took {measured.seconds:.3f} s")
    typer.echo(f"- FLOPs: {COUNTED}")
    return asdict(comparison)
