"""`arm eval compare` and `arm eval plot`; any other word after `arm eval` is a benchmark."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from arm.cli.evaluate import evaluate
from arm.cli.options import JsonFile, write_json_file


class EvalGroup(TyperGroup):
    """Hands a word that is no command of its own to the benchmarks."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name = args[0] if args[0] in self.commands else "benchmark"
        return name, self.commands[name], args[1:] if args[0] == name else args


evals = typer.Typer(
    cls=EvalGroup,
    no_args_is_help=True,
    context_settings={"ignore_unknown_options": True},  # options may stand before the name
    help="Score a model: arm eval BENCHMARK. `arm eval list` names the benchmarks, "
    "`arm eval benchmark --help` the options.",
)
evals.command("benchmark")(evaluate)


@evals.command()
def compare(
    run_a: Path,
    run_b: Path,
    json_file: JsonFile = None,
    html: Annotated[
        Path | None, typer.Option(help="Write both runs' pictures side by side to this file.")
    ] = None,
    any_judge: Annotated[
        bool, typer.Option("--any-judge", help="Compare although two judges scored.")
    ] = False,
    any_prompts: Annotated[
        bool, typer.Option("--any-prompts", help="Compare although the prompts differ.")
    ] = False,
) -> None:
    """Compare two runs of one benchmark item by item: A minus B, with intervals and tests."""
    from arm.evals import plots
    from arm.evals.compare_page import compare_page, p_text
    from arm.evals.html import write_page
    from arm.evals.report import print_differences
    from arm.evals.runs import compare_runs, read_run

    a, b = read_run(run_a), read_run(run_b)
    comparison = compare_runs(a, b, any_judge, any_prompts)
    found = comparison.to_dict(a, b)
    for name in ("a", "b"):
        side = found[name]
        typer.echo(
            f"{name.upper()} {side['run']}: {side['common_mean']:.3f} on {found['common_items']:,} common items, "
            f"{side['missing']:,} missing, {side['only_here']:,} scored here alone"
        )
    print_differences(found, p_text)
    write_json_file(found, json_file)
    if html is not None:
        write_page(compare_page(comparison, a, b, plots.inline(found)), html)
        typer.echo(f"{html} written", err=True)
        if without := plots.lacking():
            typer.echo(without, err=True)


@evals.command()
def plot(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run, the --json file of world, sweep, guidance or compare, or the table of a synergy run."
        ),
    ],
    out: Annotated[Path, typer.Option(help="An .svg or .png file.")] = Path("plot.svg"),
) -> None:
    """Draw scores by category, over sampling or guidance, or through reinforcement learning."""
    from arm.evals.plots import plot as draw

    draw(source, out)
    typer.echo(out)
