"""`arm data`: users' data, checked and converted before anything is trained on it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arm.cli.options import JsonFile, Model, quiet, write_json_file
from arm.errors import DataError, InputError

if TYPE_CHECKING:
    from arm.data.records import Report, Skipped, Source

data_app = typer.Typer(
    help="Check a data set, or convert a public one.", no_args_is_help=True, rich_markup_mode=None
)


def progress(description: str, total: int | None = None) -> Callable[[Iterable[Any]], Any]:
    """Wraps a loop to show a bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()
    return lambda items: track(items, description, total, console=console, disable=quiet)


@data_app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A folder, or a .jsonl, .tar or .parquet file.")],
    images: Annotated[bool, typer.Option(help="Open every picture.")] = True,
    max_faults: Annotated[int, typer.Option(min=0, help="Faults to show; all are counted.")] = 20,
    json: JsonFile = None,
) -> None:
    """Read every record and picture; say what is there and name every fault. Exit code 1 with faults."""
    from arm.data.records import check_source
    from arm.data.sources import open_source

    source = open_source(path)
    report = check_source(source, images=images, max_faults=max_faults, track=progress("checking"))
    _print(report)
    write_json_file(report.to_dict(), json)
    if report.num_faults:
        raise typer.Exit(1)


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    table.add_column("")
    table.add_column(report.name, overflow="fold")
    table.add_row("records", f"{report.records:,}")
    for task, count in sorted(report.tasks.items()):
        table.add_row(f"  {task}", f"{count:,}")
    table.add_row("images", f"{report.images:,}")
    for side in ("width", "height"):
        if (found := getattr(report, side)) is not None:
            sizes = f"{found.least} / {found.median} / {found.largest}"
            table.add_row(f"  {side}, least / median / largest", sizes)
    length, where = report.longest_text
    table.add_row("longest text", f"{length:,} characters ({where})")
    table.add_row("faults", f"{report.num_faults:,}")
    Console(highlight=False).print(table)
    for fault in report.faults:
        typer.echo(fault)
    if more := report.num_faults - len(report.faults):
        typer.echo(f"... and {more:,} more")


@data_app.command()
def convert(
    format: Annotated[
        str, typer.Argument(help="magicbrush, hqedit, omniedit, ultraedit, seededit or llava.")
    ],
    source: Annotated[Path, typer.Argument(help="A Parquet, JSONL or JSON file, or a folder.")],
    out: Annotated[Path, typer.Argument(help="New folder for train.jsonl and the pictures.")],
    images: Annotated[
        Path | None, typer.Option(help="Where pictures lie that the rows name.")
    ] = None,
) -> None:
    """Turn a public data set's own files into records that `arm` reads."""
    from arm.data.convert import convert as run

    count, skipped = run(format, source, out, images, progress("converting"))
    more = f"; {skipped:,} rows skipped, see {out / 'skipped.jsonl'}" if skipped else ""
    typer.echo(f"{out / 'train.jsonl'}: {count:,} records{more}")


@data_app.command()
def words(
    path: Annotated[Path, typer.Argument(help="A data set.")],
    out: Annotated[Path, typer.Option(help="Folder for the tokenizer.")] = Path("words"),
    model: Model = "micro",
) -> None:
    """Write the model's text tokenizer with the words of a data set added, for a model that knows few."""
    from arm.data.records import SKIPPED, Skipped
    from arm.data.sources import open_source
    from arm.files import make_folder

    source = open_source(path)
    make_folder(out)
    with quiet():
        from arm.models.text import with_words
        from arm.pipeline import Arm

        tokenizer = Arm.from_pretrained(model).text_tokenizer.tokenizer
    try:
        (out / SKIPPED).unlink(missing_ok=True)
        skipped = Skipped(out / SKIPPED)
        texts = _texts(source, progress("reading")(range(len(source))), skipped)
        grown, new = with_words(tokenizer, texts)
        grown.save_pretrained(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); make room there") from None
    typer.echo(
        f"{out}: {len(grown):,} words, {len(new):,} of them new{': ' if new else ''}{' '.join(new[:20])}"
    )
    _say_skipped(len(skipped), out)


def _texts(source: "Source", indices: Iterable[int], skipped: "Skipped") -> Iterator[str]:
    """The words of every message; records that are broken are noted."""
    from arm.data.conversation import PLACEHOLDER
    from arm.data.records import without_place

    for index in indices:
        try:
            messages = source.record(index).conversation.messages
        except DataError as error:
            where = source.where(index)
            skipped.add(where, without_place(where, error))
            continue
        yield from (message.content.replace(PLACEHOLDER, " ") for message in messages)


def _say_skipped(count: int, out: Path) -> None:
    if count:
        typer.echo(f"{count:,} records skipped, see {out / 'skipped.jsonl'}")


def encode_data(
    path: Path, out: Path, model: str, shard_size: int, workers: int, ray: bool
) -> None:
    """`arm encode` of a data set."""
    with quiet():
        from arm.train.encode_data import main, run_for_model

        run = run_for_model(model, path, out, shard_size=shard_size, workers=workers, ray=ray)
        made = main(run)
    typer.echo(
        f"{out}: {made.shards} shards with {made.pictures:,} pictures written in {made.seconds:.0f} s"
    )
    _say_skipped(made.skipped, out)
