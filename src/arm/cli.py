"""The command line: the verbs of `Arm`, training runs and benchmarks. Heavy imports wait inside."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arm.errors import ArmError, InputError, did_you_mean

if TYPE_CHECKING:
    from arm.generate import Guidance, Sampling
    from arm.pipeline import Arm

app = typer.Typer(
    help="ARM: one next-token model that understands, draws and edits pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Model = Annotated[str, typer.Option("--model", help="A shipped name or a directory.")]
Decoder = Annotated[
    str | None, typer.Option("--decoder", help="pixel, flux or sana; the model's own by default.")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same seed gives the same picture.")
]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy; the model's own by default.")]
TopK = Annotated[int | None, typer.Option(help="Sample from the k likeliest codes; 0 from all.")]
TopP = Annotated[float | None, typer.Option(help="Sample from the likeliest codes of this mass.")]
TextScale = Annotated[
    float | None, typer.Option("--guidance", help="Guidance by the text; 1 is none.")
]
ImageScale = Annotated[
    float | None, typer.Option("--image-guidance", help="Guidance by the source.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")]


@contextmanager
def quiet() -> Iterator[None]:
    """Loading bars and notices of the libraries stay out of a user's terminal."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    yield


def load(model: str, decoder: str | None = None) -> "Arm":
    with quiet():
        from arm.pipeline import Arm

        return Arm.from_pretrained(model, decoder)


def sampling(
    default: "Sampling", temperature: float | None, top_k: int | None, top_p: float | None
) -> "Sampling":
    from arm.generate import Sampling

    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    values = {k: getattr(default, k) if v is None else v for k, v in given.items()}
    try:
        return Sampling(**values)
    except ValueError as error:
        raise InputError(str(error)) from None


def guidance(default: "Guidance", text: float | None, image: float | None = None) -> "Guidance":
    from arm.generate import Guidance

    try:
        return Guidance(
            default.text if text is None else text, default.image if image is None else image
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def parse_size(size: str | None) -> tuple[int, int] | None:
    """'64x48' -> (64, 48). Raises InputError for anything else."""
    if size is None:
        return None
    parts = size.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InputError(f"'{size}' is no size; give WIDTHxHEIGHT in pixels, as 56x56")
    return int(parts[0]), int(parts[1])


def write_picture(image: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be written ({error}); name a file like picture.png"
        ) from None


def write_json_file(data: Any, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error})") from None


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
    for line in iter(
        lambda: input("> ") if sys.stdin.isatty() else sys.stdin.readline().strip(), ""
    ):
        turn += 1
        path, words = None, line
        if line.startswith("image ") and ":" in line:
            path, words = (part.strip() for part in line.removeprefix("image ").split(":", 1))
        try:
            reply = session.say(words, path)
        except InputError as error:
            typer.echo(f"arm: {error}", err=True)
            continue
        if reply.text:
            typer.echo(reply.text)
        if reply.image is not None:
            write_picture(reply.image, out / f"turn-{turn}.png")
            typer.echo(out / f"turn-{turn}.png")


@app.command()
def encode(
    image: Path,
    out: Annotated[Path, typer.Option(help="JSON file of the codes.")] = Path("codes.json"),
    model: Model = "micro",
) -> None:
    """Turn a picture into its grid of codes."""
    codes = load(model).encode(image)
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
        grid = np.array(json.loads(codes.read_text(encoding="utf-8"))["codes"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
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
        str, typer.Argument(help="MODULE:FUNCTION, as tokenizer:micro; 'list' shows all.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, as loop.steps=100")
    ] = None,
) -> None:
    """Train one stage; called again, it resumes from its newest checkpoint."""
    from arm.config import list_runs, load_run

    if run == "list":
        for name, line in list_runs().items():
            typer.echo(f"{name:24} {line}")
        return
    with quiet():
        config = load_run(run, overrides or [])
        from arm.train.chain import start

        start(config)


@app.command("eval")
def evaluate(
    benchmark: Annotated[str, typer.Argument(help="world, decoders or sweep")],
    model: Model = "micro",
    decoder: Decoder = None,
    json_file: JsonFile = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures.")] = Path("eval"),
    into: Annotated[
        list[Path] | None,
        typer.Option(help="Fill the block <!-- scores --> or <!-- decoders --> of this file."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small sample, with wide intervals.")
    ] = False,
    seed: Seed = 2026,
) -> None:
    """Score a model; prints a table with 95 % intervals."""
    known = ("world", "decoders", "sweep")
    if benchmark not in known:
        raise InputError(
            f"there is no benchmark '{benchmark}'; there are {', '.join(known)}.{did_you_mean(benchmark, known)}"
        )
    arm = load(model, decoder)
    with quiet():
        from dataclasses import replace

        from arm.evals import decoders, sweep, world
        from arm.evals import report as report_tables

        size = world.quick(seed) if quick else replace(world.Size(), seed=seed)

        def report(part: str) -> None:
            typer.echo(f"{part} ...", err=True)

        if benchmark == "world":
            result = world.evaluate(arm, size, report)
        elif benchmark == "sweep":
            result = sweep.sweep(arm, size, report)
        else:
            result = decoders.compare(arm, out, count=32 if quick else 128, seed=seed)
        report_tables.print_scores(result)
    write_json_file(result, json_file)
    for path in into or []:
        report_tables.fill_scores(path, benchmark, result)


def main() -> None:
    """Runs a command; a user's error is one line on stderr and exit code 2."""
    try:
        app()
    except ArmError as error:
        typer.echo(f"arm: {error}", err=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code != 130:
            raise
        typer.echo("arm: stopped; a training run resumes from its newest checkpoint", err=True)
        sys.exit(130)
