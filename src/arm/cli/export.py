"""`arm export`: complete copies of a model, which transformers reads as they are."""

from pathlib import Path
from typing import Annotated

import typer

from arm.cli.options import Model, quiet

export_app = typer.Typer(
    no_args_is_help=True,
    help="Write a complete copy of a model, for `--model` and for transformers.",
)

Out = Annotated[Path, typer.Option("--out", help="A new folder.")]


def _copy(source: str | Path, out: Path) -> None:
    with quiet():
        from arm.hf.files import copy_model

        copy_model(source, out)
    typer.echo(out)


@export_app.command("hf")
def hf(out: Out, model: Model = "micro") -> None:
    """Copy a model: AutoModelForCausalLM and AutoProcessor read it, after `import arm.hf`."""
    _copy(model, out)


@export_app.command("arm")
def arm(
    source: Annotated[Path, typer.Option("--from", help="A folder that transformers saved.")],
    out: Out,
) -> None:
    """Copy a model that transformers saved (model and processor): `--model` reads it."""
    _copy(source, out)
