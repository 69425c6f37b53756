"""Code shards of users' conversations: every picture encoded once, ready for training.

A shard is two files. `shard_00000.safetensors` holds one flat uint16 tensor `codes`;
`shard_00000.jsonl` holds one record a line as `conversation.py` describes it, but for its pictures:

    "images": [{"offset": 0, "height": 7, "width": 7}, ...]

The codes of a picture are `codes[offset : offset + height * width]`, row-major. The lines are written last,
so that a shard with both files is whole. `manifest.json`, where there is one, says how many shards there
are and what made them (`train/encode_data.py`).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from arm.data.conversation import Conversation, parse_conversation, to_record
from arm.data.records import SKIPPED
from arm.data.source_jsonl import LineIndex, index_lines, parse_json
from arm.errors import DataError
from arm.files import atomic_write, read_json_object, write_text

Codes = NDArray[np.uint16]
Encoded = tuple[Conversation, Sequence[NDArray[Any]]]
"""A conversation and the codes (H, W) of each of its pictures."""
MANIFEST = "manifest.json"
CONTENT = "content_sha256"
"""The key of a shard's hash in the header of its tensors."""


def shard_path(directory: Path, index: int) -> Path:
    """The lines of shard `index`; it is whole where this file exists."""
    return directory / f"shard_{index:05d}.jsonl"


def write_code_shard(directory: Path, index: int, items: Sequence[Encoded]) -> Path:
    """Writes shard `index`, which may be empty.

    Raises DataError for codes of more than 16 bits and where the directory cannot be written.
    """
    lines, flat = _as_written(items)
    path = shard_path(directory, index)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_write(path.with_suffix(".safetensors")) as half:
            save_file({"codes": flat}, half, {CONTENT: content_hash(lines, flat)})
        write_text("".join(lines), path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path} cannot be written ({error}); whole shards are kept, so make room and go on"
        ) from None
    return path


def content_hash(lines: Sequence[str], codes: Codes) -> str:
    """SHA-256 of a shard's lines and codes."""
    digest = hashlib.sha256("".join(lines).encode())
    digest.update(codes.tobytes())
    return digest.hexdigest()


def shards_digest(directory: Path) -> str:
    """A digest of everything that a directory of code shards holds, from their headers alone.

    Shards that were written before their headers had hashes count by their sizes. Raises DataError where
    one cannot be opened.
    """
    digest = hashlib.sha256()
    for tensors in sorted(directory.glob("shard_*.safetensors")):
        with _opened(tensors) as file:
            content = (file.metadata() or {}).get(CONTENT)
        if content is None:
            lines = tensors.with_suffix(".jsonl")
            content = f"{tensors.stat().st_size} {lines.stat().st_size if lines.is_file() else 0}"
        digest.update(f"{tensors.name} {content}\n".encode())
    return digest.hexdigest()


def _as_written(items: Sequence[Encoded]) -> tuple[list[str], Codes]:
    """The lines of a shard and its flat codes."""
    lines: list[str] = []
    flat: list[NDArray[Any]] = []
    offset = 0
    for conversation, codes in items:
        images = []
        for grid in codes:
            images.append({"offset": offset, "height": grid.shape[0], "width": grid.shape[1]})
            flat.append(grid.ravel())
            offset += grid.size
        record = to_record(conversation) | ({"images": images} if images else {})
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    if any(codes.size and codes.max() > np.iinfo(np.uint16).max for codes in flat):
        raise DataError("code shards hold 16-bit codes; this tokenizer has more than 65,536")
    parts = [np.zeros(0, np.uint16), *(codes.astype(np.uint16) for codes in flat)]
    return lines, np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class CodeConversations:
    """The conversations of a directory of code shards, by index, read from the disk when asked for.

    Make one with `open_code_shards`. It holds no open file: it may be pickled and forked.
    """

    directory: Path
    lines: LineIndex

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[tuple[Conversation, list[Codes]]]:
        return (self[index] for index in range(len(self)))

    def where(self, index: int) -> str:
        return self.lines.where(index)

    def __getitem__(self, index: int) -> tuple[Conversation, list[Codes]]:
        """Raises DataError that names file and line of a damaged record, IndexError past the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"conversation {index} of {len(self)}")
        index %= len(self)
        where = f"{self.lines.file(index)}:{self.lines.number_N[index]}"
        record = parse_json(self.lines.read(index), where)
        images: list[Any] = []
        if isinstance(record, dict) and isinstance(record.get("images"), list):
            images = record["images"]
            record["images"] = [f"picture {k}" for k in range(len(images))]
        conversation = parse_conversation(record, where)
        return conversation, self._codes(self.lines.file(index), images, where)

    def code_counts(self, num_codes: int) -> NDArray[np.int64]:
        """How often each code stands in the pictures, (num_codes,); one that is none of them is left out."""
        counts = np.zeros(num_codes, dtype=np.int64)
        for path in sorted(self.directory.glob("shard_*.safetensors")):
            with _opened(path) as file:
                counts += np.bincount(file.get_tensor("codes"), minlength=num_codes)[:num_codes]
        return counts

    def _codes(self, lines: Path, images: Sequence[Any], where: str) -> list[Codes]:
        if not images:
            return []
        try:
            spans = [(int(i["offset"]), int(i["height"]), int(i["width"])) for i in images]
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"{where}: images need offset, height and width ({error!r}); encode the data again"
            ) from None
        with _opened(lines.with_suffix(".safetensors")) as file:
            flat = file.get_slice("codes")
            (size,) = flat.get_shape()
            grids = []
            for offset, height, width in spans:
                if min(offset, height - 1, width - 1) < 0 or offset + height * width > size:
                    raise DataError(f"{where}: its codes are not all in the file; encode it again")
                grids.append(flat[offset : offset + height * width].reshape(height, width))
        return grids


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}: damaged or missing ({error}); delete the shard and encode the data again"
        ) from None


def open_code_shards(directory: Path | str) -> CodeConversations:
    """Reads the lines' places and every shard's header.

    Raises DataError for a directory without shards or conversations, with an unfinished or damaged shard,
    or with fewer than its manifest says.
    """
    directory = Path(directory)
    files = sorted(directory.glob("shard_*.jsonl"))
    if not files:
        raise DataError(f"{directory} holds no code shards; make them with `arm encode DATA`")
    for tensors in sorted(directory.glob("shard_*.safetensors")):
        if not tensors.with_suffix(".jsonl").is_file():
            raise DataError(f"{tensors} is half a shard; finish it by the same `arm encode` again")
    for path in files:
        tensors = path.with_suffix(".safetensors")
        with _opened(tensors) as file:
            held = {name: file.get_slice(name).get_dtype() for name in file.keys()}
        if held != {"codes": "U16"}:
            raise DataError(f"{tensors}: holds {held}, not 16-bit codes; encode the data again")
    expected = _shards_in_manifest(directory)
    if expected is not None and expected != len(files):
        raise DataError(
            f"{directory} holds {len(files)} of {expected} shards; finish them by the same "
            "`arm encode` again"
        )
    lines = index_lines(files)
    if not len(lines):
        raise DataError(
            f"{directory} holds shards without a conversation; its {SKIPPED} says why none could be used"
        )
    return CodeConversations(directory, lines)


def _shards_in_manifest(directory: Path) -> int | None:
    path = directory / MANIFEST
    if not path.is_file():
        return None
    try:
        return int(read_json_object(path, DataError)["num_shards"])
    except (DataError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}); encode the data again") from None
