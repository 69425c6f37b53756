"""Tables: Parquet files and Hugging Face datasets saved to disk. A row is a record, a column a key.

Pictures are what the `datasets` library's Image feature stores, {"bytes": ..., "path": ...}, or bytes,
or paths from the table's folder. Rows count from 0. A Parquet file is read by batches of a row group,
of which the last ones are kept: in order it is fast, at random as fast as its row groups are small.
"""

import importlib
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
from arm.data.records import Record
from arm.errors import DataError, did_you_mean

ROWS = 64
"""The most rows of a batch; where they are large it has fewer."""
KEPT_BYTES = 2**29
"""What is kept in memory of a row group: a small one whole, of a large one the last batches."""
READ_BYTES = 2**20
"""What is read of a column at a time; else pyarrow reads at once what the row group has of it."""


class _Kept:
    """The last thing opened, by key, for all threads; copies in other processes begin empty."""

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
    """The rows of a row group by number, for all threads. `read` begins its batches; they are read in
    order and the last ones are kept, and for a row before these the group is read anew.
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
        """Raises what pyarrow raises (`arrow_errors`)."""
        with self._lock:
            if self._kept and index < self._kept[0][0]:
                self._begin()
            while index >= self._stop:
                self._read_on()
            first, batch = self._kept[bisect(self._kept, index, key=lambda each: each[0]) - 1]
        return batch.slice(index - first, 1).to_pylist()[0]

    def _read_on(self) -> None:
        """Reads one batch more. Raises ValueError where there is none."""
        try:
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError(f"its row group ends after {self._stop} rows")
        except Exception:
            self._begin()  # nothing follows in an iterator that has failed
            raise
        self._kept.append((self._stop, batch))
        self._stop += batch.num_rows
        self._nbytes += batch.nbytes
        while self._nbytes > KEPT_BYTES and len(self._kept) > 1:
            self._nbytes -= self._kept.pop(0)[1].nbytes


@dataclass(frozen=True, eq=False)
class ParquetSource:
    """G row groups: the rows first_G1[g] to first_G1[g + 1] are group group_G[g] of file file_G[g]."""

    name: str
    files: tuple[Path, ...]
    file_G: NDArray[np.int64]
    group_G: NDArray[np.int64]
    first_G1: NDArray[np.int64]
    first_F: NDArray[np.int64]
    """The first row of each file."""
    _kept: _Kept = field(default_factory=_Kept, repr=False)

    def __len__(self) -> int:
        return int(self.first_G1[-1])

    def where(self, index: int) -> str:
        """ "x.parquet:row 5" """
        file = int(np.searchsorted(self.first_F, index, side="right")) - 1
        return f"{self.files[file].name}:row {index - self.first_F[file]}"

    def record(self, index: int) -> Record:
        where = self.where(index)
        group = int(np.searchsorted(self.first_G1, index, side="right")) - 1
        key = os.getpid(), group  # a forked process must not read on in its parent's file
        with _reading(where):
            rows = self._kept.get(key, partial(_RowGroup, partial(self._batches, group)))
            row = rows.row(index - int(self.first_G1[group]))
        return row_record(row, where, self.files[self.file_G[group]].parent)

    def _batches(self, group: int) -> Iterator[Any]:
        """The record batches of a row group. Read whole, one of 2 GB of pictures would not fit an array."""
        number = int(self.group_G[group])
        with _parquet(self.files[self.file_G[group]]) as file:
            meta = file.metadata.row_group(number)
            fitting = KEPT_BYTES * meta.num_rows // max(1, meta.total_byte_size)
            yield from file.iter_batches(min(ROWS, max(1, fitting)), row_groups=[number])


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """A folder that `Dataset.save_to_disk` wrote; its rows are mapped from the disk."""

    folder: Path
    length: int
    _kept: _Kept = field(default_factory=_Kept, repr=False)

    @property
    def name(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return self.length

    def where(self, index: int) -> str:
        return f"{self.folder.name}:row {index}"

    def record(self, index: int) -> Record:
        where = self.where(index)
        rows = self._kept.get(self.folder, partial(load_dataset, self.folder))
        with _reading(where):
            row = rows[index : index + 1].to_pylist()[0]
        return row_record(row, where, self.folder)


def library(name: str) -> Any:
    """A module of the optional libraries for tables. Raises DataError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(
            f"tables need {name.split('.')[0]}, which is not here: pip install 'arm-lmm[data]'"
        ) from None


def arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for files that it cannot read."""
    return OSError, ValueError, library("pyarrow").ArrowException


def _reason(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _parquet(path: Path) -> Any:
    options = {"buffer_size": READ_BYTES, "pre_buffer": False}
    return library("pyarrow.parquet").ParquetFile(path, **options)


@contextmanager
def whole_parquet(path: Path) -> Iterator[Any]:
    """An opened Parquet file. Raises DataError where it is damaged, or found so while it is read."""
    try:
        with _parquet(path) as file:
            yield file
    except arrow_errors() as error:
        raise DataError(
            f"{path} is no whole Parquet file ({_reason(error)}); copy it again"
        ) from None


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Raises DataError where the row cannot be read."""
    try:
        yield
    except arrow_errors() as error:
        raise DataError(
            f"{where}: cannot be read ({_reason(error)}); copy the file again, or write it anew"
        ) from None


def row_record(row: dict[str, Any], where: str, folder: Path) -> Record:
    """A record from a row whose pictures are structs, bytes or paths."""
    key = "images" if row.get("messages") is not None else "image"
    held = row.get(key)
    pictures = held if isinstance(held, list) else [] if held is None else [held]
    names = [_picture_name(picture, k) for k, picture in enumerate(pictures)]
    if held is not None:
        row = {**row, key: names if isinstance(held, list) else names[0]}
    conversation = parse_conversation(row, where)
    return Record(where, conversation, partial(_read_picture, pictures, folder, where))


def _picture_name(picture: Any, index: int) -> Any:
    """What errors call a picture. Values that are no pictures are left to the record's parser."""
    if isinstance(picture, bytes):
        return f"picture {index}"
    if isinstance(picture, dict):
        return picture.get("path") or f"picture {index}"
    return picture


def _read_picture(pictures: Sequence[Any], folder: Path, where: str, index: int) -> Path | bytes:
    return picture_data(pictures[index], folder, f"{where}: picture {index}")


def picture_data(picture: Any, folder: Path, name: str) -> Path | bytes:
    """The bytes of a picture in a row, or its file. Raises DataError where it has neither."""
    if isinstance(picture, dict):
        picture = picture.get("bytes") or picture.get("path")
    if not isinstance(picture, bytes | str) or not picture:
        raise DataError(f"{name} has neither bytes nor a path")
    return picture if isinstance(picture, bytes) else folder / picture


def check_columns(columns: Sequence[str], where: Path) -> None:
    """Raises DataError for a table whose columns are not a record's keys."""
    if not is_record(columns):
        raise DataError(f"{where}: its columns are {', '.join(columns)}; {NEEDED}")
    keys = KEYS if "messages" in columns else SHORT_KEYS
    for column in columns:
        if column not in keys:
            hint = (
                did_you_mean(column, keys)
                or f" Its columns may be {', '.join(keys)}; drop the rest."
            )
            raise DataError(f"{where}: a record has no key '{column}'.{hint}")


def open_parquet(path: Path, files: Sequence[Path]) -> ParquetSource:
    """Reads every file's footer. Raises DataError for a damaged file or one without rows of records."""
    file_of: list[int] = []
    group_of: list[int] = []
    rows: list[int] = []
    rows_F: list[int] = []
    for position, file in enumerate(files):
        with whole_parquet(file) as opened:
            meta, columns = opened.metadata, opened.schema_arrow.names
        check_columns(columns, file)
        for group in range(meta.num_row_groups):
            file_of.append(position)
            group_of.append(group)
            rows.append(meta.row_group(group).num_rows)
        rows_F.append(meta.num_rows)
    if not sum(rows):
        raise DataError(f"{path} holds no rows")
    return ParquetSource(
        str(path),
        tuple(files),
        np.array(file_of, np.int64),
        np.array(group_of, np.int64),
        np.cumsum([0, *rows]),
        np.cumsum([0, *rows_F[:-1]]),
    )


def load_dataset(folder: Path) -> Any:
    """The rows of a saved dataset as Arrow tables, pictures undecoded. Raises DataError."""
    datasets = library("datasets")
    try:
        return datasets.load_from_disk(str(folder)).with_format("arrow")
    except Exception as error:  # the library raises what its files and parsers raise
        raise DataError(
            f"{folder} is no whole saved dataset ({_reason(error)}); save it again"
        ) from None


def open_dataset(folder: Path) -> DatasetSource:
    """Raises DataError for a dictionary of splits, a damaged folder and rows that are no records."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise DataError(
            f"{folder} holds splits; name one of {', '.join(splits)}, as {folder / 'train'}"
        )
    rows = load_dataset(folder)
    check_columns(rows.column_names, folder)
    if not len(rows):
        raise DataError(f"{folder} holds no rows")
    return DatasetSource(folder, len(rows))
