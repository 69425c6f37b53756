"""Users' pictures: in any form they are opened alike, every broken one is one clear line, and every size finds its
grid.
"""

import math
import os
import struct
import zlib
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from arm.data.images import (
    MAX_ENLARGEMENT,
    SAME_AREA,
    best_grid,
    fit_to_grid,
    nearest_ratio,
    open_image,
)
from arm.errors import InputError

GRIDS = ((6, 6), (6, 8), (8, 6))  # height, width in tokens


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x = np.broadcast_to(np.linspace(0, 255, width)[None], (height, width))
    y = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


def encoded(image: Image.Image, form: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        open_image(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


# Opening


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "WEBP"])
def test_a_picture_is_rgb(tmp_path: Path, form: str):
    path = tmp_path / "a.picture"  # what it is tells the content, not the name
    path.write_bytes(encoded(Image.new("RGB", (5, 3), (0, 0, 255)), form))
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (5, 3))
    assert np.abs(np.asarray(image, dtype=int) - (0, 0, 255)).max() < 8


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16", "F"])
def test_other_modes_become_rgb(mode: str):
    assert open_image(Image.new(mode, (4, 4))).mode == "RGB"


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)])  # whole, none, a fifth
    assert np.asarray(open_image(image)).tolist() == [
        [[255, 0, 0], [255, 255, 255], [204, 204, 204]]
    ]
    gray = Image.new("LA", (1, 1), (0, 0))
    assert open_image(gray).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_entry_is_white(tmp_path: Path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png", transparency=1)
    opened = open_image(tmp_path / "palette.png")
    assert np.asarray(opened).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_no_file(tmp_path: Path):
    assert "does not exist or is no file" in refused(tmp_path / "none.png")
    assert "does not exist or is no file" in refused(tmp_path)
    with pytest.raises(InputError, match=r"^w+\.{3}w+ \(300 characters\) does not exist or is no"):
        open_image("w" * 300)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"]
)
def test_a_file_that_is_no_picture(tmp_path: Path, content: bytes):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    assert "is no readable picture" in refused(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_picture(tmp_path: Path, form: str, share: float):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, form)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(share * len(data))])
    assert "is no readable picture" in refused(path)


SMALL = {
    form: encoded(gradient(12, 9), form) for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(SMALL)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0.1, 1),
)
def test_any_damage_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    bytes_at: list[tuple[float, int]],
    kept: float,
):
    data = bytearray(SMALL[form])
    for place, value in bytes_at:
        data[int(place * len(data))] = value
    path = tmp_path_factory.mktemp("fuzz") / "picture"
    path.write_bytes(bytes(data[: int(kept * len(data))]))
    try:
        assert open_image(path).mode == "RGB"
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_more_than_64_megapixels(tmp_path: Path):
    path = tmp_path / "bomb.png"
    Image.new("1", (9000, 9000)).save(path)
    assert path.stat().st_size < 100_000
    message = refused(path)
    assert "9000x9000 = 81 megapixels" in message and "64 is the limit" in message


def test_far_more_than_64_megapixels(tmp_path: Path):
    """A header that promises a terapixel; nothing is decoded."""
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", 1_000_000, 1_000_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path = tmp_path / "bomb.png"
    path.write_bytes(bytes(data))
    assert "more than 64 megapixels" in refused(path)


# Pictures in other forms than files

NOISE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


class Readable:
    """The least that an opened file may offer."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, size: int) -> bytes:
        piece, self.content = self.content[:size], self.content[size:]
        return piece


@pytest.mark.parametrize(
    "form",
    [
        "str", "Path", "PathLike", "bytes", "bytearray", "memoryview", "opened file", "BytesIO at its end",
        "read alone", "Pillow", "lazy Pillow", "array", "floats", "tensor CHW", "tensor HWC", "float tensor",
    ],
)  # fmt: skip
def test_the_same_pixels_in_every_form(form: str, tmp_path: Path):
    path = tmp_path / "x.png"
    Image.fromarray(NOISE).save(path)
    at_end = BytesIO()
    at_end.write(path.read_bytes())
    source = {
        "str": lambda: str(path),
        "Path": lambda: path,
        "PathLike": lambda: next(os.scandir(tmp_path)),
        "bytes": path.read_bytes,
        "bytearray": lambda: bytearray(path.read_bytes()),
        "memoryview": lambda: memoryview(path.read_bytes()),
        "opened file": lambda: path.open("rb"),
        "BytesIO at its end": lambda: at_end,
        "read alone": lambda: Readable(path.read_bytes()),
        "Pillow": lambda: Image.fromarray(NOISE),
        "lazy Pillow": lambda: Image.open(path),
        "array": lambda: NOISE,
        "floats": lambda: NOISE / 255,
        "tensor CHW": lambda: torch.from_numpy(NOISE).permute(2, 0, 1),
        "tensor HWC": lambda: torch.from_numpy(NOISE),
        "float tensor": lambda: torch.from_numpy(NOISE).permute(2, 0, 1)[None].float() / 255,
    }[form]()
    assert np.array_equal(np.asarray(open_image(source)), NOISE)


@pytest.mark.parametrize("said", range(1, 9))
def test_an_opened_picture_is_turned_as_its_file_is(said: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = said
    for form in ("png", "jpg", "tif", "webp"):
        path = tmp_path / f"x.{form}"
        Image.fromarray(NOISE).save(path, exif=exif)
        expected = np.asarray(open_image(path))
        assert expected.shape == ((12, 9, 3) if said > 4 else (9, 12, 3))
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(open_image(image)), expected)
            assert np.array_equal(np.asarray(open_image(image.copy())), expected)
        assert np.array_equal(np.asarray(open_image(path.read_bytes())), expected)
        loaded = Image.open(path)
        loaded.load()
        assert np.array_equal(np.asarray(open_image(ImageOps.exif_transpose(loaded))), expected)


def test_a_broken_picture_that_was_opened_lazily(tmp_path: Path):
    data = encoded(Image.fromarray(NOISE), "PNG")
    (tmp_path / "cut.png").write_bytes(data[:-40])
    with pytest.raises(InputError, match=r"^the picture is no readable picture \(.*truncated\)"):
        open_image(Image.open(tmp_path / "cut.png"))
    closed = Image.open(BytesIO(data))
    closed.close()
    with pytest.raises(InputError, match=r"^scan 3 is no readable picture"):
        open_image(closed, "scan 3")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "a picture is a path, bytes, .* not NoneType"),
        (3, "a picture is a path, bytes, .* not int"),
        ([[1, 2], [3, 4]], "not list"),
        ({"bytes": b""}, "not dict"),
        (StringIO("x"), "opened as text; open it in binary mode"),
        (b"", "its format is not known"),
        (b"junk", "its format is not known"),
        ("a\0b", r"^a\\x00b does not exist"),
        (np.zeros((2, 3)) - 1, "range is not known"),
        (torch.zeros(2, 3, 5, 5), "one picture at a time"),
        (torch.zeros(3, 5, 5, device="meta"), "is no readable picture"),
        (Image.new("RGB", (0, 4)), "has 0x4 pixels"),
        (Image.new("1", (9000, 9000)), "9000x9000 = 81 megapixels, 64 is the limit"),
    ],
)
def test_what_is_no_picture(source: Any, words: str):
    with pytest.raises(InputError, match=words) as error:
        open_image(source)
    assert "\n" not in str(error.value)


def test_a_picture_of_another_format_is_refused(tmp_path: Path):
    """Loading an EPS file would start a program."""
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    )
    with pytest.raises(InputError, match="pictures of the format EPS are not read"):
        open_image(Image.open(tmp_path / "x.png"))


# Fitting


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((512, 512), (32, 32)),
        ((256, 256), (16, 16)),
        ((1024, 1024), (64, 64)),
        ((2000, 2000), (64, 64)),
        ((500, 500), (32, 32)),  # enlarged by 1.024
        ((410, 410), (32, 32)),  # by 1.249
        ((408, 408), (16, 16)),  # would be by 1.255
        ((100, 100), (16, 16)),  # all enlarge it: the smallest
        ((820, 4000), (64, 64)),  # its width counts
        ((816, 4000), (32, 32)),
    ],
)
def test_a_grid_is_chosen_by_area(size: tuple[int, int], grid: tuple[int, int]):
    for grids in (((16, 16), (32, 32), (64, 64)), ((64, 64), (16, 16), (32, 32))):
        assert best_grid(*size, grids, 16) == grid
        fitted = fit_to_grid(Image.new("L", size), grids, 16)
        assert fitted.shape == (grid[0] * 16, grid[1] * 16)


def test_then_by_ratio():
    """Three shapes of each of two areas, whose tokens differ by a little."""
    grids = ((16, 16), (14, 18), (18, 14), (32, 32), (28, 36), (36, 28))
    assert best_grid(640, 480, grids, 16) == (28, 36)
    assert best_grid(300, 400, grids, 16) == (18, 14)
    assert best_grid(512, 512, grids, 16) == (32, 32)
    assert best_grid(450, 350, grids, 16) == (14, 18)  # 28x36 would enlarge it by 1.28


def test_of_grids_of_one_ratio_the_larger_that_fits():
    for grids in (((7, 7), (6, 6), (6, 8)), ((6, 6), (7, 7), (6, 8))):
        assert best_grid(56, 56, grids, 8) == (7, 7)
        assert best_grid(40, 40, grids, 8) == (6, 6)  # 7x7 would enlarge it by 1.4
        assert best_grid(400, 300, grids, 8) == (6, 8)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 32))
def test_grids_of_one_area_are_chosen_by_ratio_alone(width: int, height: int, patch: int):
    for grids in (
        ((7, 7), (6, 8), (8, 6)),
        ((8, 8), (7, 9), (9, 7)),
        ((32, 32), (28, 36), (36, 28), (24, 42), (42, 24)),
        ((5, 3),),
    ):
        ratio = math.log(height / width)
        nearest = min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1]) - ratio))
        assert best_grid(width, height, grids, patch) == nearest


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=8),
)
def test_no_picture_is_enlarged_much_where_a_smaller_grid_is_offered(
    width: int, height: int, grids: list[tuple[int, int]]
):
    chosen = best_grid(width, height, grids, 16)
    enlargement = 16 * max(chosen[0] / height, chosen[1] / width)
    smaller = [g for g in grids if SAME_AREA * SAME_AREA * math.prod(g) <= math.prod(chosen)]
    assert chosen in grids and (enlargement <= MAX_ENLARGEMENT or not smaller)


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [
        (100, 100, (6, 6)),
        (400, 300, (6, 8)),
        (300, 400, (8, 6)),
        (5000, 10, (6, 8)),
        (10, 5000, (8, 6)),
        (110, 100, (6, 6)),  # 1.10 is nearer to 1 than to 4/3
        (120, 100, (6, 8)),  # 1.20 is nearer to 4/3 in proportion
    ],
)
def test_the_grid_of_the_nearest_aspect_ratio(width: int, height: int, grid: tuple[int, int]):
    assert nearest_ratio(width, height, GRIDS) == grid
    assert best_grid(width, height, GRIDS, 8) == grid


def test_the_first_of_equal_ratios():
    assert nearest_ratio(50, 50, ((4, 4), (8, 8))) == (4, 4)
    assert nearest_ratio(50, 50, ((8, 8), (4, 4))) == (8, 8)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_exact_size_is_untouched(grid: tuple[int, int]):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (grid[0] * 8, grid[1] * 8, 3), dtype=np.uint8)
    assert np.array_equal(fit_to_grid(Image.fromarray(pixels), GRIDS, 8), pixels)


def test_a_size_that_is_almost_exact_is_fitted():
    assert fit_to_grid(gradient(50, 48), GRIDS, 8).shape == (48, 48, 3)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300))
def test_every_size_becomes_a_grid(width: int, height: int):
    fitted = fit_to_grid(gradient(width, height), GRIDS, 8)
    grid = best_grid(width, height, GRIDS, 8)
    assert fitted.shape == (grid[0] * 8, grid[1] * 8, 3) and fitted.dtype == np.uint8


@pytest.mark.parametrize("size", [(1000, 907), (512, 492), (30, 29), (907, 1000), (1, 1)])
@pytest.mark.parametrize("grids", [((7, 7), (6, 8), (8, 6)), ((8, 8), (7, 9), (9, 7)), ((7, 9),)])
def test_sizes_whose_cut_is_rounded_to_the_outside(
    size: tuple[int, int], grids: tuple[tuple[int, int], ...]
):
    fitted = fit_to_grid(Image.new("RGB", size, (10, 20, 30)), grids, 8)
    assert (fitted == (10, 20, 30)).all()


SIDES = st.one_of(st.integers(1, 64), st.integers(1, 4000))


@settings(deadline=None, max_examples=100)
@given(SIDES, SIDES, st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1))
def test_any_size_fits_any_grids(width: int, height: int, grids: list[tuple[int, int]]):
    """Up to 4,000 pixels a side. One patch is one pixel, so that this tests the cut alone."""
    fitted = fit_to_grid(Image.new("L", (width, height), 7), grids, 1)
    assert fitted.shape in grids and (fitted == 7).all()


def test_shapes_keep_their_proportions_and_the_centre_stays():
    """A disc in a wide picture: cut left and right, still round, in the middle."""
    y, x = np.mgrid[:200, :400]
    disc = (x - 199.5) ** 2 + (y - 99.5) ** 2 <= 60**2
    image = Image.fromarray(np.where(disc[..., None], 255, 0).repeat(3, 2).astype(np.uint8))
    fitted = fit_to_grid(image, ((6, 6),), 16)[..., 0] > 127  # 96 pixels from 200
    rows, cols = np.flatnonzero(fitted.any(1)), np.flatnonzero(fitted.any(0))
    assert rows[-1] - rows[0] == cols[-1] - cols[0]
    assert abs((rows[-1] - rows[0] + 1) - 120 * 96 / 200) <= 1
    assert rows[0] + rows[-1] == cols[0] + cols[-1] == 95


def test_the_cut_is_centred_by_hand():
    """24 x 8 pixels in three colours onto one 8 x 8 patch: the middle third is left."""
    stripes = np.zeros((8, 24, 3), dtype=np.uint8)
    stripes[:, :8, 0], stripes[:, 8:16, 1], stripes[:, 16:, 2] = 255, 255, 255
    fitted = fit_to_grid(Image.fromarray(stripes), ((1, 1),), 8)
    assert (fitted == (0, 255, 0)).all()


@pytest.mark.parametrize("said", range(1, 9))
def test_upright_is_what_pillow_makes_of_each_orientation(said: int, tmp_path: Path):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    exif = Image.Exif()
    exif[0x0112] = said
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        turned = ImageOps.exif_transpose(image)
    assert np.array_equal(np.array(open_image(tmp_path / "x.png")), np.array(turned))
