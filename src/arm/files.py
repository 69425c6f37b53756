"""Files and folders that a user names: looked for, made, and written whole or not at all, with the mode that the
umask asks for.
"""

import codecs
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from threading import get_ident
from typing import Any, BinaryIO

from safetensors import SafetensorError

from arm.errors import InputError, shown


@contextmanager
def atomic_write(path: Path, keep_mode: bool = False, shared: bool = False) -> Iterator[Path]:
    """A temporary name beside `path` to write to, which takes the place of `path` at the end. Where writing
    fails or is stopped, `path` stays as it was.

    keep_mode: a file that is there already keeps its own. A link is followed, and what is no file, as
    /dev/stdout, is written to directly. shared: processes or threads may write the same file at once, so
    each takes a temporary name of its own.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f".{os.getpid()}.{get_ident()}" if shared else ""
    temporary = path.with_name(f"{path.name}{writer}.tmp")
    try:
        mode = _mode_of_new(temporary)
        if keep_mode and path.exists():
            mode = path.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)  # safetensors gives its files 0600
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises OSError where safetensors, which has an error of its own for it, cannot write `path`."""
    try:
        yield
    except SafetensorError as error:
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number) if told else str(error), str(path)) from None


def _mode_of_new(path: Path) -> int:
    """The mode of a new file at `path`, which is there afterwards: no other way to ask for the umask is safe
    beside threads that write.
    """
    path.unlink(missing_ok=True)
    path.touch()
    return path.stat().st_mode & 0o777


def usual_modes(folder: Path) -> None:
    """Gives the files below a folder, which may come from libraries, the mode that the umask asks for."""
    with tempfile.TemporaryDirectory(dir=folder) as room:
        mode = _mode_of_new(Path(room) / "new")
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)


def fill_folder(write: Callable[[Path], None], out: Path) -> None:
    """Lets `write` fill a temporary folder, and moves what it holds to `out`, in the place of what has the
    same names; other things stay. Where `write` fails, `out` stays as it was.
    """
    out = out.resolve()
    new = not out.exists()
    beside = out.parent if new else out
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".writing-") as room:
        filled, old = Path(room) / "new", Path(room) / "old"
        filled.mkdir()
        write(filled)
        usual_modes(filled)
        if new:
            filled.replace(out)
            return
        old.mkdir()
        for entry in sorted(filled.iterdir()):
            _swap(entry, out / entry.name, old / entry.name)


def _swap(new: Path, place: Path, old: Path) -> None:
    """Moves `new` to `place`, and what stood there to `old`; back again where that fails."""
    there = os.path.lexists(place)
    if there:
        os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        if there:
            os.replace(old, place)
        raise


TEXT_BYTES = 2**28
"""The largest text file of a user that is read: 256 MiB."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF32_LE: "utf-32-le",  # begins with the mark of UTF-16, so it comes later
    codecs.BOM_UTF32_BE: "utf-32-be",
}


def decode_text(content: bytes, name: str) -> str:
    """The text of a user's file, in UTF-8 or with a byte-order mark of UTF-16 or UTF-32, without the mark and with
    "\\n" at the ends of lines. Raises InputError, which begins with `name`, for other bytes.
    """
    encoding, start = "utf-8", 0
    for mark, marked in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            encoding, start = marked, len(mark)
    try:
        text = content[start:].decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8 text ({error.reason} at byte {error.start + start}); "
            "save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_at_most(file: BinaryIO, max_bytes: int) -> bytes:
    """The bytes of an opened file from where it stands, and no more than `max_bytes`. Memory is taken for what is there,
    where `read` takes it for what is asked for.
    """
    pieces: list[bytes] = []
    left = max_bytes
    while left and (piece := file.read(min(left, 2**20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def read_text(path: Path, max_bytes: int = TEXT_BYTES) -> str:
    """The text of a user's file as `decode_text` returns it. Raises InputError for a file that cannot be read,
    is larger than `max_bytes`, or is no text.
    """
    name = shown(str(path))
    try:
        with path.open("rb") as file:
            content = read_at_most(file, max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name} cannot be read ({reason}); name a text file") from None
    if len(content) > max_bytes:
        raise InputError(f"{name} is larger than {max_bytes:,} bytes; name a smaller text file")
    return decode_text(content, name)


def write_text(text: str, path: Path, shared: bool = False) -> None:
    """Writes a text file whole or not at all; one that is there keeps its mode. shared: as `atomic_write`."""
    with atomic_write(path, keep_mode=True, shared=shared) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(data: Any, path: Path) -> None:
    """Writes JSON whole or not at all."""
    write_text(json.dumps(data, indent=2) + "\n", path)


def write_picture(image: Any, path: Path, **options: Any) -> None:
    """Writes a Pillow image, of the kind that the name ends in, whole or not at all. options: of its
    `save`. Raises InputError where it cannot be written.
    """
    from PIL import Image as Pillow

    try:
        kind = Pillow.registered_extensions().get(path.suffix.lower())
        if kind not in Pillow.SAVE:
            raise ValueError(f"unknown kind of picture '{path.suffix}'")
        with atomic_write(path, keep_mode=True) as temporary, temporary.open("wb") as file:
            image.save(file, kind, **options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be written ({error}); name a file like picture.png"
        ) from None


def is_file(path: Path) -> bool:
    """Whether a file is there that can be seen. A name that no file can have, as one of 8,000 characters,
    or one in a folder that may not be read names none (`Path.is_file` raises OSError for both).
    """
    return os.path.isfile(path)


def is_hidden(name: str) -> bool:
    """Whether a path, relative or inside an archive, is of a hidden file or folder: a part of it begins with a dot,
    as "._x.tar" and ".DS_Store" do, or is the folder "__MACOSX" that archives of a Mac have.
    """
    parts = name.replace("\\", "/").split("/")
    return any(
        part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts
    )


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file that data in `folder` name. Raises InputError for an absolute path, and for one that
    "../" leads out of the folder. Links inside the folder are followed wherever they lead.
    """
    plain = name.replace("\\", "/")
    outside = os.path.normpath(plain).split("/")[0] == ".."
    if outside or os.path.isabs(plain) or PureWindowsPath(name).drive:
        raise InputError(f"{shown(name)} lies outside of {shown(str(folder))}")
    return folder / name


def make_folder(folder: Path) -> None:
    """Makes a folder for what follows. Raises InputError where it cannot be, as where a file has its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}); name another folder") from None


def keep_picture(content: bytes, path: Path) -> None:
    """Writes a picture's bytes, unless they stand there already; many processes may at once."""
    if is_file(path) and path.read_bytes() == content:
        return
    with atomic_write(path, shared=True) as temporary:
        temporary.write_bytes(content)
