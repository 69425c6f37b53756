"""`arm data`: checks and converts users' data before anything is trained on it; and `arm encode` of a data set."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arm.cli.options import JsonFile, Model, quiet, write_json_file
from arm.errors import DataError, InputError, shown

if TYPE_CHECKING:
    from arm.data.check import Report
    from arm.data.records import Skipped, Source

AllowOutside = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Let the data name pictures outside of its folder: absolute paths, ../",
    ),
]

data_app = typer.Typer(
    help="Check a data set, or convert a public one.", no_args_is_help=True, rich_markup_mode=None
)


def progress(description: str, total: int | None = None) -> Callable[[Iterable[Any]], Any]:
    """A function that wraps a loop to show a progress bar on stderr, where that is a terminal."""
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
    allow_outside: AllowOutside = False,
    json: JsonFile = None,
) -> None:
    """Read every record and picture; say what is there and name every fault. Exit code 1 with faults."""
    from arm.data.check import check_source
    from arm.data.sources import open_source

    source = open_source(path, allow_outside)
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
    table.add_column(shown(report.name), overflow="fold")
    table.add_row("records", f"{report.records:,}")
    for task, count in sorted(report.tasks.items()):
        table.add_row(f"  {task}", f"{count:,}")
    table.add_row("images", f"{report.images:,}")
    for side in ("width", "height"):
        if (spread := getattr(report, side)) is not None:
            sizes = f"{spread.least} / {spread.median} / {spread.largest}"
            table.add_row(f"  {side}, least / median / largest", sizes)
    length, where = report.longest_text
    table.add_row("longest text", f"{length:,} characters ({where})")
    table.add_row("faults", f"{report.num_faults:,}")
    Console(highlight=False, markup=False).print(table)
    for group in report.left_out:
        typer.echo(f"left out: {group}")
    for fault in report.faults:
        typer.echo(fault)
    if more := report.num_faults - len(report.faults):
        typer.echo(f"... and {more:,} more")


@data_app.command()
def convert(
    format: Annotated[
        str,
        typer.Argument(
            help="magicbrush, hqedit, omniedit, ultraedit, seededit, llava, video or iconify."
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="A Parquet, JSONL, JSON or video file, a folder of them, or the npm package's folder."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="New folder for the records and the pictures.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures that the rows name.")
    ] = None,
    allow_outside: AllowOutside = False,
    every: Annotated[int, typer.Option(min=1, help="Of a video, keep every n-th frame.")] = 30,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video in one record.")] = 8,
    sets: Annotated[
        list[str] | None, typer.Option(help="Of icons, the sets to read; may be repeated.")
    ] = None,
    size: Annotated[int, typer.Option(help="Of icons, pixels of a side.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of icons, of splits and phrasings.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Of icons, processes that render.")] = 1,
) -> None:
    """Turn a public data set's own files, videos or icon sets into records that `arm` reads."""
    if format == "iconify":
        _convert_icons(source, out, sets or (), size, seed, workers)
        return
    if format == "video":
        from arm.data.video import convert_videos

        count, skipped = convert_videos(source, out, every, frames, progress("converting"))
    else:
        from arm.data.convert import convert as run

        count, skipped = run(format, source, out, images, progress("converting"), allow_outside)
    kind = "videos" if format == "video" else "rows"
    more = f"; {skipped:,} {kind} skipped, see {out / 'skipped.jsonl'}" if skipped else ""
    typer.echo(f"{shown(str(out / 'train.jsonl'))}: {count:,} records{more}")


def _convert_icons(
    package: Path, out: Path, sets: Sequence[str], size: int, seed: int, workers: int
) -> None:
    from arm.icons.convert import convert_iconify
    from arm.icons.corpus import Settings

    settings = Settings(tuple(sorted(set(sets))), size, seed)
    made = convert_iconify(
        package,
        out,
        settings,
        lambda items, description, total: progress(description, total)(items),
        workers,
    )
    counts = ", ".join(f"{n:,} {split}" for split, n in made.icons.items())
    typer.echo(f"{shown(str(out))}: {made.num_records:,} records of icons ({counts})")
    for split, kinds in made.records.items():
        typer.echo(f"  {split}: {sum(kinds.values()):,} records of {len(kinds)} kinds")
    typer.echo(
        f"near-copies of held-out icons in training: {made.twins_before:,} before the purge, "
        f"{made.twins_after:,} after it"
    )


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
        raise InputError(
            f"{shown(str(out))} cannot be written ({shown(str(error))}); make room there"
        ) from None
    typer.echo(
        f"{out}: {len(grown):,} words, {len(new):,} of them new{': ' if new else ''}{' '.join(new[:20])}"
    )
    _say_skipped(len(skipped), out)


def _texts(source: "Source", indices: Iterable[int], skipped: "Skipped") -> Iterator[str]:
    """The text of every message; damaged records are added to `skipped`."""
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


def parse_grids(text: str) -> list[tuple[int, int]]:
    """ "7x7,6x8" -> [(7, 7), (6, 8)], rows by columns of tokens. Raises InputError for anything else."""
    grids = []
    for part in text.split(","):
        sides = part.strip().lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
            raise InputError(
                f"'{shown(text)}' are no grids; write rows by columns of tokens, as 16x16,14x18,18x14"
            )
        grids.append((int(sides[0]), int(sides[1])))
    return grids


def encode_data(
    path: Path,
    out: Path,
    model: str,
    tokenizer: Path | None,
    text_tokenizer: str | None,
    grids: Sequence[str],
    **settings: Any,
) -> None:
    """Runs `arm encode` on a data set. settings: fields of `EncodeDataRun`.

    Each of several `grids` is a size of its own, written to a folder of `out` with its name.
    """
    sizes = {text: parse_grids(text) for text in grids} or {"": []}
    with quiet():
        from arm.train.encode_data import main, run_for_model, run_for_tokenizer

        for name, size in sizes.items():
            place = out / name.replace(",", "_") if len(sizes) > 1 else out
            if tokenizer is None:
                run = run_for_model(model, path, place, **settings)
                run = replace(run, grids=tuple(size) or run.grids)
            else:
                run = run_for_tokenizer(tokenizer, path, place, size, **settings)
            made = main(run)
            typer.echo(
                f"{place}: {made.shards} shards with {made.pictures:,} pictures written in "
                f"{made.seconds:.0f} s"
            )
            _say_skipped(made.skipped, place)
            for group in made.left_out:
                typer.echo(f"left out: {group}")
            if text_tokenizer is not None:
                _say_lengths(place, text_tokenizer)


def _say_lengths(shards: Path, text_tokenizer: str) -> None:
    """Prints how many tokens the conversations of code shards have, which `row_length` has to hold."""
    with quiet():
        from arm.data.code_shards import open_code_shards
        from arm.data.conversation import to_sample
        from arm.models.pretrained import load_text_tokenizer
        from arm.models.text import TextTokenizer
        from arm.sequence import flatten
        from arm.vocab import Vocab

        words = TextTokenizer(load_text_tokenizer(text_tokenizer))
        lengths, unread = [], 0
        for conversation, codes in progress("counting tokens")(open_code_shards(shards)):
            side = max((max(grid.shape) for grid in codes), default=1)
            most = max((int(grid.max()) for grid in codes), default=0)
            try:
                sample = to_sample(conversation, codes, words.ids)
            except InputError:
                unread += 1
                continue
            lengths.append(len(flatten(sample, Vocab(words.size, most + 1, side))))
    if lengths:
        typer.echo(
            f"{sum(lengths):,} tokens with {text_tokenizer}; the longest of {len(lengths):,} conversations "
            f"has {max(lengths):,}"
        )
    if unread:
        typer.echo(f"{unread:,} conversations have words that {text_tokenizer} does not know")
