"""A plain folder of pictures: each is a record whose caption is its folder's name."""

import os
from dataclasses import dataclass
from pathlib import Path

from arm.data.conversation import parse_conversation
from arm.data.record import PICTURE_SUFFIXES, Record
from arm.errors import DataError


@dataclass(frozen=True, eq=False)
class FolderSource:
    """`files` are relative to `root`, in order. "long_dress/1.jpg" is captioned "long dress"."""

    root: Path
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        return self.files[index]

    def record(self, index: int) -> Record:
        where = self.where(index)
        path = self.root / where
        folder = Path(where).parent.name or self.root.resolve().name
        caption = folder.replace("_", " ")
        conversation = parse_conversation({"image": where, "text": caption}, where)
        return Record(where, conversation, lambda _: path)


def open_folder(root: Path) -> FolderSource:
    """Every picture below the folder; hidden files and folders are passed over."""
    files: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = (name for name in names if not name.startswith("."))
        pictures = (name for name in shown if Path(name).suffix.lower() in PICTURE_SUFFIXES)
        files += [(Path(folder) / name).relative_to(root).as_posix() for name in pictures]
    if not files:
        raise DataError(
            f"{root} holds no data: no .jsonl, .tar or .parquet files, no saved dataset and no pictures"
        )
    return FolderSource(root, tuple(sorted(files)))
