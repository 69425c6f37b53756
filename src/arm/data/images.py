"""Pictures on their way into the model: opened from whatever a user gives, fitted to a token grid, and as tensors.

`open_image` is the one way in for pictures of users, whether files, bytes, arrays, tensors or Pillow's own.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torch import Tensor

from arm.data.image_files import (
    FORMATS,
    MAX_FILE_BYTES,
    check_pixels,
    picture_error,
    read_image,
    upright,
)
from arm.data.image_modes import array_to_rgb, to_rgb
from arm.errors import InputError, shown
from arm.files import is_file, read_at_most

ImageInput = (
    Image.Image
    | str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | NDArray[np.generic]
    | Tensor
)
"""A picture as users give it: one of Pillow's, a file's path, its bytes, an opened binary file, or an array or
tensor of pixels (see `image_modes.py` for shapes and ranges).
"""
MAX_ENLARGEMENT = 1.25
"""The most that a picture is enlarged, along each side, where a smaller grid is offered."""
SAME_AREA = 1.5
"""Grids whose areas differ by less than this factor are of one area."""


def open_image(source: ImageInput, name: str | None = None) -> Image.Image:
    """A user's picture as upright RGB, with transparency over white.

    name: what errors call it, instead of its path or "the picture". Raises InputError, in one line, for anything
    that is no picture, is damaged, or has more than 64 megapixels.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or shown(str(path))
        if not is_file(path):
            raise InputError(
                f"{name} does not exist or is no file that may be read; name a picture (PNG, JPEG, ...)"
            )
        return read_image(path, name)
    try:
        if isinstance(source, Image.Image):
            return _from_pillow(source)
        if isinstance(source, Tensor):
            return _from_array(_as_numpy(source), channels_first=True)
        if isinstance(source, np.ndarray):
            return _from_array(source, channels_first=False)
        content = _content(source)
    except InputError as error:
        raise InputError(f"{name}: {error}" if name else str(error)) from None
    except Exception as error:
        raise picture_error(error, name or "the picture") from None
    return read_image(content, name or "the picture")


def _from_pillow(image: Image.Image) -> Image.Image:
    if isinstance(image, ImageFile.ImageFile) and image.format not in FORMATS:
        raise InputError(
            f"pictures of the format {image.format} are not read; give a PNG or JPEG file"
        )
    check_pixels(*image.size)
    return to_rgb(upright(image))


def _from_array(array: NDArray[np.generic], channels_first: bool) -> Image.Image:
    image = array_to_rgb(array, channels_first=channels_first)
    check_pixels(*image.size)
    return image


def _as_numpy(tensor: Tensor) -> NDArray[np.generic]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _content(source: object) -> bytes:
    """The bytes of a buffer or of an opened file. Raises InputError for anything else."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not callable(getattr(source, "read", None)):
        raise InputError(
            "a picture is a path, bytes, an opened file, a Pillow image, an array or a tensor, not "
            f"{type(source).__name__}"
        )
    file = cast(BinaryIO, source)
    if callable(seekable := getattr(file, "seekable", None)) and seekable():
        file.seek(0)
    if not isinstance(file.read(0), bytes):
        raise InputError("the file is opened as text; open it in binary mode, 'rb'")
    return read_at_most(file, MAX_FILE_BYTES + 1)


def nearest_ratio(width: int, height: int, ratios: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The (height, width) whose ratio is nearest to the picture's, the first of equals."""
    ratio = math.log(height / width)
    return min(ratios, key=lambda pair: abs(math.log(pair[0] / pair[1]) - ratio))


def best_grid(
    width: int, height: int, grids: Sequence[tuple[int, int]], patch: int
) -> tuple[int, int]:
    """The (height, width) grid that suits a picture of `width` x `height` pixels.

    Grids are compared by area first. Of each area, grids within a factor of `SAME_AREA`, the one of the nearest
    aspect ratio is the candidate, the first of equals; between two of exactly one ratio the larger is. The
    largest candidate that enlarges the picture by at most `MAX_ENLARGEMENT` is chosen, and where all enlarge it
    more, the smallest.

    512x512 pixels at patch 16: of 16x16, 32x32 and 64x64 the second, which is its own size.
    """
    candidates = [_candidate(width, height, group, patch) for group in _by_area(grids)]
    fitting = [grid for grid in candidates if _fits(width, height, grid, patch)]
    return fitting[-1] if fitting else candidates[0]


def _by_area(grids: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Grids of one area together and in their order, the groups from the smallest area to the largest."""
    groups: list[list[tuple[int, int]]] = []
    for area in sorted({math.prod(grid) for grid in grids}):
        if not groups or area >= SAME_AREA * min(map(math.prod, groups[-1])):
            groups.append([])
        groups[-1] += [grid for grid in grids if math.prod(grid) == area]
    return [sorted(group, key=grids.index) for group in groups]


def _candidate(
    width: int, height: int, grids: Sequence[tuple[int, int]], patch: int
) -> tuple[int, int]:
    """The grid of the nearest ratio, of grids of one area."""
    nearest = nearest_ratio(width, height, grids)
    alike = [grid for grid in grids if grid[0] * nearest[1] == grid[1] * nearest[0]]
    fitting = [grid for grid in alike if _fits(width, height, grid, patch)]
    return max(fitting, key=math.prod) if fitting else min(alike, key=math.prod)


def _fits(width: int, height: int, grid: tuple[int, int], patch: int) -> bool:
    """Whether a picture that covers the grid is enlarged by no more than `MAX_ENLARGEMENT`."""
    scale = patch * max(grid[0] / height, grid[1] / width)
    return scale <= MAX_ENLARGEMENT


def fit_to_grid(
    image: Image.Image, grids: Sequence[tuple[int, int]], patch: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture, cut in its middle to the aspect ratio of its grid (`best_grid`) and scaled to it.

    A picture that already has the size of one of `grids`, in patches of `patch` pixels, is left as it is.
    """
    if (image.height // patch, image.width // patch) in grids and not (
        image.height % patch or image.width % patch
    ):
        return np.array(image)
    grid_height, grid_width = best_grid(image.width, image.height, grids, patch)
    scale = min(image.width / grid_width, image.height / grid_height)
    width, height = grid_width * scale, grid_height * scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    size = (grid_width * patch, grid_height * patch)
    # Rounding may put an edge some 1e-13 of a pixel outside the picture, which Pillow refuses.
    box = (
        max(0.0, left),
        max(0.0, top),
        min(float(image.width), left + width),
        min(float(image.height), top + height),
    )
    return np.array(image.resize(size, Image.Resampling.LANCZOS, box=box))


def to_float(images_BHW3: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """uint8 RGB -> float in [-1, 1], channels first."""
    return torch.from_numpy(images_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images_B3HW: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Float in [-1, 1] (clipped) -> uint8 RGB, channels last."""
    scaled = (images_B3HW.detach().float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class GridWeight:
    """A token grid of height x width tokens, and its relative frequency among batches."""

    height: int
    width: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or not 0 <= self.weight < math.inf:
            raise ValueError("a grid has at least one row and one column, and a weight from 0 up")


def pick_grid(rng: np.random.Generator, grids: tuple[GridWeight, ...]) -> GridWeight:
    """One of the grids, drawn by their weights."""
    weights = np.array([grid.weight for grid in grids])
    return grids[int(rng.choice(len(grids), p=weights / weights.sum()))]
