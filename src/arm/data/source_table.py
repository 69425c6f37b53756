"""Tables: Parquet files and Hugging Face datasets saved to disk. A row is a record, a column a key.

Pictures are what the `datasets` library's Image feature stores, {"bytes": ..., "path": ...}, or bytes,
or paths from the table's folder. Rows count from 0. A Parquet file is read by row groups, the last
one is kept: in order it is fast, at random as fast as its row groups are small.
"""

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import KEYS, NEEDED, SHORT_KEYS, is_record, parse_conversation
from arm.data.record import Record
from arm.errors import DataError, did_you_mean


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
        try:
            table = self._kept.get(group, partial(self._read, group))
            row = table.slice(index - int(self.first_G1[group]), 1).to_pylist()[0]
        except (OSError, ValueError) as error:
            raise DataError(f"{where}: cannot be read ({error}); copy the file again") from None
        return row_record(row, where, self.files[self.file_G[group]].parent)

    def _read(self, group: int) -> Any:
        pq = library("pyarrow.parquet")
        with pq.ParquetFile(self.files[self.file_G[group]]) as file:
            return file.read_row_group(int(self.group_G[group]))


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
        rows = self._kept.get(self.folder, partial(load_dataset, self.folder))
        row = rows[index : index + 1].to_pylist()[0]
        return row_record(row, self.where(index), self.folder)


def library(name: str) -> Any:
    """A module of the optional libraries for tables. Raises DataError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(
            f"tables need {name.split('.')[0]}, which is not here: pip install 'arm-lmm[data]'"
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
    pq = library("pyarrow.parquet")
    file_of: list[int] = []
    group_of: list[int] = []
    rows: list[int] = []
    rows_F: list[int] = []
    for position, file in enumerate(files):
        try:
            with pq.ParquetFile(file) as opened:
                meta, columns = opened.metadata, opened.schema_arrow.names
        except (OSError, ValueError) as error:
            raise DataError(f"{file} is no whole Parquet file ({error}); copy it again") from None
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder} is no whole saved dataset ({reason}); save it again") from None


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
