"""Lines of text files by number, without holding the text.

JSON Lines: a record a line, pictures as files beside it.

A plain folder of pictures: each is a record whose caption is its folder's name."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import NEEDED, is_record, parse_conversation
from arm.data.records import PICTURE_SUFFIXES, Record
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


@dataclass(frozen=True, eq=False)
class JsonlSource:
    """Pictures are looked for from the folder of the file that names them."""

    name: str
    lines: LineIndex

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, index: int) -> str:
        return self.lines.where(index)

    def record(self, index: int) -> Record:
        where = self.where(index)
        conversation = parse_conversation(parse_json(self.lines.read(index), where), where)
        read = partial(_picture, self.lines.file(index).parent, conversation.images)
        return Record(where, conversation, read)


def _picture(folder: Path, names: tuple[str, ...], index: int) -> Path:
    return folder / names[index]


def parse_json(text: bytes, where: str) -> Any:
    """Raises DataError that names the place of bytes that are not JSON."""
    try:
        return json.loads(text.rstrip())
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); give one object a line"
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of 5,000 digits, too deep
        raise DataError(f"{where}: not JSON ({error}); give one UTF-8 object a line") from None


def open_jsonl(path: Path, files: Sequence[Path]) -> JsonlSource:
    """Raises DataError for files without records, or whose first line is of another format."""
    source = JsonlSource(str(path), index_lines(files))
    if not len(source):
        raise DataError(f"{path} holds no records: every line of its JSONL is blank")
    try:
        first = parse_json(source.lines.read(0), source.where(0))
    except DataError:
        return source  # one broken line is not another format; reading it says what is wrong
    if isinstance(first, dict) and not is_record(first):
        raise DataError(
            f"{source.lines.file(0)}:{source.lines.number_N[0]}: its keys are {', '.join(first)}; "
            f"{NEEDED}. To read the pictures alone, name a folder that holds no .jsonl"
        )
    return source


@dataclass(frozen=True, eq=False)
class FolderSource:
    """`files` are relative to `root`, in order. "long_dress/1.jpg" is captioned "long dress"."""

    root: Path
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        return self.files[index]

    def record(self, index: int) -> Record:
        where = self.where(index)
        path = self.root / where
        folder = Path(where).parent.name or self.root.resolve().name
        caption = folder.replace("_", " ")
        conversation = parse_conversation({"image": where, "text": caption}, where)
        return Record(where, conversation, lambda _: path)


def open_folder(root: Path) -> FolderSource:
    """Every picture below the folder; hidden files and folders are passed over."""
    files: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = (name for name in names if not name.startswith("."))
        pictures = (name for name in shown if Path(name).suffix.lower() in PICTURE_SUFFIXES)
        files += [(Path(folder) / name).relative_to(root).as_posix() for name in pictures]
    if not files:
        raise DataError(
            f"{root} holds no data: no .jsonl, .tar or .parquet files, no saved dataset and no pictures"
        )
    return FolderSource(root, tuple(sorted(files)))
