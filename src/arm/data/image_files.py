"""Picture files: the formats that are read, the work that one file may cost, and which way up it is.

Pillow opens more than pictures, and an EPS file under any name starts a program. So files are opened as one of
`FORMATS` and nothing else. Of an animation, or of a file of several pictures, the first is read.
"""

import os
import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from arm.data.image_modes import to_rgb
from arm.errors import InputError, shown
from arm.files import read_at_most

FORMATS: dict[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "ICO": (".ico",),
    "PCX": (".pcx",),
    "SGI": (".bw", ".rgb", ".rgba", ".sgi"),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
"""Pillow's names of the formats that are read, and the suffixes of their files. All are decoded inside this
process. The content says which format a file has; the suffix only says which files of a folder are pictures.
"""
OPENED = tuple(name for name in FORMATS if name != "MPO")
"""The formats as Pillow opens them: the first picture of an MPO file is a JPEG file."""
PICTURE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 2**29
"""The largest file, 512 MiB: 64 megapixels of 16-bit RGB with opacity."""
MAX_SCANS = 100
"""Scans of one JPEG file. Encoders write about 10."""
MAX_SCANNED_PIXELS = 2_000_000_000
"""Pixels times scans of one JPEG file: each scan passes over all pixels."""
MAX_CHUNKS = 100_000
"""Chunks of one PNG file. Encoders put at least 8 KiB into each."""

ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""
TRANSPOSITIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns a picture upright, by its EXIF orientation."""
ON_ITS_SIDE = range(5, 9)
"""EXIF orientations whose width and height are swapped."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker that is neither a stuffed byte, nor filling, nor a restart inside a scan's data."""
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = (0x01, 0xD8)


def read_image(file: Path | bytes, name: str) -> Image.Image:
    """The upright RGB picture of a file or of a file's bytes, with transparency over white.

    name: what errors call it. Raises InputError, which begins with it, for a file that cannot be read, is of
    another format than `FORMATS`, is damaged, or costs more work than one picture may.
    """
    try:
        content = file if isinstance(file, bytes) else _read(file)
        _check_bytes(len(content))
        try:
            return _decode(content)
        except ValueError:
            # Pillow refuses PNG files whose text or colour profile unpacks to more than a megabyte.
            smaller = without_metadata(content)
            if len(smaller) == len(content):
                raise
            return _decode(smaller)
    except Exception as error:
        raise picture_error(error, name) from None


def image_size(file: Path | bytes, name: str) -> tuple[int, int]:
    """(width, height) of the upright picture as the file's header says; no pixel is decoded.

    Raises InputError as `read_image` does, but not for what only the pixels show.
    """
    try:
        _check_bytes(len(file) if isinstance(file, bytes) else os.stat(file).st_size)
        try:
            return _size(BytesIO(file) if isinstance(file, bytes) else file)
        except ValueError:
            content = file if isinstance(file, bytes) else _read(file)
            smaller = without_metadata(content)
            if len(smaller) == len(content):
                raise
            return _size(BytesIO(smaller))
    except Exception as error:
        raise picture_error(error, name) from None


def picture_error(error: Exception, name: str) -> InputError:
    """What any failure of a picture is to the user, in one line that begins with `name`."""
    if isinstance(error, InputError):
        return InputError(f"{name}: {error}")
    if isinstance(error, Image.DecompressionBombError):
        return InputError(f"{name}: the picture has more than 64 megapixels; make it smaller")
    reason = shown(str(error)) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = "its format is not known"
    return InputError(f"{name} is no readable picture ({reason}); give a PNG or JPEG file")


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says.

    `ImageOps.exif_transpose` also rewrites the rest of EXIF and fails where that is damaged.
    """
    transposition = TRANSPOSITIONS[orientation(image)]
    return image if transposition is None else image.transpose(transposition)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 to 8. 1, which is upright, where there is none that can be read, and
    for TIFF, which Pillow turns itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises whatever a damaged block provokes
        return 1
    return value if value in TRANSPOSITIONS else 1


def check_pixels(width: int, height: int) -> None:
    """Raises InputError for no pixels, and for more than 64 megapixels."""
    if width < 1 or height < 1:
        raise InputError(f"the picture has {width}x{height} pixels; give one that has any")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"the picture has {width}x{height} = {width * height / 1e6:.0f} megapixels, 64 is the "
            "limit; make it smaller"
        )


def jpeg_scans(content: bytes) -> int:
    """The number of scans of a JPEG file, up to its end-of-image marker, and no more than `MAX_SCANS` + 1."""
    position, scans = 2, 0
    while scans <= MAX_SCANS and (marker := JPEG_MARKER.search(content, position)):
        position = marker.end()
        kind = content[position - 1]
        if kind == END_OF_IMAGE:
            break
        scans += kind == START_OF_SCAN
        if kind not in WITHOUT_LENGTH:
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
    return scans


def without_metadata(content: bytes) -> bytes:
    """A PNG file without its chunks of text and without its colour profile; other bytes as they are."""
    if not content.startswith(PNG_SIGNATURE):
        return content
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position < len(content):
        end, kind = _next_chunk(content, position)
        if kind not in PNG_METADATA:
            kept.append(content[position:end])
        position = end
    return b"".join(kept)


def _next_chunk(content: bytes, position: int) -> tuple[int, bytes]:
    """Where the PNG chunk at `position` ends, and its type."""
    length = int.from_bytes(content[position : position + 4], "big")
    return position + 12 + length, content[position + 4 : position + 8]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return read_at_most(file, MAX_FILE_BYTES + 1)


def _check_bytes(count: int) -> None:
    if count > MAX_FILE_BYTES:
        raise InputError(
            f"the file has more than {MAX_FILE_BYTES // 2**20} MiB; a picture may have no more"
        )


def _open(file: Path | BinaryIO) -> Image.Image:
    """A picture whose header is read and within the limits, but whose pixels are not decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unusual headers, and of sizes, which are checked here
        image = Image.open(file, formats=OPENED)
    check_pixels(*image.size)
    return image


def _size(file: Path | BinaryIO) -> tuple[int, int]:
    with _open(file) as image:
        width, height = image.size
        return (height, width) if orientation(image) in ON_ITS_SIDE else (width, height)


def _decode(content: bytes) -> Image.Image:
    _check_chunks(content)
    with _open(BytesIO(content)) as image:
        if image.format in ("JPEG", "MPO"):
            _check_scans(content, image.width, image.height)
        return to_rgb(upright(image))


def _check_scans(content: bytes, width: int, height: int) -> None:
    """Raises InputError for a JPEG file whose scans are too many, or too many for its pixels."""
    most = min(MAX_SCANS, MAX_SCANNED_PIXELS // (width * height))
    # Counting the bytes of the marker anywhere is a hundred times faster than following the segments.
    if content.count(b"\xff\xda") > most and (scans := jpeg_scans(content)) > most:
        number = f"{scans}" if scans <= MAX_SCANS else f"more than {MAX_SCANS}"
        raise InputError(
            f"the JPEG file has {number} scans of {width}x{height} pixels; save it again"
        )


def _check_chunks(content: bytes) -> None:
    """Raises InputError for a PNG file of too many chunks."""
    if not content.startswith(PNG_SIGNATURE):
        return
    position = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS + 1):
        if position >= len(content):
            return
        position, _ = _next_chunk(content, position)
    raise InputError(f"the PNG file has more than {MAX_CHUNKS:,} chunks; save it again")
