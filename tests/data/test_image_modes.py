"""Pixels of every mode, type and shape become the bytes that the table of `image_modes.py` says."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from arm.data.image_modes import array_to_rgb, to_rgb
from arm.errors import InputError

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def grey(image: Image.Image) -> list[int]:
    """The values of a grey RGB picture."""
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].ravel().tolist()


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, 255),
        ("L", 77, 77),
        ("LA", (77, 255), 77),
        ("LA", (0, 0), 255),  # no opacity over white
        ("La", (77, 255), 77),
        ("RGB", (77, 77, 77), 77),
        ("RGBX", (77, 77, 77, 9), 77),
        ("RGBA", (0, 0, 0, 51), 204),
        ("RGBa", (0, 0, 0, 0), 255),
        ("CMYK", (0, 0, 0, 55), 200),
        ("YCbCr", (77, 128, 128), 77),
        ("HSV", (9, 0, 77), 77),
        ("I;16", 20_000, 78),  # 20,000 / 256
        ("I;16", 65_535, 255),
        ("I;16L", 20_000, 78),
        ("I;16B", 20_000, 78),
        ("I;16N", 20_000, 78),
        ("I", 77, 77),
        ("I", 20_000, 78),
        ("I", 65_535, 255),
        ("I", 2**24, 2),
        ("I", 2**30, 128),
        ("I", 2**31 - 1, 255),
        ("F", 0.5, 128),
        ("F", 1.0, 255),
        ("F", 77.0, 77),
        ("F", 254.6, 255),
    ],
)
def test_every_mode_is_scaled_by_its_range(mode: str, value: Any, expected: int):
    assert grey(to_rgb(Image.new(mode, (2, 1), value))) == [expected] * 2


@pytest.mark.parametrize("mode", ["L", "P", "I", "F", "CMYK", "HSV", "YCbCr", "RGBA", "LA", "1"])
def test_what_pillow_converts_there_comes_back(mode: str):
    """A black and white picture loses nothing in any mode."""
    image = Image.fromarray(np.where(RAMP > 100, np.uint8(255), np.uint8(0)))
    if mode in ("CMYK", "HSV", "YCbCr"):
        image = image.convert("RGB")
    assert grey(to_rgb(image.convert(mode))) == np.where(RAMP > 100, 255, 0).ravel().tolist()


def test_lab():
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(60, 196, (8, 8, 3), dtype=np.uint8))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    assert lab is not None and lab.mode == "LAB"
    error = np.asarray(to_rgb(lab), int) - np.asarray(rgb, int)
    assert np.abs(error).mean() < 2  # LAB has 8 bits a channel too


def test_a_dark_pgm_file_of_16_bits_is_dark(tmp_path: Any):
    """Its values alone would be taken for 8 bits."""
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + bytes([0, 200, 2, 0]))
    with Image.open(path) as image:
        assert image.mode == "I" and grey(to_rgb(image)) == [0, 2]


@pytest.mark.parametrize(
    ("mode", "value", "words"),
    [
        ("I", -1, "integers run from -1 to -1"),
        ("I", 2**16, "integers run from 65,536 to 65,536"),
        ("I", 2**24 - 1, "integers run from 16,777,215"),
        ("F", -0.5, "floats run from -0.5 to -0.5"),
        ("F", 300.0, "floats run from 300 to 300"),
        ("F", float("nan"), "floats run from nan to nan"),
        ("F", float("inf"), "floats run from inf to inf"),
    ],
)
def test_a_range_that_is_not_known(mode: str, value: float, words: str):
    with pytest.raises(InputError, match=f"{words}.* their range is not known; scale them to 0 to"):
        to_rgb(Image.new(mode, (2, 2), value))


@pytest.mark.parametrize(
    "array",
    [
        RAMP,
        RAMP[..., None],
        np.stack([RAMP] * 3, -1),
        np.stack([*[RAMP] * 3, np.full_like(RAMP, 255)], -1),
        np.stack([RAMP] * 3),
        RAMP[None],
        np.stack([RAMP] * 3, -1)[None],
        RAMP.astype(np.uint16) * 257,
        (RAMP.astype(np.uint16) * 257).astype(">u2"),
        RAMP.astype(np.int64),
        RAMP.astype(np.int64) * 257,
        RAMP.astype(np.float32),
        RAMP / 255,
        (RAMP / 255).astype(np.float16),
        np.asfortranarray(RAMP),
        RAMP[::-1][::-1],
    ],
    ids=lambda array: f"{array.shape}-{array.dtype}",
)
def test_arrays(array: Any):
    image = array_to_rgb(array)
    assert image.size == (6, 4) and grey(image) == RAMP.ravel().tolist()


def test_booleans_and_opacity():
    assert grey(array_to_rgb(RAMP > 100)) == np.where(RAMP > 100, 255, 0).ravel().tolist()
    half = np.zeros((1, 1, 4), np.float32) + np.float32([0, 0, 0, 0.2])
    assert grey(array_to_rgb(half)) == [204]


def test_channels_first_where_both_are_possible():
    array = np.zeros((3, 5, 4), np.uint8)
    assert array_to_rgb(array).size == (5, 3)
    assert array_to_rgb(array, channels_first=True).size == (4, 5)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), r"shape \(3,\) is no picture; give \(H, W\)"),
        (np.zeros(()), r"shape \(\) is no picture"),
        (np.zeros((5, 6, 2)), r"shape \(5, 6, 2\) is no picture"),
        (np.zeros((2, 5, 6, 3)), "one picture at a time"),
        (np.zeros((0, 6, 3)), "has no pixels"),
        (np.zeros((5, 6), complex), "an array of complex128 is no picture"),
        (np.array([["a"]]), "an array of <U1 is no picture"),
        (np.array([[None]]), "an array of object is no picture"),
        (np.full((2, 2), -1), "integers run from -1 to -1"),
        (np.full((2, 2), 2**40), "integers run from 1,099,511,627,776"),
        (np.linspace(-1, 1, 12).reshape(3, 4), "floats run from -1 to 1"),
    ],
)
def test_arrays_that_are_no_pictures(array: Any, words: str):
    with pytest.raises(InputError, match=words) as error:
        array_to_rgb(array)
    assert "\n" not in str(error.value)
