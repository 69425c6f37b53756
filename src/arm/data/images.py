"""Users' pictures: opened safely, fitted to a token grid by aspect ratio, and converted to tensors."""

import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from arm.errors import InputError, shown
from arm.files import is_file

MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112
"""EXIF's number of the tag."""
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation."""
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    OverflowError,
    struct.error,
)
"""What Pillow raises for files that are damaged."""


def open_image(path: str | Path) -> Image.Image:
    """An RGB picture from a file.

    Raises InputError where it is missing, no picture, broken, or larger than 64 megapixels.
    """
    path = Path(path)
    name = shown(str(path))
    if not is_file(path):
        raise InputError(
            f"{name} does not exist or is no file that may be read; name a picture (PNG, JPEG, ...)"
        )
    return read_image(path, name)


def read_image(file: Path | BinaryIO, name: str) -> Image.Image:
    """An RGB picture from a file or its opened bytes; `name` is what errors call it (InputError)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
        check_size(image)  # before any pixel is decoded
        return as_rgb(upright(image))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{name}: the picture has more than 64 megapixels; make it smaller"
        ) from None
    except BROKEN as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "its format is not known" if unknown else error
        raise InputError(
            f"{name} is no readable picture ({reason}); give a PNG or JPEG file"
        ) from None


def orientation(image: Image.Image) -> int:
    """How EXIF says that an opened picture lies, 1 to 8; 1, upright, where nothing legible is said, and of
    TIFF, which Pillow turns itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow lets whatever a damaged block provokes through
        return 1
    return said if said in UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """The picture as it is meant to be seen. Pixels are turned here and not by `ImageOps.exif_transpose`,
    which also writes the rest of EXIF anew and fails where that is damaged.
    """
    turn = UPRIGHT[orientation(image)]
    return image if turn is None else image.transpose(turn)


def check_size(image: Image.Image) -> None:
    """Raises InputError above 64 megapixels."""
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"the picture has {image.width}x{image.height} = {image.width * image.height / 1e6:.0f} "
            "megapixels, 64 is the limit; make it smaller"
        )


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB with transparency laid over white. Raises InputError above 64 megapixels."""
    check_size(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def best_grid(width: int, height: int, grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The (height, width) grid whose aspect ratio is nearest to the picture's, the first of equals."""
    ratio = math.log(height / width)
    return min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1]) - ratio))


def fit_to_grid(
    image: Image.Image, grids: Sequence[tuple[int, int]], patch: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture cut to the nearest grid's aspect ratio (centred) and scaled to its pixels.

    A picture that already has a grid's size is left untouched.
    """
    if (image.height // patch, image.width // patch) in grids and not (
        image.height % patch or image.width % patch
    ):
        return np.array(image)
    grid_height, grid_width = best_grid(image.width, image.height, grids)
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
    """A token grid and how often a batch has it."""

    height: int
    width: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or not 0 <= self.weight < math.inf:
            raise ValueError("a grid has at least one row and one column, and a weight from 0 up")


def pick_grid(rng: np.random.Generator, grids: tuple[GridWeight, ...]) -> GridWeight:
    weights = np.array([grid.weight for grid in grids])
    return grids[int(rng.choice(len(grids), p=weights / weights.sum()))]
