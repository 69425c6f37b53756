"""What could not be used, and why: named in a file, counted, and no reason for a run to die.

One record of a user's data with its pictures, and what every source of records offers.

Reads all of a user's data once and says what is in it and what is wrong, before a run depends on it."""

import json
import os
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from PIL import Image as Pillow

from arm.data.conversation import Conversation, task_of
from arm.data.images import BROKEN, check_size, orientation, read_image
from arm.errors import DataError, InputError, shown
from arm.files import is_file

SKIPPED = "skipped.jsonl"
"""What the file is called; it may lie in a folder of data and is never read as records."""


class Skipped:
    """Items left out, once each, as lines {"where": ..., "reason": ...} of a file.

    Threads and processes may share the file: a line is one write at its end. Two processes that meet
    the same item at the same moment may both write it; it still counts once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._read = 0

    def __len__(self) -> int:
        """How many items were left out so far, by any process."""
        with self._lock:
            self._refresh()
            return len(self._seen)

    def __contains__(self, where: str) -> bool:
        with self._lock:
            return where in self._seen

    def add(self, where: str, reason: str) -> None:
        """Notes an item, unless the file has it."""
        with self._lock:
            self._refresh()
            if where in self._seen:
                return
            self._seen.add(where)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"where": where, "reason": reason}, ensure_ascii=False) + "\n"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            file = os.open(self.path, flags, 0o644)
            try:
                # Half a character, as in a file's name that is not UTF-8, becomes its JSON escape.
                os.write(file, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(file)

    def _refresh(self) -> None:
        """Reads the lines that were added since; a last line that is still being written waits."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                try:
                    self._seen.add(json.loads(line)["where"])
                except (ValueError, LookupError, TypeError):
                    continue  # a line cut by a full disk or a killed process

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])


def without_place(where: str, error: Exception) -> str:
    """An error's words without the place that they begin with."""
    return str(error).removeprefix(where).lstrip(": ")


PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
ROTATED = range(5, 9)
"""EXIF orientations that turn a picture on its side."""


@dataclass(frozen=True, eq=False)
class Record:
    """A conversation whose pictures are read when they are asked for.

    read: index of a picture -> its file or its bytes; may raise DataError.
    """

    where: str
    conversation: Conversation
    read: Callable[[int], Path | bytes]

    def image(self, index: int) -> Pillow.Image:
        """Picture `index` as RGB. Raises DataError, naming place and picture, where it is broken."""
        try:
            return read_image(self._opened(index), self._name(index))
        except InputError as error:
            raise DataError(str(error)) from None

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) as its header says, upright; no pixel is decoded. Raises DataError."""
        name = self._name(index)
        try:
            with Pillow.open(self._opened(index)) as image:
                check_size(image)
                width, height = image.size
                turned = orientation(image) in ROTATED
        except InputError as error:
            raise DataError(f"{name}: {error}") from None
        except Pillow.UnidentifiedImageError:
            raise DataError(f"{name} is no picture; give a PNG or JPEG file") from None
        except (*BROKEN, Pillow.DecompressionBombError) as error:
            raise DataError(f"{name} is no readable picture ({error})") from None
        return (height, width) if turned else (width, height)

    def _name(self, index: int) -> str:
        name = self.conversation.images[index]
        return self.where if name == self.where else f"{self.where}: {shown(name)}"

    def _opened(self, index: int) -> Path | BytesIO:
        found = self.read(index)
        if isinstance(found, bytes):
            return BytesIO(found)
        if not is_file(found):
            raise DataError(
                f"{self._name(index)} does not exist or may not be read; it was looked for at "
                f"{shown(str(found))}"
            )
        return found


class Source(Protocol):
    """Records by index. Sources hold no open files that a copy in another process could not open
    again: they may be pickled and forked.
    """

    @property
    def name(self) -> str:
        """The path that was opened."""
        ...

    def __len__(self) -> int: ...

    def where(self, index: int) -> str:
        """Where record `index` stands: "train.jsonl:12"."""
        ...

    def record(self, index: int) -> Record:
        """Raises DataError, which begins with `where`, for a record that does not fit."""
        ...


Track = Callable[[Sequence[int]], Iterable[int]]
"""Wraps the indices of a long loop to show how far it is."""


@dataclass(frozen=True)
class Spread:
    """The least, middle and largest of many numbers."""

    least: int
    median: int
    largest: int


@dataclass(frozen=True)
class Report:
    """What a source holds. Sizes are in pixels, of the pictures that could be read; None without any.

    longest_text: characters of the longest conversation's words, and where it stands. faults: the first
    ones, each a line "place: what is wrong; what would be right"; num_faults counts all.
    """

    name: str
    records: int
    images: int
    tasks: Mapping[str, int]
    width: Spread | None
    height: Spread | None
    longest_text: tuple[int, str]
    num_faults: int
    faults: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        data = {**vars(self), "tasks": dict(self.tasks)}
        return data | {
            key: vars(spread)
            for key in ("width", "height")
            if (spread := getattr(self, key)) is not None
        }


def check_source(
    source: Source, *, images: bool = True, max_faults: int = 20, track: Track = iter
) -> Report:
    """Parses every record and, with `images`, decodes every picture."""
    tasks: Counter[str] = Counter()
    widths, heights = array("l"), array("l")
    longest = (0, "")
    num_images = num_faults = 0
    faults: list[str] = []

    def fault(error: DataError) -> None:
        nonlocal num_faults
        num_faults += 1
        if len(faults) < max_faults:
            faults.append(str(error))

    for index in track(range(len(source))):
        try:
            record = source.record(index)
        except DataError as error:
            fault(error)
            continue
        tasks[task_of(record.conversation)] += 1
        longest = max(longest, (text_length(record), record.where), key=lambda pair: pair[0])
        num_images += len(record.conversation.images)
        for k in range(len(record.conversation.images) if images else 0):
            try:
                width, height = record.image(k).size
            except DataError as error:
                fault(error)
                continue
            widths.append(width)
            heights.append(height)
    return Report(
        source.name,
        len(source),
        num_images,
        tasks,
        spread(widths),
        spread(heights),
        longest,
        num_faults,
        tuple(faults),
    )


def text_length(record: Record) -> int:
    """Characters of all words of a conversation."""
    parts = (part for message in record.conversation.messages for part in message.parts)
    return sum(len(part) for part in parts if isinstance(part, str))


def spread(values: Sequence[int]) -> Spread | None:
    """The median of an even count is the lower of the middle two."""
    if not values:
        return None
    ordered = sorted(values)
    return Spread(ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1])
