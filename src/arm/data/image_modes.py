"""Pixels of any kind as 8-bit RGB: Pillow's modes, and NumPy arrays of the usual shapes.

How the values of a picture become 0 to 255:

| values | rule |
|---|---|
| 8 bits | as they are |
| 16 bits (modes I;16, I;16L, I;16B, I;16N; arrays of uint16) | the high byte: 65,535 becomes 255 |
| other integers (mode I; arrays of int64, ...) | the narrowest of 8, 16, 31 and 32 bits that holds the largest value says the range, of which the highest 8 bits are kept. Mode I from a PGM file has 16 bits |
| floats (mode F; arrays of any float type) | up to 1: times 255. Up to 255: as they are. Both are rounded |
| booleans (mode 1; arrays of bool) | False is black, True is white |

Where this does not tell the range (a negative value, NaN, a float above 255, a largest integer from 2^16
to 2^24 - 1, which 31 bits would turn black) InputError says so. Mode F of values up to 1 in a picture that was
meant to reach 255, or mode I of values up to 255 in one of 16 bits, cannot be told from the usual case.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arm.errors import InputError

CHANNELS = (1, 3, 4)
"""Channels of an array: grey, RGB, RGB with opacity."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, with transparency over white.

    Raises InputError where the range of its values is not known.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray(_high_byte(np.asarray(image)))
    elif image.mode == "I":
        values = np.asarray(image)
        sixteen = image.format == "PPM"
        image = Image.fromarray(_high_byte(values) if sixteen else _integers(values))
    elif image.mode == "F":
        image = Image.fromarray(_floats(np.asarray(image)))
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def array_to_rgb(array: NDArray[np.generic], *, channels_first: bool = False) -> Image.Image:
    """An array as an RGB picture: (H, W), (H, W, C) or (C, H, W), with C of 1, 3 or 4.

    channels_first: an array that could be either, as (3, 8, 4), is (C, H, W). Raises InputError for other
    shapes and types, and where the range of the values is not known.
    """
    given = array.shape
    if array.ndim == 4 and given[0] == 1:  # a batch of one
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    first = array.ndim == 3 and array.shape[0] in CHANNELS
    last = array.ndim == 3 and array.shape[2] in CHANNELS
    if first and (channels_first or not last):
        array = np.moveaxis(array, 0, -1)
    elif not last:
        raise InputError(
            f"an array of shape {given} is no picture; give (H, W), (H, W, C) or (C, H, W) with "
            "C = 1, 3 or 4, one picture at a time"
        )
    if not array.size:
        raise InputError(f"an array of shape {given} has no pixels")
    pixels = np.ascontiguousarray(_to_bytes(array))
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _to_bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Values of any type as bytes, by the table above."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return _high_byte(array)
    if array.dtype.kind in "iu":
        return _integers(array)
    if array.dtype.kind == "f":
        return _floats(array)
    raise InputError(f"an array of {array.dtype} is no picture; give integers or floats")


def _high_byte(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The high byte of values of 16 bits."""
    return (values.astype(np.int64) >> 8).astype(np.uint8)


def _integers(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Integers as bytes, by the narrowest range that holds them."""
    least, largest = int(values.min()), int(values.max())
    bits = next((bits for bits in (8, 16, 31, 32) if largest < 2**bits), 0)
    if least < 0 or not bits or 2**16 <= largest < 2**24:
        raise InputError(
            f"the picture's integers run from {least:,} to {largest:,}, and their range is not known; scale them "
            "to 0 to 255, or to 0 to 65,535"
        )
    return (values.astype(np.int64) >> (bits - 8)).astype(np.uint8)


def _floats(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Floats as bytes: of 0 to 1, or of 0 to 255."""
    numbers = values.astype(np.float32)
    least, largest = float(numbers.min()), float(numbers.max())
    if not (least >= 0 and largest <= 255):  # also where one is NaN
        raise InputError(
            f"the picture's floats run from {least:g} to {largest:g}, and their range is not known; scale them to "
            "0 to 1, or to 0 to 255"
        )
    return np.rint(numbers * 255 if largest <= 1 else numbers).astype(np.uint8)
