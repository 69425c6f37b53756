"""JSON Lines: a record a line, pictures as files beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from arm.data.conversation import NEEDED, is_record, parse_conversation
from arm.data.lines import LineIndex, index_lines
from arm.data.record import Record
from arm.errors import DataError


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
