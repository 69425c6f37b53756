"""Files are opened as pictures and nothing else, and one file costs a bounded amount of work."""

import struct
import subprocess
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from arm.data import image_files
from arm.data.image_files import (
    FORMATS,
    MAX_SCANS,
    PICTURE_SUFFIXES,
    image_size,
    jpeg_scans,
    read_image,
    without_metadata,
)
from arm.errors import InputError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def noise(side: int = 64) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_suffixes_are_those_of_pillow():
    """Every suffix that Pillow has for a format, and no other."""
    Image.init()
    known = Image.registered_extensions()
    for name, suffixes in FORMATS.items():
        assert set(suffixes) == {suffix for suffix, form in known.items() if form == name}, name
    assert {".png", ".jpg", ".webp", ".avif", ".tiff"} <= PICTURE_SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".mpg", ".wmf", ".h5"} & PICTURE_SUFFIXES


@pytest.mark.parametrize(
    "form", ["PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM",
             "QOI", "ICO", "PCX", "SGI", "TGA"],
)  # fmt: skip
def test_every_format_is_read(form: str):
    data = saved(Image.new("RGB", (16, 16), (0, 0, 255)), form)
    image = read_image(data, "x")
    assert (image.mode, image.size) == ("RGB", (16, 16)) and image_size(data, "x") == (16, 16)
    assert np.abs(np.asarray(image, dtype=int) - (0, 0, 255)).max() < 8
    assert form in FORMATS and len(FORMATS) == 16


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
def test_an_eps_file_starts_no_program(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def started(*args: object, **options: object) -> None:
        raise AssertionError("a program was started")

    for function in ("run", "Popen", "check_call", "call", "check_output"):
        monkeypatch.setattr(subprocess, function, started)
    path = tmp_path / name
    path.write_bytes(EPS)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=r"^x is no readable picture .its format is not known"):
            read(path, "x")


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"\x89HDF\r\n\x1a\n" + b"\0" * 64, b"\0\0\1\xba"])
def test_other_things_that_pillow_knows_are_no_pictures(data: bytes):
    with pytest.raises(InputError, match="its format is not known"):
        read_image(data, "x")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt", "iCCP", "iTXt behind the pixels"])
def test_a_png_file_with_much_text_or_a_large_profile(kind: str):
    """Pillow alone refuses what unpacks to more than a megabyte."""
    image, info = noise(), PngImagePlugin.PngInfo()
    options: dict[str, object] = {"pnginfo": info}
    if kind == "iCCP":
        options = {"icc_profile": b"\0" * 3_000_000}
    elif kind == "tEXt":
        for n in range(70):
            info.add_text(f"key{n}", "x" * 1_000_000)
    elif kind == "zTXt":
        info.add_text("key", "x" * 3_000_000, zip=True)
    else:
        info.add_itxt("key", "x" * 3_000_000, zip=True)
    data = saved(image, "PNG", **options)
    if kind.endswith("pixels"):
        text = without_metadata(data)
        (begin,) = (i for i in range(len(data)) if data.startswith(b"iTXt", i) and i < 200)
        length = int.from_bytes(data[begin - 4 : begin], "big") + 12
        chunk = data[begin - 4 : begin - 4 + length]
        data = text[:-12] + chunk + text[-12:]
    with pytest.raises(ValueError, match=r"Decompressed data too large|Too much memory"):
        Image.open(BytesIO(data)).load()
    assert np.array_equal(np.asarray(read_image(data, "x")), np.asarray(image))
    assert image_size(data, "x") == (64, 64)


def test_without_metadata_by_hand():
    data = saved(Image.new("L", (1, 1)), "PNG")
    text = png_chunk(b"tEXt", b"a\0b") + png_chunk(b"iCCP", b"c\0\0d")
    assert without_metadata(data[:33] + text + data[33:]) == data == without_metadata(data)
    assert without_metadata(data[:-3]) == data[:-3]
    assert without_metadata(b"GIF89a") == b"GIF89a"


def test_too_many_chunks(monkeypatch: pytest.MonkeyPatch):
    data = saved(Image.new("L", (1, 1)), "PNG")
    monkeypatch.setattr(image_files, "MAX_CHUNKS", 10)
    assert read_image(data[:33] + png_chunk(b"tEXt", b"a\0b") * 7 + data[33:], "x").size == (1, 1)
    with pytest.raises(
        InputError, match=r"^x: the PNG file has more than 10 chunks; save it again"
    ):
        read_image(data[:33] + png_chunk(b"tEXt", b"a\0b") * 8 + data[33:], "x")


def with_scans(data: bytes, scans: int) -> bytes:
    """A progressive JPEG file whose last scan stands there so often that it has `scans`."""
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - jpeg_scans(data) + 1) + data[-2:]


def test_scans_of_a_jpeg_file():
    progressive = saved(noise(), "JPEG", progressive=True)
    assert jpeg_scans(progressive) == progressive.count(b"\xff\xda") == 10
    assert jpeg_scans(saved(noise(), "JPEG")) == 1
    assert read_image(with_scans(progressive, MAX_SCANS), "x").size == (64, 64)
    with pytest.raises(InputError, match=r"^x: the JPEG file has more than 100 scans of 64x64"):
        read_image(with_scans(progressive, 5000), "x")


def test_scans_of_other_pictures_in_a_file_do_not_count():
    """A thumbnail in the EXIF block, and a film behind the end, as phones write them."""
    inner = saved(noise(8), "JPEG", progressive=True) * 12
    data = saved(noise(), "JPEG", exif=b"Exif\0\0" + inner) + b"\xff\xda\0\2" * 500
    assert data.count(b"\xff\xda") > 600
    assert jpeg_scans(data) == 1 and read_image(data, "x").size == (64, 64)


def test_scans_times_pixels(monkeypatch: pytest.MonkeyPatch):
    data = saved(noise(), "JPEG", progressive=True)
    monkeypatch.setattr(image_files, "MAX_SCANNED_PIXELS", 10 * 64 * 64)
    assert read_image(data, "x").size == (64, 64)
    with pytest.raises(InputError, match="the JPEG file has 11 scans of 64x64 pixels"):
        read_image(with_scans(data, 11), "x")


def test_a_file_of_too_many_bytes(tmp_path: Path):
    path = tmp_path / "x.bmp"
    path.write_bytes(saved(noise(), "BMP"))
    with path.open("r+b") as file:
        file.truncate(2**40)  # a hole
    for read in (image_size, read_image):
        with pytest.raises(InputError, match=r"^x: the file has more than 512 MiB"):
            read(path, "x")


@pytest.mark.parametrize("frames", [3, 300])
def test_an_animation_is_its_first_frame(frames: int):
    images = [Image.new("L", (4, 4), n % 256) for n in range(frames)]
    data = saved(images[0], "GIF", save_all=True, append_images=images[1:])
    assert read_image(data, "x").getpixel((0, 0)) == (0, 0, 0)
