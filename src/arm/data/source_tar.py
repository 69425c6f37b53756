"""WebDataset shards: uncompressed tar files whose members of one key lie side by side.

    000017.json   a record                    000018.txt   a caption
    000017.0.jpg  its first picture           000018.jpg   its picture
    000017.1.jpg  its second

The key is the name up to the first dot after the folders. A record without `images` takes all pictures
of its key, in the order of their numbers; one with `images` names them as the member or without the
key ("0.jpg"). Where there is a caption file and the JSON is no record (img2dataset writes its
metadata there) the caption counts.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import parse_conversation
from arm.data.records import PICTURE_SUFFIXES, Record
from arm.data.source_jsonl import parse_json, read_at
from arm.errors import DataError


@dataclass(frozen=True, eq=False)
class TarSource:
    """M members of N keys: key i has the members first_N1[i] to first_N1[i + 1]."""

    name: str
    files: tuple[Path, ...]
    keys: tuple[str, ...]
    file_N: NDArray[np.int32]
    first_N1: NDArray[np.int64]
    suffixes: tuple[str, ...]
    """Of each member, what stands after its key: "json", "0.jpg"."""
    offset_M: NDArray[np.int64]
    size_M: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, index: int) -> str:
        """ "shard-3.tar:000017" """
        return f"{self.files[self.file_N[index]].name}:{self.keys[index]}"

    def record(self, index: int) -> Record:
        where = self.where(index)
        members = range(int(self.first_N1[index]), int(self.first_N1[index + 1]))
        named = {self.suffixes[m]: m for m in members}
        record = self._fields(index, named, where)
        pictures = sorted(filter(is_picture, named), key=picture_order)
        if "messages" in record and record.get("images") is None:
            record["images"] = pictures
        elif "messages" not in record and record.get("image") is None:
            if len(pictures) != 1:
                raise DataError(f"{where}: a caption needs one picture, not {len(pictures)}")
            record["image"] = pictures[0]
        conversation = parse_conversation(record, where)
        chosen: list[int] = []
        for name in conversation.images:
            suffix = name if name in named else name.removeprefix(f"{self.keys[index]}.")
            if suffix not in named:
                held = ", ".join(pictures) or "none"
                raise DataError(f"{where}: there is no picture {name}; the key has {held}")
            chosen.append(named[suffix])
        return Record(where, conversation, partial(self._picture, index, chosen))

    def _fields(self, index: int, named: dict[str, int], where: str) -> dict[str, Any]:
        """The record as its JSON or its caption gives it."""
        record: Any = {}
        if "json" in named:
            record = parse_json(self._bytes(index, named["json"]), where)
            if not isinstance(record, dict):
                raise DataError(f"{where}: {self.keys[index]}.json is no object; give a record")
            if "messages" in record or "txt" not in named:
                return record
        if "txt" not in named:
            raise DataError(
                f"{where}: neither .json nor .txt for {', '.join(named)}; give a record or a caption"
            )
        try:
            return {"text": self._bytes(index, named["txt"]).decode("utf-8").strip()}
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: its .txt is not UTF-8 text ({error})") from None

    def _picture(self, index: int, members: Sequence[int], picture: int) -> bytes:
        return self._bytes(index, members[picture])

    def _bytes(self, index: int, member: int) -> bytes:
        path, offset = self.files[self.file_N[index]], int(self.offset_M[member])
        return read_at(path, offset, int(self.size_M[member]), self.where(index))


def is_picture(suffix: str) -> bool:
    return f".{suffix.rsplit('.', 1)[-1].lower()}" in PICTURE_SUFFIXES


def picture_order(suffix: str) -> tuple[int, str]:
    """ "2.jpg" before "10.jpg" """
    number = re.match(r"\d+", suffix)
    return (int(number.group()) if number else -1, suffix)


def open_tars(path: Path, files: Sequence[Path]) -> TarSource:
    """Reads the headers of every shard. Raises DataError for one that is no whole, uncompressed tar."""
    keys: list[str] = []
    key_files: list[int] = []
    first: list[int] = []
    suffixes: list[str] = []
    offsets: list[int] = []
    sizes: list[int] = []
    known: dict[str, str] = {}  # members share few suffixes
    for position, file in enumerate(files):
        last = None
        for name, offset, size in _members(file):
            folder, _, base = name.rpartition("/")
            stem, dot, suffix = base.partition(".")
            if not dot or not stem:
                continue
            key = f"{folder}/{stem}" if folder else stem
            if key != last:
                keys.append(key)
                key_files.append(position)
                first.append(len(suffixes))
                last = key
            suffixes.append(known.setdefault(suffix, suffix))
            offsets.append(offset)
            sizes.append(size)
    if not keys:
        raise DataError(f"{path} holds no members named KEY.json, KEY.txt or KEY.jpg")
    return TarSource(
        str(path),
        tuple(files),
        tuple(keys),
        np.array(key_files, np.int32),
        np.array([*first, len(suffixes)], np.int64),
        tuple(suffixes),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
    )


def _members(file: Path) -> Iterator[tuple[str, int, int]]:
    """Name, byte offset and size of each regular file of a tar."""
    length = file.stat().st_size
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                if member.offset_data + member.size > length:
                    raise DataError(
                        f"{file} is cut short at its member {member.name}; copy it again"
                    )
                yield member.name.removeprefix("./"), member.offset_data, member.size
                # A shard may have a million members; the list of those behind is not needed.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{file} is no whole, uncompressed tar file ({error}); copy it again or unpack its compression"
        ) from None
