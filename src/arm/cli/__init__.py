"""The command line: the verbs of `Arm`, training runs and benchmarks. Heavy imports wait inside."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from arm.cli.analyse import evals
from arm.cli.bench import bench_app
from arm.cli.data import AllowOutside, data_app, encode_data
from arm.cli.export import export_app
from arm.cli.options import (
    Decoder,
    ImageScale,
    Model,
    Seed,
    Temperature,
    TextScale,
    TopK,
    TopP,
    guidance,
    load,
    parse_size,
    quiet,
    sampling,
    split_picture,
    write_json_file,
)
from arm.cli.plan import plan
from arm.cli.serve import serve
from arm.errors import ArmError, InputError, escaped
from arm.files import read_json_object, write_picture

OF_THE_MACHINE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EROFS,
)
"""Errors of the file system that any command may meet: reported in one line, not as a defect."""

app = typer.Typer(
    help="ARM: one next-token model that understands, draws and edits pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def demo(
    model: Model = "micro",
    out: Annotated[Path, typer.Option(help="Folder for sheet.png and the pictures.")] = Path(
        "demo"
    ),
    seed: Seed = 0,
) -> None:
    """Answer, draw and edit held-out inputs; print a table and write a sheet of pictures."""
    from arm.demo import run
    from arm.files import make_folder

    make_folder(out)
    run(load(model), out, seed)


@app.command()
def ask(image: Path, question: str, model: Model = "micro") -> None:
    """Answer a question about a picture."""
    typer.echo(load(model).ask(image, question))


@app.command()
def create(
    prompt: str,
    out: Annotated[Path, typer.Option(help="File of the picture; several get -1, -2, ...")] = Path(
        "created.png"
    ),
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    num_images: Annotated[int, typer.Option("--num-images", "-n", help="How many pictures.")] = 1,
    model: Model = "micro",
    decoder: Decoder = None,
    seed: Seed = 0,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance_scale: TextScale = None,
) -> None:
    """Draw a picture of a prompt."""
    wanted = parse_size(size)
    if not out.suffix:
        raise InputError(f"{out} names no picture file; give one like picture.png")
    arm = load(model, decoder)
    pictures = arm.create(
        prompt,
        size=wanted,
        num_images=num_images,
        seed=seed,
        sampling=sampling(arm.defaults.sampling, temperature, top_k, top_p),
        guidance=guidance(arm.defaults.guidance, guidance_scale),
    )
    for i, picture in enumerate(pictures, 1):
        path = out if num_images == 1 else out.with_stem(f"{out.stem}-{i}")
        write_picture(picture, path)
        typer.echo(path)


@app.command()
def edit(
    image: Path,
    instruction: str,
    out: Annotated[Path, typer.Option(help="File of the edited picture.")] = Path("edited.png"),
    model: Model = "micro",
    decoder: Decoder = None,
    seed: Seed = 0,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance_scale: TextScale = None,
    image_guidance: ImageScale = None,
) -> None:
    """Change a picture by an instruction."""
    arm = load(model, decoder)
    picture = arm.edit(
        image,
        instruction,
        seed=seed,
        sampling=sampling(arm.defaults.edit_sampling, temperature, top_k, top_p),
        guidance=guidance(arm.defaults.edit_guidance, guidance_scale, image_guidance),
    )
    write_picture(picture, out)
    typer.echo(out)


@app.command()
def chat(
    model: Model = "micro",
    out: Annotated[Path, typer.Option(help="Folder for the pictures of the chat.")] = Path("chat"),
    seed: Seed = 0,
) -> None:
    """Talk in words and pictures: draw, ask about it, edit it. `image PATH: text` shows a picture."""
    session = load(model).chat(seed)
    typer.echo("Say something; 'image PATH: words' shows a picture; an empty line ends.", err=True)
    turn = 0
    for line in iter(_read_line, ""):
        turn += 1
        path, words = split_picture(line)
        try:
            reply = session.say(words, path)
        except InputError as error:
            typer.echo(f"arm: {escaped(str(error))}", err=True)
            continue
        if reply.text:
            typer.echo(reply.text)
        if reply.image is not None:
            write_picture(reply.image, out / f"turn-{turn}.png")
            typer.echo(out / f"turn-{turn}.png")


def _read_line() -> str:
    """A line of the user's; "" at the end of input (Ctrl-D)."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    try:
        return input("> ")
    except EOFError:
        typer.echo()  # the shell's prompt begins on a line of its own
        return ""


@app.command()
def encode(
    path: Annotated[
        Path, typer.Argument(help="A picture, or data: a folder, .jsonl, .tar or .parquet.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="codes.json for a picture, the folder codes for data.")
    ] = None,
    model: Model = "micro",
    shard_size: Annotated[int, typer.Option(min=1, help="Records a shard of data.")] = 1000,
    workers: Annotated[
        int, typer.Option(min=1, help="Threads that read pictures; with --ray processes at most.")
    ] = 2,
    ray: Annotated[bool, typer.Option("--ray", help="Encode data in many processes.")] = False,
    allow_outside: AllowOutside = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Encode data with the tokenizer of this run or directory, not a model's."
        ),
    ] = None,
    text_tokenizer: Annotated[
        str | None, typer.Option(help="Count the data's tokens with this directory or hub id.")
    ] = None,
    grids: Annotated[
        list[str] | None,
        typer.Option(
            help="Grids of tokens of data, as 7x7,6x8,8x6; several times for several sizes."
        ),
    ] = None,
) -> None:
    """Turn a picture into its grid of codes, or a data set into code shards to train on."""
    if os.path.isdir(path) or path.suffix.lower() in (".jsonl", ".tar", ".parquet"):
        settings = {"shard_size": shard_size, "workers": workers, "ray": ray}
        encode_data(
            path, out or Path("codes"), model, tokenizer, text_tokenizer, grids or (),
            **settings, allow_outside=allow_outside,
        )  # fmt: skip
        return
    if tokenizer or text_tokenizer or grids:
        raise InputError(
            f"--tokenizer, --text-tokenizer and --grids are for data; {path} is a picture"
        )
    out = out or Path("codes.json")
    codes = load(model).encode(path)
    write_json_file(
        {"height": codes.shape[0], "width": codes.shape[1], "codes": codes.tolist()}, out
    )
    typer.echo(f"{out}: {codes.shape[0]}x{codes.shape[1]} codes")


@app.command()
def decode(
    codes: Path,
    out: Annotated[Path, typer.Option(help="File of the picture.")] = Path("decoded.png"),
    steps: Annotated[int | None, typer.Option(help="Sampling steps of the decoder.")] = None,
    model: Model = "micro",
    decoder: Decoder = None,
    seed: Seed = 0,
) -> None:
    """Turn a grid of codes, as `arm encode` writes it, into a picture."""
    import numpy as np

    try:
        grid = np.array(read_json_object(codes, InputError)["codes"])
    except (InputError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(
            f"{codes} is no file of codes as `arm encode` writes it ({error!r})"
        ) from None
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    write_picture(load(model, decoder).decode(grid, seed=seed, num_steps=steps), out)
    typer.echo(out)


@app.command()
def train(
    run: Annotated[
        str,
        typer.Argument(help="A run, as tokenizer:micro, or FILE.py:FUNCTION; 'list' shows all."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, as loop.steps=100")
    ] = None,
) -> None:
    """Train one stage; called again, it resumes from its newest checkpoint."""
    from arm.config import load_run
    from arm.runs import list_runs

    if run == "list":
        for name, line in list_runs().items():
            typer.echo(f"{name:24} {line}")
        return
    with quiet():
        config = load_run(run, overrides or [])
        from arm.train import parallel
        from arm.train.chain import start

        start(config)
        parallel.destroy_processes()


app.command()(plan)
app.command()(serve)
app.add_typer(evals, name="eval")
app.add_typer(data_app, name="data")
app.add_typer(export_app, name="export")
app.add_typer(bench_app, name="bench")


def _allow_any_bytes() -> None:
    """Lets standard input and output pass bytes that are not UTF-8. A text that holds some is refused where it is
    used (`errors.not_utf8`).
    """
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def main() -> None:
    """Runs a command. Exit codes: see `arm.errors`."""
    _allow_any_bytes()
    try:
        app()
    except ArmError as error:
        typer.echo(f"arm: {escaped(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:
        # A full disk, a forbidden folder or an impossible name is no defect, wherever it occurs.
        if error.errno not in OF_THE_MACHINE:
            raise
        where = f"{str(error.filename)[:200]}: " if error.filename else ""
        typer.echo(f"arm: {where}{error.strerror}; what was finished is kept", err=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code != 130:
            raise
        typer.echo(
            "arm: stopped; what was finished is kept, and the same command goes on from there",
            err=True,
        )
        sys.exit(130)
