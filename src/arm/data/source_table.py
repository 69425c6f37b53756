"""Tables: Parquet files and Hugging Face datasets saved to disk. A row is a record, a column a key.

Pictures are what the `datasets` library's Image feature stores, {"bytes": ..., "path": ...}, or bytes,
or paths from the table's folder. Rows count from 0. A Parquet file is read by batches of a row group,
of which the last ones are kept: reading in order is fast, reading at random as fast as its row groups are small.
"""

import os
import threading
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import KEYS, NEEDED, SHORT_KEYS, is_record, parse_conversation
from arm.data.parquet_files import (
    ROWS,
    UNPACKS,
    arrow_errors,
    fitting_rows,
    is_bomb,
    library,
    open_file,
    reason,
    whole_parquet,
)
from arm.data.records import Record, picture_path
from arm.errors import DataError, did_you_mean, shown

KEPT_BYTES = 2**29
"""Bytes of a row group that are kept in memory: a small one whole, of a large one the last batches."""


class _Kept:
    """Keeps the last object opened, by key, for all threads; copies in other processes begin empty."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entry: tuple[Any, Any] | None = None

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if self._entry is None or self._entry[0] != key:
                self._entry = None  # the old one goes before the new one is read
                self._entry = key, make()
            return self._entry[1]

    def __reduce__(self) -> tuple[type["_Kept"], tuple[()]]:
        return _Kept, ()


class _RowGroup:
    """The rows of a row group by number, for all threads.

    read: begins the iteration over its batches. They are read in order and the last ones are kept; for a row before
    these the group is read again from its beginning.
    """

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        self._lock = threading.Lock()
        self._read = read
        self._begin()

    def _begin(self) -> None:
        self._batches = self._read()
        self._kept: list[tuple[int, Any]] = []  # (its first row, batch)
        self._stop, self._nbytes = 0, 0

    def row(self, index: int) -> dict[str, Any]:
        """A row as a dictionary. Raises what pyarrow raises (`arrow_errors`)."""
        with self._lock:
            if self._kept and index < self._kept[0][0]:
                self._begin()
            while index >= self._stop:
                self._read_on()
            first, batch = self._kept[bisect(self._kept, index, key=lambda each: each[0]) - 1]
        return batch.slice(index - first, 1).to_pylist()[0]

    def _read_on(self) -> None:
        """Reads the next batch. Raises ValueError where there is none."""
        try:
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError(f"its row group ends after {self._stop} rows")
        except Exception:
            self._begin()  # an iterator that has failed gives nothing more
            raise
        self._kept.append((self._stop, batch))
        self._stop += batch.num_rows
        self._nbytes += batch.nbytes
        while self._nbytes > KEPT_BYTES and len(self._kept) > 1:
            self._nbytes -= self._kept.pop(0)[1].nbytes


@dataclass(frozen=True, eq=False)
class ParquetSource:
    """G row groups: the rows first_G1[g] to first_G1[g + 1] are group group_G[g] of file file_G[g].

    bomb_G: whether a group unpacks to so much that it is not read. first_F: the first row of each of F files.
    allow_outside: rows may name pictures outside of the folder of their file.
    """

    name: str
    files: tuple[Path, ...]
    file_G: NDArray[np.int64]
    group_G: NDArray[np.int64]
    first_G1: NDArray[np.int64]
    bomb_G: NDArray[np.bool_]
    first_F: NDArray[np.int64]
    allow_outside: bool = False
    _kept: _Kept = field(default_factory=_Kept, repr=False)

    def __len__(self) -> int:
        return int(self.first_G1[-1])

    def where(self, index: int) -> str:
        """The file and the row, as "x.parquet:row 5"."""
        file = int(np.searchsorted(self.first_F, index, side="right")) - 1
        return f"{shown(self.files[file].name)}:row {index - self.first_F[file]}"

    def record(self, index: int) -> Record:
        where = self.where(index)
        group = int(np.searchsorted(self.first_G1, index, side="right")) - 1
        if self.bomb_G[group]:
            raise DataError(f"{where}: its row group {UNPACKS}; write the file anew")
        key = os.getpid(), group  # a forked process must not read on in its parent's file
        with _reading(where):
            rows = self._kept.get(key, partial(_RowGroup, partial(self._batches, group)))
            row = rows.row(index - int(self.first_G1[group]))
        folder = self.files[self.file_G[group]].parent
        return row_record(row, where, folder, self.allow_outside)

    def _batches(self, group: int) -> Iterator[Any]:
        """The record batches of a row group. Read whole, one of 2 GB of pictures would not fit an array."""
        number, path = int(self.group_G[group]), self.files[self.file_G[group]]
        with open_file(path) as file:
            rows = fitting_rows(path, file.metadata.row_group(number), KEPT_BYTES)
            yield from file.iter_batches(min(ROWS, rows), row_groups=[number])


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """A folder that `Dataset.save_to_disk` wrote; its rows are mapped from the disk."""

    folder: Path
    length: int
    allow_outside: bool = False
    _kept: _Kept = field(default_factory=_Kept, repr=False)

    @property
    def name(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return self.length

    def where(self, index: int) -> str:
        return f"{shown(self.folder.name)}:row {index}"

    def record(self, index: int) -> Record:
        where = self.where(index)
        rows = self._kept.get(self.folder, partial(load_dataset, self.folder))
        with _reading(where):
            row = rows[index : index + 1].to_pylist()[0]
        return row_record(row, where, self.folder, self.allow_outside)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Raises DataError where the row cannot be read."""
    try:
        yield
    except arrow_errors() as error:
        raise DataError(
            f"{where}: cannot be read ({reason(error)}); copy the file again, or write it anew"
        ) from None


def row_record(
    row: dict[str, Any], where: str, folder: Path, allow_outside: bool = False
) -> Record:
    """A record from a row whose pictures are structs, bytes or paths. Raises DataError as `parse_conversation`."""
    key = "images" if row.get("messages") is not None else "image"
    held = row.get(key)
    pictures = held if isinstance(held, list) else [] if held is None else [held]
    names = [_picture_name(picture, k) for k, picture in enumerate(pictures)]
    if held is not None:
        row = {**row, key: names if isinstance(held, list) else names[0]}
    conversation = parse_conversation(row, where)
    read = partial(_read_picture, pictures, folder, where, allow_outside)
    return Record(where, conversation, read)


def _picture_name(picture: Any, index: int) -> Any:
    """The name of a picture in errors. Values that are no pictures are left to the parser of records."""
    if isinstance(picture, bytes):
        return f"picture {index}"
    if isinstance(picture, dict):
        return picture.get("path") or f"picture {index}"
    return picture


def _read_picture(
    pictures: Sequence[Any], folder: Path, where: str, allow_outside: bool, index: int
) -> Path | bytes:
    return picture_data(pictures[index], folder, f"{where}: picture {index}", allow_outside)


def picture_data(
    picture: Any, folder: Path, name: str, allow_outside: bool = False
) -> Path | bytes:
    """The bytes of a picture in a row, or its file in `folder`. Raises DataError, which begins with `name`, where it has
    neither, and where the file lies outside of the folder and `allow_outside` is not set.
    """
    if isinstance(picture, dict):
        picture = picture.get("bytes") or picture.get("path")
    if not isinstance(picture, bytes | str) or not picture:
        raise DataError(f"{name} has neither bytes nor a path")
    if isinstance(picture, bytes):
        return picture
    return picture_path(folder, picture, name, allow_outside)


def check_columns(columns: Sequence[str], where: Path) -> None:
    """Raises DataError for a table whose columns are not a record's keys."""
    name = shown(str(where))
    if not is_record(columns):
        raise DataError(f"{name}: its columns are {shown(', '.join(columns))}; {NEEDED}")
    keys = KEYS if "messages" in columns else SHORT_KEYS
    for column in columns:
        if column not in keys:
            hint = (
                did_you_mean(column, keys)
                or f" Its columns may be {', '.join(keys)}; drop the rest."
            )
            raise DataError(f"{name}: a record has no key '{shown(column)}'.{hint}")


def open_parquet(path: Path, files: Sequence[Path], allow_outside: bool = False) -> ParquetSource:
    """The rows of Parquet files, of which only the footers are read. Raises DataError for a damaged file, for other
    columns than a record's keys, and for files without rows.
    """
    file_G: list[int] = []
    group_G: list[int] = []
    rows_G: list[int] = []
    bomb_G: list[bool] = []
    rows_F: list[int] = []
    for position, file in enumerate(files):
        with whole_parquet(file) as opened:
            meta, columns = opened.metadata, opened.schema_arrow.names
        check_columns(columns, file)
        for group in range(meta.num_row_groups):
            file_G.append(position)
            group_G.append(group)
            rows_G.append(meta.row_group(group).num_rows)
            bomb_G.append(is_bomb(meta.row_group(group)))
        rows_F.append(meta.num_rows)
    if not sum(rows_G):
        raise DataError(f"{shown(str(path))} holds no rows")
    return ParquetSource(
        str(path),
        tuple(files),
        np.array(file_G, np.int64),
        np.array(group_G, np.int64),
        np.cumsum([0, *rows_G]),
        np.array(bomb_G),
        np.cumsum([0, *rows_F[:-1]]),
        allow_outside,
    )


def load_dataset(folder: Path) -> Any:
    """The rows of a saved dataset as Arrow tables, with pictures as bytes. Raises DataError."""
    datasets = library("datasets")
    try:
        return datasets.load_from_disk(str(folder)).with_format("arrow")
    except Exception as error:  # the library raises whatever its files and parsers raise
        raise DataError(
            f"{shown(str(folder))} is no whole saved dataset ({reason(error)}); save it again"
        ) from None


def open_dataset(folder: Path, allow_outside: bool = False) -> DatasetSource:
    """The rows of a saved dataset. Raises DataError for a dictionary of splits, a damaged folder, and rows that are no
    records.
    """
    name = shown(str(folder))
    if (folder / "dataset_dict.json").is_file():
        splits = shown(", ".join(sorted(path.parent.name for path in folder.glob("*/state.json"))))
        raise DataError(
            f"{name} holds splits; name one of {splits}, as {shown(str(folder / 'train'))}"
        )
    rows = load_dataset(folder)
    check_columns(rows.column_names, folder)
    if not len(rows):
        raise DataError(f"{name} holds no rows")
    return DatasetSource(folder, len(rows), allow_outside)
