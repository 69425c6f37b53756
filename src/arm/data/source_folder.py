"""A plain folder of pictures, each a record whose caption is the name of its folder; and what a folder holds beside
the files that are read.
"""

import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from arm.data.conversation import parse_conversation
from arm.data.image_files import PICTURE_SUFFIXES
from arm.data.records import Record, place_name
from arm.errors import DataError, shown
from arm.files import is_hidden

NAMED = 3
"""How many of the files that are left out for one reason are named."""


@dataclass(frozen=True)
class LeftOut:
    """Files or folders that no record was made of: why, how many, and the names of the first."""

    reason: str
    count: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.names) else ""
        return f"{self.reason}: {self.count:,} ({', '.join(map(shown, self.names))}{more})"


@dataclass(frozen=True)
class FolderContents:
    """What lies below a folder, by paths relative to it, in order; hidden files and folders are not included.

    repeated: links to folders that were read already, under another name. unreadable: folders that may not be
    read.
    """

    files: tuple[str, ...]
    repeated: tuple[str, ...]
    unreadable: tuple[str, ...]

    def left_out(self, read: Collection[str]) -> tuple[LeftOut, ...]:
        """Everything but the files `read`, by reason."""
        names: dict[str, list[str]] = {}
        for name in self.files:
            if name not in read:
                suffix = Path(name).suffix.lower()
                kind = f"files ending in {shown(suffix)}" if suffix else "files without a suffix"
                names.setdefault(f"{kind}, which are not read here", []).append(name)
        groups = [(reason, names[reason]) for reason in sorted(names)]
        groups.append(("links to folders that are read under another name", [*self.repeated]))
        groups.append(("folders that may not be read", [*self.unreadable]))
        return tuple(LeftOut(r, len(n), tuple(n[:NAMED])) for r, n in groups if n)


def list_folder(root: Path) -> FolderContents:
    """Every file below a folder. Links to folders are followed, and each folder is read once, under its own name
    where it lies below `root` itself, so that links in a circle end.
    """
    seen: set[tuple[int, int]] = set()
    files: list[str] = []
    repeated: list[Path] = []
    unreadable: list[str] = []
    links = deque([root])  # read after the folders that are no links

    def relative(path: str | Path) -> str:
        return Path(path).relative_to(root).as_posix()

    while links:
        start = links.popleft()
        for folder, folders, names in os.walk(
            start, onerror=lambda error: unreadable.append(relative(error.filename))
        ):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                repeated.append(Path(folder))
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            paths = [Path(folder) / name for name in folders]
            for path in paths:
                if path.is_symlink():
                    (repeated if _is_circle(path) else links).append(path)
            files += [relative(Path(folder) / name) for name in names if not is_hidden(name)]
    again = sorted(map(relative, repeated))
    return FolderContents(tuple(sorted(files)), tuple(again), tuple(sorted(unreadable)))


def _is_circle(link: Path) -> bool:
    """Whether a link leads to a folder that it lies in."""
    return link.parent.resolve().is_relative_to(link.resolve())


@dataclass(frozen=True, eq=False)
class FolderSource:
    """`files` are relative to `root`, in order. "long_dress/1.jpg" is captioned "long dress"."""

    root: Path
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def name(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        return place_name(self.files[index], index)

    def record(self, index: int) -> Record:
        where, file = self.where(index), self.files[index]
        folder = Path(file).parent.name or self.root.resolve().name
        caption = folder.replace("_", " ")
        conversation = parse_conversation({"image": where, "text": caption}, where)
        path = self.root / file
        return Record(where, conversation, lambda _: path)


def is_picture(name: str) -> bool:
    """Whether a name ends as those of pictures do."""
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def open_folder(root: Path) -> FolderSource:
    """Every picture below the folder. Raises DataError where there is none."""
    contents = list_folder(root)
    files = tuple(filter(is_picture, contents.files))
    left_out = contents.left_out(set(files))
    if not files:
        others = "".join(f"; left out: {group}" for group in left_out)
        raise DataError(
            f"{shown(str(root))} holds no data: no .jsonl, .tar or .parquet files, no saved dataset and "
            f"no pictures{others}"
        )
    return FolderSource(root, files, left_out)
