"""Reading and writing files and folders.

Writes are atomic: a file or folder is complete or unchanged, and gets the permissions that the umask asks for.
JSON is read in one place, with bounds on its size and depth.
"""

import codecs
import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from threading import get_ident
from typing import Any, BinaryIO

from safetensors import SafetensorError

from arm.errors import ArmError, InputError, WeightsError, shown

MAX_JSON_BYTES = 2**26
"""Largest JSON file that is read, in bytes."""

MAX_JSON_DEPTH = 64
"""Deepest nesting of arrays and objects in a JSON text."""


@contextmanager
def atomic_write(path: Path, keep_mode: bool = False, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` when the block ends without an error.

    keep_mode: an existing file keeps its permissions. Symbolic links are followed; a special file such as
    /dev/stdout is written to directly. shared: several processes or threads may write the same file at
    once, so each uses its own temporary name.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f".{os.getpid()}.{get_ident()}" if shared else ""
    temporary = path.with_name(f"{path.name}{writer}.tmp")
    try:
        mode = _create_and_get_mode(temporary)
        if keep_mode and path.exists():
            mode = path.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)  # safetensors gives its files 0600
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns safetensors' own error for a failed write of `path` into OSError."""
    try:
        yield
    except SafetensorError as error:
        matched = re.search(r"os error (\d+)", str(error))
        number = int(matched[1]) if matched else errno.EIO
        raise OSError(number, os.strerror(number) if matched else str(error), str(path)) from None


def _create_and_get_mode(path: Path) -> int:
    """Creates an empty file at `path` and returns its mode.

    Reading the umask any other way is not safe while other threads create files.
    """
    path.unlink(missing_ok=True)
    path.touch()
    return path.stat().st_mode & 0o777


def usual_modes(folder: Path) -> None:
    """Sets the permissions of all files below a folder to what the umask asks for.

    Hard links to files elsewhere are left alone: their permissions belong to the other file too.
    """
    with tempfile.TemporaryDirectory(dir=folder) as room:
        mode = _create_and_get_mode(Path(room) / "new")
    for path in folder.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            path.chmod(mode)


def fill_folder(write: Callable[[Path], None], out: Path, obsolete: tuple[str, ...] = ()) -> None:
    """Calls `write` with a temporary folder and moves its entries into `out`.

    Entries of the same names are replaced; of the others, those that match a pattern in `obsolete` are
    removed. If `write` fails, `out` is unchanged.
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
        new_entries = sorted(filled.iterdir())
        for entry in new_entries:
            _swap(entry, out / entry.name, old / entry.name)
        names = {entry.name for entry in new_entries}
        for path in {path for pattern in obsolete for path in out.glob(pattern)}:
            if path.name not in names:
                os.replace(path, old / path.name)


def _swap(new: Path, target: Path, old: Path) -> None:
    """Moves `target` to `old` and `new` to `target`; undoes the first move if the second fails."""
    exists = os.path.lexists(target)
    if exists:
        os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        if exists:
            os.replace(old, target)
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
    """Writes a text file atomically; an existing file keeps its permissions. shared: see `atomic_write`."""
    with atomic_write(path, keep_mode=True, shared=shared) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(data: Any, path: Path) -> None:
    """Writes indented JSON atomically."""
    write_text(json.dumps(data, indent=2) + "\n", path)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError, in one line, for text that is no JSON, for nesting deeper than MAX_JSON_DEPTH, and
    for a number of more digits than Python converts.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels") from None
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
        level = [v for item in level for v in (item.values() if isinstance(item, dict) else item)]
    return value


def read_json(path: Path, error: type[ArmError] = WeightsError) -> Any:
    """The value of a JSON file, with or without a byte-order mark.

    Raises `error` in one line for a file that is missing or unreadable, is larger than MAX_JSON_BYTES, or
    holds no JSON (see `parse_json`).
    """
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            raise error(f"{path} is no regular file")
        if status.st_size > MAX_JSON_BYTES:
            raise error(
                f"{path} has {status.st_size:,} bytes; JSON is read up to {MAX_JSON_BYTES:,} bytes"
            )
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as reason:
        raise unreadable(path, reason, error) from None
    except ValueError as reason:
        raise error(f"{path} is not valid JSON ({reason})") from None


def read_json_object(path: Path, error: type[ArmError] = WeightsError) -> dict[str, Any]:
    """A JSON file that holds an object. Raises `error` as `read_json`, and where it holds something else."""
    value = read_json(path, error)
    if not isinstance(value, dict):
        raise error(f"{path} is not a JSON object")
    return value


def unreadable(path: Path, reason: OSError, error: type[ArmError] = WeightsError) -> ArmError:
    """The error to raise for a file of weights or settings that cannot be opened."""
    if isinstance(reason, FileNotFoundError):
        missing = "weights are missing: " if error is WeightsError else ""
        return error(f"{missing}{path} does not exist")
    if isinstance(reason, PermissionError):
        return error(f"{path} may not be read by you; ask its owner for `chmod a+r`")
    return error(f"{path} cannot be read ({reason.strerror or reason}); it must be a file")


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-links a file, or copies it where the file system does not allow a link."""
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:
        shutil.copyfile(source, target)


def write_picture(image: Any, path: Path, **options: Any) -> None:
    """Writes a Pillow image atomically, in the format that the suffix of `path` names.

    options: keyword arguments of Pillow's `save`. Raises InputError where the image cannot be written.
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
    """Whether `path` is a file.

    False, where `Path.is_file` raises OSError, for names that no file can have (of 8,000 characters, say)
    and for files in a folder that may not be read.
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
    """Creates a folder and its parents. Raises InputError where that fails, as where a file has its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}); name another folder") from None


def keep_picture(content: bytes, path: Path) -> None:
    """Writes a picture's bytes unless the file holds them already; safe for concurrent processes."""
    if is_file(path) and path.read_bytes() == content:
        return
    with atomic_write(path, shared=True) as temporary:
        temporary.write_bytes(content)
