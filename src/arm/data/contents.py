"""What derived files remember of the data they were made from, so that data changed in place are noticed.

Codes and buckets are derived from records. Each derived file keeps the contents of its records: size and
modification time of every file first, since they cost nothing to compare, and hashes, which are compared where
those differ: a copied or touched file is not a changed one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arm.data.code_shards import shard_path
from arm.data.conversation import to_record
from arm.data.records import SKIPPED, Record, Skipped, Source
from arm.errors import DataError
from arm.files import write_text

CONTAINERS = (".jsonl", ".tar", ".parquet", ".arrow")
"""Files that hold many records. Pictures lie in them, or in files of their own."""

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds of a file; (-1, 0) where there is none."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file."""
    try:
        status = path.stat()
    except OSError:
        return (-1, 0)
    return (status.st_size, status.st_mtime_ns)


def container_stamps(name: str | Path) -> dict[str, Stamp]:
    """The stamps of the containers of a data source, by their path below it."""
    root = Path(name)
    if root.is_file():
        return {root.name: stamp_of(root)}
    files = sorted(p for p in root.rglob("*") if p.suffix in CONTAINERS)
    return {str(p.relative_to(root)): stamp_of(p) for p in files}


@dataclass(frozen=True)
class PictureContent:
    """A picture of a record: the stamp of its file ((-1, 0) for one inside a container), and the SHA-256 of
    its bytes ("" where it cannot be read).
    """

    stamp: Stamp
    sha256: str


@dataclass(frozen=True)
class Contents:
    """The contents of some records: what they say, their pictures, and the files that they stand in."""

    containers: Mapping[str, Stamp]
    texts: str
    """SHA-256 over the conversations, pictures aside."""
    pictures: tuple[PictureContent, ...]

    def same_as(self, other: "Contents") -> bool:
        """Whether words and pictures are the same, whatever the files' times are."""
        return self.texts == other.texts and [p.sha256 for p in self.pictures] == [
            p.sha256 for p in other.pictures
        ]

    def write(self, out: Path, shard: int) -> None:
        """Keeps them beside a shard of codes."""
        data = {
            "containers": self.containers,
            "texts": self.texts,
            "pictures": [[*p.stamp, p.sha256] for p in self.pictures],
        }
        write_text(json.dumps(data) + "\n", contents_path(out, shard))


def contents_path(out: Path, shard: int) -> Path:
    """Where the contents behind a shard of codes are kept."""
    return out / f"shard_{shard:05d}.contents.json"


def read_contents(out: Path, shard: int) -> Contents | None:
    """What `Contents.write` kept; None where there is nothing, or nothing whole."""
    try:
        data = json.loads(contents_path(out, shard).read_bytes())
        return Contents(
            {name: (int(size), int(time)) for name, (size, time) in data["containers"].items()},
            str(data["texts"]),
            tuple(
                PictureContent((int(size), int(time)), str(sha))
                for size, time, sha in data["pictures"]
            ),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def discard_changed_shards(out: Path, source: Source, shard_size: int) -> int:
    """Removes the shards of codes whose records have changed since they were made, so that they are made again.

    Returns how many there were, and prints a line about them. Shards that do not record what they were made
    from stay, and a line says so.
    """
    containers = container_stamps(source.name)
    skipped = Skipped(out / SKIPPED)
    changed = unknown = 0
    for shard, start in enumerate(range(0, len(source), shard_size)):
        path = shard_path(out, shard)
        if not path.is_file():
            continue
        made_from = read_contents(out, shard)
        if made_from is None:
            unknown += 1
            continue
        indices = range(start, min(start + shard_size, len(source)))
        now = contents_of(source, indices, containers, made_from)
        if not now.same_as(made_from):
            skipped.forget({source.where(index) for index in indices})
            path.unlink()
            changed += 1
        elif now != made_from:  # the files were written again with the same content
            now.write(out, shard)
    if changed:
        print(
            f"{source.name}: records of {changed} shards have changed; encoding them again",
            flush=True,
        )
    if unknown:
        print(
            f"{out}: {unknown} shards do not record the data they were made from; delete them if it may "
            "have changed",
            flush=True,
        )
    return changed


def contents_of(
    source: Source,
    indices: Sequence[int],
    containers: Mapping[str, Stamp],
    known: Contents | None = None,
) -> Contents:
    """The contents of records as they are now.

    containers: `container_stamps` of the source. known: contents from before; hashes of files whose stamps
    have not changed since are taken from there.
    """
    same_containers = known is not None and known.containers == containers
    before = known.pictures if known is not None else ()
    texts = hashlib.sha256()
    pictures: list[PictureContent] = []
    for index in indices:
        try:
            record = source.record(index)
        except DataError as error:
            texts.update(str(error).encode("utf-8", "replace"))
            continue
        words = to_record(record.conversation)
        texts.update(json.dumps(words, sort_keys=True).encode("utf-8", "replace"))
        for k in range(len(record.conversation.images)):
            place = len(pictures)
            earlier = before[place] if place < len(before) else None
            pictures.append(_picture(record, k, earlier, same_containers))
    return Contents(dict(containers), texts.hexdigest(), tuple(pictures))


def _picture(
    record: Record, index: int, earlier: PictureContent | None, same_containers: bool
) -> PictureContent:
    in_container = earlier is not None and earlier.stamp == (-1, 0) and earlier.sha256 != ""
    if earlier is not None and in_container and same_containers:
        return earlier
    try:
        found = record.read(index)
        stamp: Stamp = (-1, 0)
        if isinstance(found, Path):
            stamp = stamp_of(found)
            if earlier is not None and stamp == earlier.stamp and stamp != (-1, 0):
                return earlier
            found = found.read_bytes()
    except (DataError, OSError):
        return PictureContent((-1, 0), "")
    return PictureContent(stamp, hashlib.sha256(found).hexdigest())


def stamps_digest(source: Source, indices: Sequence[int], containers: Mapping[str, Stamp]) -> str:
    """A digest of the stamps of all files that records and their pictures stand in; nothing is decoded.

    It changes with every file that was written again, and tells nothing about what is in it.
    """
    digest = hashlib.sha256(json.dumps(sorted(containers.items())).encode())
    if any(not name.endswith(".jsonl") for name in containers):
        return digest.hexdigest()  # pictures lie in the containers
    for index in indices:
        try:
            record = source.record(index)
            found = [record.read(k) for k in range(len(record.conversation.images))]
        except DataError as error:
            digest.update(str(error).encode("utf-8", "replace"))
            continue
        stamps = [stamp_of(path) for path in found if isinstance(path, Path)]
        digest.update(json.dumps([record.where, stamps]).encode("utf-8", "replace"))
    return digest.hexdigest()


def content_digest(source: Source) -> str:
    """SHA-256 over all that a source's records say and show; every picture is read, none decoded."""
    whole = contents_of(source, range(len(source)), {})
    digest = hashlib.sha256(whole.texts.encode())
    for picture in whole.pictures:
        digest.update(picture.sha256.encode())
    return digest.hexdigest()
