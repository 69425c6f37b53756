"""`arm export`: to the layout of Hugging Face's transformers, and back."""

from pathlib import Path
from typing import Annotated

import typer

from arm.cli.options import Model, quiet

export_app = typer.Typer(no_args_is_help=True, help="Write a model for other libraries, or back.")

Out = Annotated[Path, typer.Option("--out", help="A new folder.")]


@export_app.command("hf")
def hf(out: Out, model: Model = "micro") -> None:
    """Write a model for transformers: AutoModelForCausalLM and AutoProcessor, after `import arm.hf`."""
    with quiet():
        from arm.hf.files import to_hf

        to_hf(model, out)
    typer.echo(out)


@export_app.command("arm")
def arm(
    source: Annotated[Path, typer.Option("--from", help="A folder of transformers' layout.")],
    out: Out,
) -> None:
    """Write a model that transformers saved as one for `--model`."""
    with quiet():
        from arm.hf.files import from_hf

        from_hf(source, out)
    typer.echo(out)
