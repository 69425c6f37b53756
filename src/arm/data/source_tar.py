"""WebDataset shards: uncompressed tar files in which the members of one sample stand side by side.

    000017.json   a record                    000018.txt   a caption
    000017.0.jpg  its first picture           000018.jpg   its picture
    000017.1.jpg  its second

The key is the name up to the first dot after the folders. A record without `images` takes all pictures
of its key, in the order of their numbers; one with `images` names them as the member or without the
key ("0.jpg"). Where there is a caption file and the JSON is no record (img2dataset writes its
metadata there) the caption counts. Hidden members, as "._000017.jpg" of a Mac, are ignored.

Headers and members are bounded, so that a small file cannot fill the memory.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import parse_conversation
from arm.data.image_files import MAX_FILE_BYTES
from arm.data.records import Record, place_name
from arm.data.source_folder import is_picture
from arm.data.source_jsonl import MAX_LINE_BYTES, parse_json, read_at
from arm.errors import DataError, InputError, shown
from arm.files import decode_text, is_hidden

MAX_HEADER_BYTES = 2**20
"""The largest extended header: long names and PAX records."""
MAX_GLOBAL_HEADERS = 1000
"""The most PAX records that hold for all members; each member copies them."""
MAX_NAME = 4096
"""Characters of a member's name, as in a path of Linux."""


@dataclass(frozen=True, eq=False)
class TarSource:
    """M members of N samples: sample i has the members first_N1[i] to first_N1[i + 1].

    suffixes: of each member, what stands after its key, as "json" or "0.jpg". size_M: -1 for sparse members.
    parted: the samples of which other members stand elsewhere in the file.
    """

    name: str
    files: tuple[Path, ...]
    keys: tuple[str, ...]
    file_N: NDArray[np.int32]
    first_N1: NDArray[np.int64]
    suffixes: tuple[str, ...]
    offset_M: NDArray[np.int64]
    size_M: NDArray[np.int64]
    parted: frozenset[int]

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, index: int) -> str:
        """The file and the key, as "shard-3.tar:000017"."""
        shard = shown(self.files[self.file_N[index]].name)
        return f"{shard}:{place_name(self.keys[index], index)}"

    def record(self, index: int) -> Record:
        where = self.where(index)
        if index in self.parted:
            raise DataError(
                f"{where}: the members of this key do not stand side by side in the tar; write them in the "
                "order of their names, as `tar --sort=name` does"
            )
        members = range(int(self.first_N1[index]), int(self.first_N1[index + 1]))
        named = {self.suffixes[m]: m for m in members}
        record = self._fields(index, named, where)
        pictures = sorted((s for s in named if is_picture(f"x.{s}")), key=picture_order)
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
                others = shown(", ".join(pictures)) or "none"
                raise DataError(f"{where}: there is no picture {shown(name)}; the key has {others}")
            chosen.append(named[suffix])
        return Record(where, conversation, partial(self._picture, index, chosen))

    def _fields(self, index: int, named: dict[str, int], where: str) -> dict[str, Any]:
        """The keys and values of a record, of the JSON member or of the caption."""
        record: Any = {}
        if "json" in named:
            record = parse_json(self._bytes(index, named["json"], MAX_LINE_BYTES), where)
            if not isinstance(record, dict):
                raise DataError(f"{where}: its .json is no object; give a record")
            if "messages" in record or "txt" not in named:
                return record
        if "txt" not in named:
            raise DataError(
                f"{where}: neither .json nor .txt for {shown(', '.join(named))}; give a record or a caption"
            )
        content = self._bytes(index, named["txt"], MAX_LINE_BYTES)
        try:
            return {"text": decode_text(content, f"{where}: its .txt").strip()}
        except InputError as error:
            raise DataError(str(error)) from None

    def _picture(self, index: int, members: Sequence[int], picture: int) -> bytes:
        return self._bytes(index, members[picture], MAX_FILE_BYTES)

    def _bytes(self, index: int, member: int, most: int) -> bytes:
        """The content of a member. Raises DataError for more than `most` bytes and for a sparse one."""
        where, suffix = self.where(index), shown(self.suffixes[member])
        path, offset = self.files[self.file_N[index]], int(self.offset_M[member])
        size = int(self.size_M[member])
        if size < 0:
            raise DataError(
                f"{where}: its .{suffix} is a sparse file; write the tar without --sparse"
            )
        if size > most:
            raise DataError(
                f"{where}: its .{suffix} has {size:,} bytes, and may have {most:,}; leave it out"
            )
        return read_at(path, offset, size, where)


def picture_order(suffix: str) -> tuple[int, str]:
    """A key to sort by: "2.jpg" before "10.jpg"."""
    number = re.match(r"\d+", suffix)
    return (int(number.group()) if number else -1, suffix)


@dataclass
class _Index:
    """The members of shards while their headers are read."""

    keys: list[str] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    parted: list[int] = field(default_factory=list)

    def add_shard(self, position: int, file: Path) -> None:
        """Adds the members of file number `position`."""
        known = {suffix: suffix for suffix in self.suffixes[-100:]}  # members share few suffixes
        last = None
        begin = len(self.keys)
        for name, offset, size in _members(file):
            folder, _, base = name.rpartition("/")
            stem, dot, suffix = base.partition(".")
            if not dot or not stem:
                continue
            key = f"{folder}/{stem}" if folder else stem
            if key != last:
                self.keys.append(key)
                self.files.append(position)
                self.first.append(len(self.suffixes))
                last = key
            self.suffixes.append(known.setdefault(suffix, suffix))
            self.offsets.append(offset)
            self.sizes.append(size)
        self._find_split_samples(begin)

    def _find_split_samples(self, begin: int) -> None:
        """Records the runs of members, from number `begin`, that share their key with a run of other suffixes: those
        are the parts of one sample. Runs of the same suffixes are samples of one name.
        """
        first_run: dict[str, int] = {}
        for run in range(begin, len(self.keys)):
            other = first_run.setdefault(self.keys[run], run)
            if other != run and not self._suffixes(run) & self._suffixes(other):
                self.parted += [other, run]

    def _suffixes(self, run: int) -> set[str]:
        stop = self.first[run + 1] if run + 1 < len(self.first) else len(self.suffixes)
        return set(self.suffixes[self.first[run] : stop])


def open_tars(path: Path, files: Sequence[Path]) -> TarSource:
    """Reads the headers of every shard. Raises DataError for one that is no whole, uncompressed tar."""
    index = _Index()
    for position, file in enumerate(files):
        index.add_shard(position, file)
    if not index.keys:
        raise DataError(f"{shown(str(path))} holds no members named KEY.json, KEY.txt or KEY.jpg")
    return TarSource(
        str(path),
        tuple(files),
        tuple(index.keys),
        np.array(index.files, np.int32),
        np.array([*index.first, len(index.suffixes)], np.int64),
        tuple(index.suffixes),
        np.array(index.offsets, np.int64),
        np.array(index.sizes, np.int64),
        frozenset(index.parted),
    )


class _BoundedTarInfo(tarfile.TarInfo):
    """A member's header that refuses what `tarfile` would read into memory whatever its size."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        extended = self.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
        )
        if self.size < 0 or (extended and self.size > MAX_HEADER_BYTES):
            raise DataError(f"a header has {self.size:,} bytes, and may have {MAX_HEADER_BYTES:,}")
        member = super()._proc_member(tar)  # pyright: ignore[reportAttributeAccessIssue]
        if len(tar.pax_headers) > MAX_GLOBAL_HEADERS:
            raise DataError(f"it has more than {MAX_GLOBAL_HEADERS:,} global headers")
        if member.size < 0:
            raise DataError(f"a member has {member.size:,} bytes")
        if len(member.name) > MAX_NAME:
            raise DataError(
                f"a member's name has {len(member.name):,} characters, and may have {MAX_NAME:,}"
            )
        return member


def _members(file: Path) -> Iterator[tuple[str, int, int]]:
    """Name, byte offset and size of each regular file of a tar but hidden ones; size -1 for sparse files, whose bytes
    do not lie together.
    """
    name = shown(str(file))
    length = file.stat().st_size
    try:
        with tarfile.open(file, "r:", tarinfo=_BoundedTarInfo) as tar:
            for member in tar:
                # A shard may have a million members; the list of those behind is not needed.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
                if not member.isfile() or is_hidden(member.name):
                    continue
                sparse = member.issparse()
                if not sparse and member.offset_data + member.size > length:
                    raise DataError(f"it is cut short at its member {shown(member.name)}")
                size = -1 if sparse else member.size
                yield member.name.removeprefix("./"), member.offset_data, size
            end = tar.offset  # pyright: ignore[reportAttributeAccessIssue]
        if any(read_at(file, end, tarfile.BLOCKSIZE, name)):
            raise DataError(f"its header at byte {end:,} is damaged")
        if any(read_at(file, end, MAX_HEADER_BYTES, name)):
            raise DataError(
                "more follows its end, as where `cat` and not `tar -A` joined two files"
            )
    except RecursionError:
        raise DataError(f"{name}: a member has too many headers; write the tar anew") from None
    except DataError as error:
        raise DataError(f"{name}: {error}; copy the tar again, or write it anew") from None
    except (tarfile.TarError, OSError, ValueError) as error:
        reason = shown(str(error)) or type(error).__name__
        raise DataError(
            f"{name} is no whole, uncompressed tar file ({reason}); copy it again or unpack its compression"
        ) from None
