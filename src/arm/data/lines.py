"""Lines of text files by number, without holding the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arm.errors import DataError


@dataclass(frozen=True, eq=False)
class LineIndex:
    """Where each of N lines that are not blank begins: its file, byte offset and number from 1."""

    files: tuple[Path, ...]
    file_N: NDArray[np.int32]
    offset_N: NDArray[np.int64]
    number_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.file_N)

    def where(self, index: int) -> str:
        """ "train.jsonl:12" """
        return f"{self.file(index).name}:{self.number_N[index]}"

    def file(self, index: int) -> Path:
        return self.files[self.file_N[index]]

    def read(self, index: int) -> bytes:
        """Raises DataError where the file is gone."""
        return read_at(self.file(index), int(self.offset_N[index]), None, self.where(index))


def read_at(path: Path, offset: int, size: int | None, where: str) -> bytes:
    """`size` bytes of a file from an offset, or a line. Raises DataError, naming `where`."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.readline() if size is None else file.read(size)
    except OSError as error:
        raise DataError(f"{where}: {path} cannot be read any more ({error.strerror})") from None


def index_lines(files: Sequence[Path]) -> LineIndex:
    """Reads each file once."""
    which: list[NDArray[np.int32]] = []
    offsets: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    for position, path in enumerate(files):
        begins, lines, offset = [], [], 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    begins.append(offset)
                    lines.append(number)
                offset += len(line)
        which.append(np.full(len(begins), position, np.int32))
        offsets.append(np.array(begins, np.int64))
        numbers.append(np.array(lines, np.int64))
    empty = np.zeros(0, np.int64)
    return LineIndex(
        tuple(files),
        np.concatenate([np.zeros(0, np.int32), *which]),
        np.concatenate([empty, *offsets]),
        np.concatenate([empty, *numbers]),
    )
