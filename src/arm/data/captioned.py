"""Users' pictures with captions, for training the tokenizer and the decoders.

Pictures of one aspect ratio make a batch. So every picture is assigned, once, to the aspect ratio nearest to its
own (`Buckets`); a batch takes one token grid and fits pictures of its ratio to it.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from arm.data.contents import container_stamps, stamps_digest
from arm.data.conversation import caption_of
from arm.data.images import GridWeight, nearest_ratio, to_float
from arm.data.records import Skipped, Source, without_place
from arm.errors import DataError
from arm.files import atomic_write, disk_errors


@dataclass(frozen=True)
class PictureBatch:
    """Captioned pictures of one size."""

    images: Float[Tensor, "b 3 h w"]
    """RGB in [-1, 1]."""
    captions: tuple[str, ...]
    """A short caption of each picture."""
    details: tuple[str, ...]
    """A caption of each picture with every detail; users' pictures have one caption for both."""
    truths: tuple[Any, ...]
    """What a domain knows about each picture (`arm.domain`); empty for users' pictures."""
    twins: Float[Tensor, "b 3 h w"] | None = None
    """The same pictures with one thing changed, where the batch was asked for them."""
    shared: Bool[Tensor, "b n"] | None = None
    """Patches, in row-major order, that show the same in a picture and its twin."""


Ratio = tuple[int, int]
"""(height, width) in lowest terms: grids of 6x6 and 7x7 share the pictures of (1, 1)."""
PART = 250_000
"""Records whose sizes are noted in one file: what a process that is killed may lose."""
STAMPS = "stamps"
"""The key, in the header of a part, of the digest of the files that it was sorted from."""


def ratio_of(grid: GridWeight) -> Ratio:
    """A grid's aspect ratio."""
    common = math.gcd(grid.height, grid.width)
    return grid.height // common, grid.width // common


@dataclass(frozen=True, eq=False)
class Buckets:
    """The records of a source that are one captioned picture, by the ratio nearest to its own."""

    source: Source
    members: Mapping[Ratio, NDArray[np.int64]]
    skipped: Skipped

    def __len__(self) -> int:
        return sum(map(len, self.members.values()))


def open_buckets(
    source: Source, grids: Iterable[GridWeight], folder: Path, skipped: Skipped
) -> Buckets:
    """The buckets of a source, from `folder` where it has them, else from every picture's header.

    What is kept is found again by the source's path and length and by the grids' ratios, and made again where
    files have changed. Records that are
    no pair of picture and caption are passed over. Raises DataError where none is left.
    """
    grids = list(grids)
    parts = sort_share(source, grids, folder, skipped)
    members = {
        ratio: np.concatenate([part[_name(ratio)] for part in parts]) for ratio in _ratios(grids)
    }
    buckets = Buckets(source, members, skipped)
    if not len(buckets):
        raise DataError(
            f"{source.name} holds no readable picture with a caption; a record is image and text "
            f"({len(skipped)} were skipped, see {skipped.path})"
        )
    return buckets


def sort_share(
    source: Source,
    grids: Iterable[GridWeight],
    folder: Path,
    skipped: Skipped,
    rank: int = 0,
    processes: int = 1,
) -> list[Mapping[str, NDArray[np.int64]]]:
    """Sorts every `processes`-th part of the records from `rank` on by ratio, and keeps each part in `folder`.

    A part that is there is taken from there, unless one of its files has been written again since.
    """
    ratios = _ratios(grids)
    key = json.dumps([str(Path(source.name).resolve()), len(source), ratios])
    kept = folder / f"buckets-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    containers = container_stamps(source.name)
    parts = []
    for start in range(rank * PART, max(1, len(source)), processes * PART):
        path = kept / f"part-{start // PART:05d}.safetensors"
        indices = range(start, min(start + PART, len(source)))
        stamps = stamps_digest(source, indices, containers)
        members = _read(path, {_name(ratio) for ratio in ratios}, stamps)
        if members is None:
            skipped.forget({f"{source.name}: {source.where(index)}" for index in indices})
            members = _sort(source, indices, ratios, skipped)
            with atomic_write(path, shared=True) as temporary, disk_errors(path):
                save_file(members, temporary, {STAMPS: stamps})
        parts.append(members)
    return parts


def _ratios(grids: Iterable[GridWeight]) -> list[Ratio]:
    return sorted({ratio_of(grid) for grid in grids})


def _name(ratio: Ratio) -> str:
    return f"{ratio[0]}:{ratio[1]}"


def _read(path: Path, names: set[str], stamps: str) -> dict[str, NDArray[np.int64]] | None:
    """A part as an earlier run kept it; None where there is none, or none of the files as they are now."""
    try:
        with safe_open(path, framework="np") as file:
            if (file.metadata() or {}).get(STAMPS) != stamps or set(file.keys()) != names:
                return None
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError):
        return None


def _sort(
    source: Source, indices: Sequence[int], ratios: Sequence[Ratio], skipped: Skipped
) -> dict[str, NDArray[np.int64]]:
    from rich.console import Console
    from rich.progress import track

    members: dict[Ratio, list[int]] = {ratio: [] for ratio in ratios}
    quiet = not sys.stderr.isatty()
    console = Console(stderr=True)
    for index in track(indices, "sizes of pictures", console=console, disable=quiet):
        try:
            record = source.record(index)
            if caption_of(record.conversation) is not None:
                members[nearest_ratio(*record.size(0), ratios)].append(index)
        except DataError as error:
            _note(skipped, source, index, error)
    return {_name(ratio): np.array(found, np.int64) for ratio, found in members.items()}


def captioned_batch(
    buckets: Buckets, seed: int, step: int, batch: int, grids: tuple[GridWeight, ...], patch: int
) -> PictureBatch:
    """Batch number `step`: a pure function of its arguments.

    A grid is drawn by how many pictures its ratio has times its weight, then `batch` different pictures of it (with
    repeats only where it has fewer). A picture that cannot be read is noted in `buckets.skipped` and
    another drawn. Raises DataError where a grid has none that can.
    """
    rng = np.random.default_rng([seed, step])
    chances = np.array([len(buckets.members.get(ratio_of(g), ())) * g.weight for g in grids], float)
    if not chances.any():
        raise DataError(f"{buckets.source.name} has no picture for any grid of weight above 0")
    grid = grids[int(rng.choice(len(grids), p=chances / chances.sum()))]
    members = buckets.members[ratio_of(grid)]
    images: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    drawn: set[int] = set()
    while len(images) < batch:
        index = int(members[int(rng.integers(len(members)))])
        if index in drawn:
            continue
        drawn.add(index)
        found = _picture(buckets, index, grid, patch)
        if found is not None:
            images.append(found[0])
            captions.append(found[1])
        if len(drawn) == len(members):
            if not images:
                raise DataError(
                    f"{buckets.source.name}: none of the {len(members)} pictures for the grid "
                    f"{grid.height}x{grid.width} can be read; see {buckets.skipped.path}"
                )
            drawn.clear()
    return PictureBatch(to_float(np.stack(images)), tuple(captions), tuple(captions), ())


def _picture(
    buckets: Buckets, index: int, grid: GridWeight, patch: int
) -> tuple[NDArray[np.uint8], str] | None:
    try:
        record = buckets.source.record(index)
        image = record.fitted_image(0, [(grid.height, grid.width)], patch)
        return image, caption_of(record.conversation) or ""
    except DataError as error:
        _note(buckets.skipped, buckets.source, index, error)
        return None


def _note(skipped: Skipped, source: Source, index: int, error: DataError) -> None:
    """Several sources may share the file, so a place is named with its source."""
    where = source.where(index)
    skipped.add(f"{source.name}: {where}", without_place(where, error))
