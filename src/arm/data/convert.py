"""Public data sets, in their authors' layouts (`layouts.py`) -> records (`conversation.py`) as JSONL with pictures
beside it.

Pictures inside a table are written as files, unchanged. A folder of pictures that are files already is not copied: a link
to it stands beside the records.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from arm.data.conversation import parse_conversation
from arm.data.layouts import FORMATS, Convert, Draft, LayoutError
from arm.data.parquet_files import iterate_rows
from arm.data.records import SKIPPED, Skipped, without_place
from arm.data.source_folder import list_folder
from arm.data.source_jsonl import index_lines, parse_json
from arm.data.source_table import picture_data
from arm.errors import DataError, did_you_mean, shown
from arm.files import atomic_write, is_file, keep_picture, make_folder

RECORDS = "train.jsonl"
"""The name of the file of records, in a folder of its own."""
FIRST_ROWS = 1000
"""A source is of another layout where none of its first rows, this many, has the columns that are needed."""
MAX_JSON_BYTES = 2**31
"""The largest JSON file, which is read whole: 2 GiB."""
Track = Callable[[Iterable[Any]], Iterable[Any]]
"""Wraps the rows of a long loop to show how far it is."""


def convert(
    name: str,
    source: Path,
    out: Path,
    images: Path | None = None,
    track: Track = iter,
    allow_outside: bool = False,
) -> tuple[int, int]:
    """Writes `out`/train.jsonl and the pictures under `out`/images; nothing that is there is replaced.

    images: the folder from which a row's names of pictures are looked for; by default the folder
    `images` in the file's own or beside it, else the file's own. allow_outside: rows may name pictures outside of
    it. The file of records is written last.
    Returns how many records were written, and how many rows were skipped because they are no JSON or do
    not fit (they are named in `out`/skipped.jsonl). Raises DataError for an unknown format, no rows, rows of which
    none fits or whose first `FIRST_ROWS` have another layout, and where `out` holds a conversion already;
    InputError where it is no folder.
    """
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(
            f"there is no format '{shown(name)}'; there are {known}.{did_you_mean(name, FORMATS)}"
        )
    files = row_files(source)
    check_unused(out, files)
    make_folder(out / "images")
    try:
        (out / SKIPPED).unlink(missing_ok=True)
        skipped = Skipped(out / SKIPPED)
        rows = track(read_rows(files, skipped))
        with atomic_write(out / RECORDS) as temporary:
            pictures = _Pictures(out, images, allow_outside)
            count = _write(FORMATS[name], rows, pictures, temporary, skipped)
            if not count:
                reason = (
                    f" that can be read; see {shown(str(skipped.path))}" if len(skipped) else ""
                )
                raise DataError(f"{shown(str(source))} holds no rows{reason}")
    except OSError as error:
        raise DataError(
            f"{shown(str(out))} cannot be written ({shown(str(error))}); make room there"
        ) from None
    return count, len(skipped)


def check_unused(out: Path, files: Sequence[Path]) -> None:
    """Raises DataError where `out` holds records already, or a file to read under a name to write."""
    read = {file.resolve() for file in files}
    for path in (out / RECORDS, out / f"{RECORDS}.tmp", out / SKIPPED):
        if path.resolve() in read or (path.name == RECORDS and os.path.lexists(path)):
            raise DataError(
                f"{shown(str(path))} is there already and would be replaced; name a new folder"
            )


def _write(
    convert_row: Convert,
    rows: Iterable[tuple[str, Path, Any]],
    pictures: "_Pictures",
    file: Path,
    skipped: Skipped,
) -> int:
    """Writes every row's records to `file` and its pictures; returns the number of records.

    Raises the error of the first row where no row fits, and where the first rows have another layout.
    """
    count = unfit = 0
    first_error: DataError | None = None
    with file.open("w", encoding="utf-8") as lines:
        for where, folder, row in rows:
            try:
                if not isinstance(row, dict):
                    raise LayoutError(f"{where}: a row must be an object, not {type(row).__name__}")
                drafts = list(convert_row(row, where))
                records, contents = pictures.records(drafts, count, folder, where)
            except DataError as error:
                first_error = first_error or error
                unfit += isinstance(error, LayoutError)
                if not count and unfit == FIRST_ROWS:
                    raise first_error from None
                skipped.add(where, without_place(where, error))
                continue
            for name, content in contents.items():
                write_new_picture(content, pictures.out / name)
            lines.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
            count += len(records)
    if not count and first_error:
        raise first_error
    return count


class _Pictures:
    """The pictures of converted rows: written below `out`, or linked where they are files already."""

    def __init__(self, out: Path, images: Path | None, allow_outside: bool) -> None:
        self.out, self.images, self.allow_outside = out, images, allow_outside
        self.links: dict[Path, str] = {}

    def records(
        self, drafts: Sequence[Draft], first: int, folder: Path, where: str
    ) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
        """The records of one row, numbered from `first`, and the pictures that are to be written, by their names
        below `out`. folder: where the row's names of pictures are looked for, unless `images` says it.
        """
        records = []
        names: dict[int, str] = {}  # by the identity of a row's value, so that each is written once
        contents: dict[str, bytes] = {}
        for number, draft in enumerate(drafts, first):
            images = []
            for k, picture in enumerate(draft.pictures):
                if id(picture) not in names:
                    data = self._data(picture, self.images or folder, f"{where}: picture {k}")
                    if isinstance(data, bytes):
                        names[id(picture)] = f"images/{number:08d}-{k}{suffix_of(data)}"
                        contents[names[id(picture)]] = data
                    else:
                        names[id(picture)] = self._linked(data, self.images or folder)
                images.append(names[id(picture)])
            record: dict[str, Any] = {"id": draft.id, "messages": list(draft.messages)}
            records.append(record | ({"images": images} if images else {}))
            parse_conversation(records[-1], where)
        return records, contents

    def _data(self, picture: Any, folder: Path, where: str) -> Path | bytes:
        """A picture's bytes or its file. Raises DataError where it has neither."""
        data = picture_data(picture, folder, where, self.allow_outside)
        if isinstance(data, Path) and not is_file(data):
            raise DataError(
                f"{where} is not at {shown(str(data))} or may not be read; say with --images where the "
                "pictures lie"
            )
        return data

    def _linked(self, path: Path, folder: Path) -> str:
        """The name of a file by the link to its folder; the whole path of one outside of it."""
        plain = Path(os.path.normpath(path))
        if not plain.is_relative_to(os.path.normpath(folder)):
            return str(plain.absolute())
        if folder not in self.links:
            name, target = f"pictures-{len(self.links)}", folder.resolve()
            link = self.out / name
            if not os.path.lexists(link):
                link.symlink_to(target, target_is_directory=True)
            elif link.resolve() != target:
                raise DataError(
                    f"{shown(str(link))} is there already and another folder; name a new one"
                )
            self.links[folder] = name
        inside = plain.relative_to(os.path.normpath(folder)).as_posix()
        return f"{self.links[folder]}/{inside}"


def write_new_picture(content: bytes, path: Path) -> None:
    """Writes a picture. An interrupted conversion may have left it there; another picture there is a DataError."""
    if is_file(path) and path.read_bytes() != content:
        raise DataError(
            f"{shown(str(path))} is there already and another picture; name a new folder"
        )
    keep_picture(content, path)


def suffix_of(data: bytes) -> str:
    """The usual suffix of a picture's bytes; ".img" for formats other than PNG, JPEG and WebP."""
    for begin, suffix in ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"RIFF", ".webp")):
        if data.startswith(begin):
            return suffix
    return ".img"


def row_files(source: Path) -> list[Path]:
    """The file, or the Parquet, else JSONL, else JSON files below a folder, in order. Raises DataError."""
    if is_file(source):
        return [source]
    if os.path.isdir(source):
        paths = [source / name for name in list_folder(source).files]
        for suffix in (".parquet", ".jsonl", ".json"):
            files = [p for p in paths if p.suffix.lower() == suffix and p.name != SKIPPED]
            if files:
                return sorted(files)
    raise DataError(
        f"{shown(str(source))} is no Parquet, JSONL or JSON file and no folder with any"
    )


def read_rows(files: Sequence[Path], skipped: Skipped) -> Iterator[tuple[str, Path, Any]]:
    """The place of each row, the folder of its pictures, and its columns. Lines that are no JSON are skipped, and of several
    files those that are damaged.
    """
    for path in files:
        beside = [folder / "images" for folder in (path.parent, path.parent.parent)]
        folder = next((folder for folder in beside if folder.is_dir()), path.parent)
        try:
            for where, row in _rows_of(path, skipped):
                yield where, folder, row
        except DataError as error:
            if len(files) == 1:
                raise
            name = shown(str(path))
            skipped.add(name, without_place(name, error))
        except OSError as error:
            raise DataError(
                f"{shown(str(path))} cannot be read ({shown(str(error))}); mind its permissions"
            ) from None


def _rows_of(path: Path, skipped: Skipped) -> Iterator[tuple[str, Any]]:
    """The place of each row of a file, and its columns."""
    name, suffix = shown(path.name), path.suffix.lower()
    if suffix == ".parquet":
        yield from ((f"{name}:row {i}", row) for i, row in enumerate(iterate_rows(path)))
    elif suffix == ".jsonl":
        yield from _lines(path, skipped)
    elif suffix == ".json":
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(
                f"{shown(str(path))} has more than {MAX_JSON_BYTES // 2**30} GiB; write it as JSONL"
            )
        rows = parse_json(path.read_bytes(), name)
        if not isinstance(rows, list):
            raise DataError(f"{shown(str(path))} must be a list of rows")
        yield from ((f"{name}:row {i}", row) for i, row in enumerate(rows))
    else:
        raise DataError(f"{shown(str(path))} must end in .parquet, .jsonl or .json")


def _lines(path: Path, skipped: Skipped) -> Iterator[tuple[str, Any]]:
    """The rows of a JSONL file. A damaged line is skipped wherever it stands."""
    lines = index_lines([path])
    for index in range(len(lines)):
        where = lines.where(index)
        try:
            row = parse_json(lines.read(index), where)
        except DataError as error:
            skipped.add(where, without_place(where, error))
            continue
        yield where, row
