"""One record of a user's data with its pictures, and what every source of records offers."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

from PIL import Image as Pillow

from arm.data.conversation import Conversation
from arm.data.transforms import BROKEN, check_size, orientation, read_image
from arm.errors import DataError, InputError, shown
from arm.files import is_file

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
