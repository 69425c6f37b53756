"""Records of users' data, the protocol of their sources, and the list of skipped items.

A damaged record never ends a run: it is skipped, written to a file with its reason, and counted.
"""

import json
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from arm.data.conversation import Conversation
from arm.data.image_files import image_size, picture_error, read_image
from arm.data.images import fit_to_grid
from arm.errors import LONG, DataError, InputError, shown
from arm.files import is_file, path_inside, write_text

SKIPPED = "skipped.jsonl"
"""The name of the list of skipped items. It may lie in a folder of data and is never read as records."""


class Skipped:
    """A list of skipped items, each once, as lines {"where": ..., "reason": ...} of a file.

    Threads and processes may share the file, since each line is appended by a single write. Two processes that
    skip the same item at the same moment may both write it; it still counts once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._read = 0

    def __len__(self) -> int:
        """The number of items that any process has skipped so far."""
        with self._lock:
            self._refresh()
            return len(self._seen)

    def __contains__(self, where: str) -> bool:
        with self._lock:
            return where in self._seen

    def add(self, where: str, reason: str) -> None:
        """Appends an item, unless the file has it already."""
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
                # A lone surrogate, as in a file name that is not UTF-8, is written as its JSON escape.
                os.write(file, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(file)

    def forget(self, places: Collection[str]) -> None:
        """Removes the items of these places, which are read anew. No other process may write meanwhile."""
        with self._lock:
            if not self.path.is_file():
                return
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _place(line) not in places]
            if len(kept) < len(lines):
                write_text("".join(f"{line}\n" for line in kept), self.path)
            self._seen, self._read = set(), 0

    def _refresh(self) -> None:
        """Reads the lines appended since the last call, except a last one that is not complete yet."""
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
                    continue  # a line that a full disk or a killed process cut off

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])


def _place(line: str) -> str | None:
    try:
        return json.loads(line)["where"]
    except (ValueError, LookupError, TypeError):
        return None


def without_place(where: str, error: Exception) -> str:
    """An error's message without the place that it begins with."""
    return str(error).removeprefix(where).lstrip(": ")


@dataclass(frozen=True, eq=False)
class Record:
    """A conversation whose pictures are read on request.

    where: the place of the record, as "train.jsonl:12"; errors begin with it. read: index of a picture -> its
    file or its bytes; may raise DataError.
    """

    where: str
    conversation: Conversation
    read: Callable[[int], Path | bytes]

    def image(self, index: int) -> Pillow.Image:
        """Picture `index` as upright RGB. Raises DataError, which names the place and the picture, for any
        failure.
        """
        with self._picture_errors(index):
            return read_image(self._file_or_bytes(index), self._name(index))

    def fitted_image(
        self, index: int, grids: Sequence[tuple[int, int]], patch: int
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of picture `index` on its grid (see `fit_to_grid`). Raises DataError as `image` does."""
        image = self.image(index)
        with self._picture_errors(index):
            return fit_to_grid(image, grids, patch)

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of picture `index`, upright, as its header says. Raises DataError as `image` does,
        but not for damage beyond the header.
        """
        with self._picture_errors(index):
            return image_size(self._file_or_bytes(index), self._name(index))

    @contextmanager
    def _picture_errors(self, index: int) -> Iterator[None]:
        """Turns any exception into a DataError, so that a run over many pictures can skip this one."""
        try:
            yield
        except DataError:
            raise
        except InputError as error:
            raise DataError(str(error)) from None
        except Exception as error:
            raise DataError(str(picture_error(error, self._name(index)))) from None

    def _name(self, index: int) -> str:
        name = self.conversation.images[index]
        return self.where if name == self.where else f"{self.where}: {shown(name)}"

    def _file_or_bytes(self, index: int) -> Path | bytes:
        picture = self.read(index)
        if isinstance(picture, Path) and not is_file(picture):
            raise DataError(
                f"{self._name(index)} does not exist or may not be read; it was looked for at "
                f"{shown(str(picture))}"
            )
        return picture


def place_name(name: str, index: int) -> str:
    """A name as errors and lists of skipped items show it, on one line. One that is cut is followed by its index, so that
    it stays unlike others.
    """
    return shown(name) if len(name) <= LONG else f"{shown(name)} number {index}"


def picture_path(folder: Path, name: str, where: str, allow_outside: bool) -> Path:
    """The file of a picture that a record names. Raises DataError where it lies outside of `folder` and
    `allow_outside` is not set, so that data from elsewhere cannot read a user's other files.
    """
    if allow_outside:
        return folder / name
    try:
        return path_inside(folder, name)
    except InputError as error:
        raise DataError(
            f"{where}: the picture {error}; copy it there, or allow it with --allow-outside"
        ) from None


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
        """The place of record `index`, as "train.jsonl:12"."""
        ...

    def record(self, index: int) -> Record:
        """Raises DataError, which begins with `where`, for a record that does not fit."""
        ...
