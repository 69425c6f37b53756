"""JSON Lines: a record a line, with its pictures as files beside the file.

Files are indexed by line once, and a line is read when its record is asked for; no text is kept in memory.
"""

import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import NEEDED, is_record, parse_conversation
from arm.data.records import Record, picture_path
from arm.errors import DataError, shown

MAX_LINE_BYTES = 2**26
"""The longest line, 64 MiB."""
BLOCK_BYTES = 2**20
"""Bytes of a file that are indexed at a time."""
FIRST_LINES = 100
"""Where none of the first lines is a record, the file is of another format."""


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
        """The place of a line, as "train.jsonl:12"."""
        return f"{shown(self.file(index).name)}:{self.number_N[index]}"

    def file(self, index: int) -> Path:
        """The file of a line."""
        return self.files[self.file_N[index]]

    def read(self, index: int) -> bytes:
        """The bytes of a line. Raises DataError where the file is gone or the line too long."""
        where = self.where(index)
        line = read_at(self.file(index), int(self.offset_N[index]), None, where)
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"{where}: the line has more than {MAX_LINE_BYTES // 2**20} MiB; give one record a line"
            )
        return line


def read_at(path: Path, offset: int, size: int | None, where: str) -> bytes:
    """`size` bytes of a file from an offset, or the line that begins there, of which no more than one byte above
    `MAX_LINE_BYTES` is read. Raises DataError, which begins with `where`, where the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.readline(MAX_LINE_BYTES + 1) if size is None else file.read(size)
    except OSError as error:
        raise DataError(
            f"{where}: {shown(str(path))} cannot be read any more ({error.strerror})"
        ) from None


def index_lines(files: Sequence[Path]) -> LineIndex:
    """The lines of files, in order, that are not blank. Reads each file once, block by block.

    Raises DataError for a file in UTF-16 or UTF-32, whose lines cannot be told apart by bytes.
    """
    which: list[NDArray[np.int32]] = []
    offsets: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    for position, path in enumerate(files):
        lines = np.fromiter(chain.from_iterable(_line_starts(path)), np.int64).reshape(-1, 2)
        which.append(np.full(len(lines), position, np.int32))
        numbers.append(lines[:, 0])
        offsets.append(lines[:, 1])
    empty = np.zeros(0, np.int64)
    return LineIndex(
        tuple(files),
        np.concatenate([np.zeros(0, np.int32), *which]),
        np.concatenate([empty, *offsets]),
        np.concatenate([empty, *numbers]),
    )


def _line_starts(path: Path) -> Iterator[tuple[int, int]]:
    """(Number from 1, byte offset) of each line that is not blank. A byte-order mark alone is blank."""
    number, start, offset = 1, 0, 0  # of the line, of its first byte, and of the block
    blank = True
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            if not offset:
                _check_encoding(block, path)
            position = 0
            while position < len(block):
                end = block.find(b"\n", position)
                stop = len(block) if end < 0 else end
                if blank and block[position:stop].removeprefix(codecs.BOM_UTF8).strip():
                    blank = False
                    yield number, start
                if end >= 0:
                    number, start, blank = number + 1, offset + end + 1, True
                position = stop + 1
            offset += len(block)


def _check_encoding(begin: bytes, path: Path) -> None:
    """Raises DataError for the byte-order marks of UTF-16 and UTF-32."""
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{shown(str(path))} is written in UTF-16 or UTF-32; save it as UTF-8")


@dataclass(frozen=True, eq=False)
class JsonlSource:
    """Pictures are looked for from the folder of the file that names them. allow_outside: they may lie outside
    of it.
    """

    name: str
    lines: LineIndex
    allow_outside: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, index: int) -> str:
        return self.lines.where(index)

    def record(self, index: int) -> Record:
        where = self.where(index)
        conversation = parse_conversation(parse_json(self.lines.read(index), where), where)
        folder = self.lines.file(index).parent
        read = partial(_picture, folder, conversation.images, where, self.allow_outside)
        return Record(where, conversation, read)


def _picture(
    folder: Path, names: tuple[str, ...], where: str, allow_outside: bool, index: int
) -> Path:
    return picture_path(folder, names[index], where, allow_outside)


def parse_json(text: bytes, where: str) -> Any:
    """The value of UTF-8 JSON, with or without a byte-order mark. Raises DataError, which begins with `where`,
    for other bytes.
    """
    try:
        return json.loads(text.rstrip())
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); give one object a line"
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of 5,000 digits, too deep
        reason = shown(str(error))
        raise DataError(f"{where}: not JSON ({reason}); give one UTF-8 object a line") from None


def open_jsonl(path: Path, files: Sequence[Path], allow_outside: bool = False) -> JsonlSource:
    """The records of JSONL files. Raises DataError for files without lines, and where the first lines, up to
    `FIRST_LINES` of them, are objects of which none has the keys of a record.
    """
    source = JsonlSource(str(path), index_lines(files), allow_outside)
    if not len(source):
        raise DataError(f"{shown(str(path))} holds no records: every line of its JSONL is blank")
    keys = ""
    for index in range(min(len(source), FIRST_LINES)):
        try:
            value = parse_json(source.lines.read(index), source.where(index))
        except DataError:
            return source  # a damaged line is not another format; reading it says what is wrong
        if not isinstance(value, dict) or is_record(value):
            return source
        keys = keys or ", ".join(value)
    first = f"{shown(str(source.lines.file(0)))}:{source.lines.number_N[0]}"
    raise DataError(
        f"{first}: its keys are {shown(keys) or 'none'}; {NEEDED}. To read the pictures alone, name a folder "
        "that holds no .jsonl"
    )
