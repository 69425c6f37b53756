"""A benchmark's own pictures, which are edited or asked about: where they lie, and whether they are still
those that something was made of.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from arm.data.images import open_image
from arm.errors import InputError
from arm.evals.benchmarks.base import Item

Picture = UInt8[np.ndarray, "h w 3"]


def read_picture(path: Path) -> Picture | None:
    """A picture's pixels as the model is shown them, None where it is missing, broken or too large."""
    try:
        return np.asarray(open_image(path))
    except InputError:
        return None


def source_paths(images: Path, item: Item) -> list[Path]:
    """All pictures that an item shows, each once. Raises InputError where there is none or one is missing."""
    names = list(dict.fromkeys(item.images.values())) or ([item.image] if item.image else [])
    if not names:
        raise InputError(f"item {item.id} names no picture")
    paths = [images / name for name in names]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing")
    return paths


def source_path(images: Path, item: Item) -> Path:
    """The one picture of an item, or its first. Raises InputError where there is none."""
    return source_paths(images, item)[0]


class Fingerprints:
    """SHA-256 of pictures' bytes, each file read once."""

    def __init__(self) -> None:
        self.known: dict[Path, str] = {}

    def of(self, paths: Sequence[Path]) -> str:
        """Of one file its own, of several that of all of theirs in order. Raises InputError for a file
        that cannot be read.
        """
        for path in paths:
            if path not in self.known:
                try:
                    self.known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError as error:
                    raise InputError(f"{path} cannot be read ({error})") from None
        each = [self.known[path] for path in paths]
        return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()
