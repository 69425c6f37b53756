"""Parquet files: opened in one place with one error, and bounded in what they unpack to.

pyarrow is imported when a file is opened, since only users of tables need it.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arm.errors import DataError, shown

READ_BYTES = 2**20
"""Bytes of a column that are read at once; without it pyarrow reads all that the row group has of it."""
UNCHECKED_BYTES = 2**28
"""A row group that unpacks to less is read whatever its compression."""
MAX_COMPRESSION = 100
"""The most that a larger row group may unpack to, as a multiple of its bytes on disk."""
UNPACKS = f"unpacks to more than {MAX_COMPRESSION} times its bytes on disk"
ROWS = 64
"""The most rows of a batch; where they are large it has fewer."""
BATCH_BYTES = 2**29
"""Memory for a batch of rows."""
INTEGER_FIELD = 0x15
"""In Thrift's compact protocol: a 32-bit integer, the next field of its struct."""


def library(name: str) -> Any:
    """A module of a library that only tables need. Raises DataError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(
            f"tables need {name.split('.')[0]}, which is not installed: pip install 'arm-lmm[data]'"
        ) from None


def arrow_errors() -> tuple[type[Exception], ...]:
    """The exceptions that pyarrow raises for files that it cannot read."""
    return OSError, ValueError, library("pyarrow").ArrowException


def reason(error: Exception) -> str:
    """The first line of a library's error message."""
    return shown(next(iter(str(error).splitlines()), type(error).__name__))


def open_file(path: Path) -> Any:
    """A `pyarrow.parquet.ParquetFile`. Raises one of `arrow_errors`."""
    options = {"buffer_size": READ_BYTES, "pre_buffer": False}
    return library("pyarrow.parquet").ParquetFile(path, **options)


@contextmanager
def whole_parquet(path: Path) -> Iterator[Any]:
    """Opens a Parquet file. Raises DataError where it is damaged, also where that shows while it is read."""
    try:
        with open_file(path) as file:
            yield file
    except arrow_errors() as error:
        raise DataError(
            f"{shown(str(path))} is no whole Parquet file ({reason(error)}); copy it again"
        ) from None


def iterate_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file in order. Raises DataError where it is damaged or `is_bomb`."""
    with whole_parquet(path) as file:
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            if is_bomb(group):
                raise DataError(
                    f"{shown(str(path))}: its row group {number} {UNPACKS}; write the file anew"
                )
            rows = min(ROWS, fitting_rows(path, group, BATCH_BYTES))
            for batch in file.iter_batches(rows, row_groups=[number]):
                yield from batch.to_pylist()


def is_bomb(group: Any) -> bool:
    """Whether a row group, given by its metadata, unpacks to more than `MAX_COMPRESSION` times its bytes on disk."""
    columns = [group.column(i) for i in range(group.num_columns)]
    unpacked = sum(column.total_uncompressed_size for column in columns)
    packed = sum(column.total_compressed_size for column in columns)
    return unpacked > max(UNCHECKED_BYTES, MAX_COMPRESSION * packed)


def fitting_rows(path: Path, group: Any, num_bytes: int) -> int:
    """How many rows of a row group, given by its metadata, fit `num_bytes` of memory; at least 1.

    Rows are taken to be of the group's mean size, or where a column has a dictionary, all of its largest value.
    """
    rows = num_bytes * group.num_rows // max(1, group.total_byte_size)
    for column in map(group.column, range(group.num_columns)):
        if column.has_dictionary_page:
            with path.open("rb") as file:
                file.seek(column.dictionary_page_offset)
                largest = unpacked_page_bytes(file.read(16))
            values = max(1, -(-column.num_values // max(1, group.num_rows)))
            rows = min(rows, num_bytes // max(1, largest * values))
    return max(1, rows)


def unpacked_page_bytes(header: bytes) -> int:
    """The unpacked size of a page by the first bytes of its header, a Thrift struct whose first two fields are the
    page's type and this size; 0 where the bytes are none.
    """
    value = position = 0
    for _ in ("type", "size"):
        if header[position : position + 1] != bytes([INTEGER_FIELD]):
            return 0
        value, position = _varint(header, position + 1)
    return value >> 1  # zigzag of a number that is not negative


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A little-endian integer of 7 bits a byte, and the position behind it."""
    value = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, position
