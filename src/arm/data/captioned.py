"""Users' pictures with captions, for training the tokenizer and the decoders.

The pictures of a batch have one aspect ratio. So every picture is assigned once to the ratio nearest to its own
(`Buckets`), by the size in its file's header; a batch takes one token grid and fits pictures of the grid's ratio to it. Of several
grids of one ratio, the larger ones get only pictures that are large enough.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
from arm.data.images import MAX_ENLARGEMENT, GridWeight, nearest_ratio, to_float
from arm.data.records import Skipped, Source, without_place
from arm.errors import DataError, shown
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
"""Records whose sizes are kept in one file: the most work that a killed process may lose."""
UNITS = "units"
"""The name, in a part, of the size of each record's picture."""
STAMPS = "stamps"
"""The key, in the header of a part, of the digest of the files that it was sorted from."""


def ratio_of(grid: GridWeight) -> Ratio:
    """A grid's aspect ratio."""
    common = math.gcd(grid.height, grid.width)
    return grid.height // common, grid.width // common


@dataclass(frozen=True, eq=False)
class Buckets:
    """The records of a source that are one captioned picture.

    members: by the ratio nearest to the picture's, the numbers of the records. units: by the number of a record, the
    pixels that its picture has for each unit of its ratio: 100 for 400x300 of the ratio (3, 4).
    """

    source: Source
    members: Mapping[Ratio, NDArray[np.int64]]
    skipped: Skipped
    units: NDArray[np.float32]
    _large_enough: dict[tuple[Ratio, float], NDArray[np.int64]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        return sum(map(len, self.members.values()))

    def members_for(
        self, grid: GridWeight, grids: Sequence[GridWeight], patch: int
    ) -> NDArray[np.int64]:
        """The records whose pictures suit a grid: of its ratio, and enlarged by at most `MAX_ENLARGEMENT`, unless
        `grid` is the smallest of its ratio among `grids`.
        """
        ratio = ratio_of(grid)
        members = self.members.get(ratio, np.zeros(0, np.int64))
        if grid.height == min(g.height for g in grids if ratio_of(g) == ratio):
            return members
        needed = patch * grid.height / ratio[0] / MAX_ENLARGEMENT
        key = ratio, needed
        if key not in self._large_enough:
            self._large_enough[key] = members[self.units[members] >= needed]
        return self._large_enough[key]


def open_buckets(
    source: Source, grids: Iterable[GridWeight], folder: Path, skipped: Skipped
) -> Buckets:
    """The buckets of a source, from `folder` where they are kept, else from every picture's header.

    They are kept by the source's path and length and by the grids' ratios, and made again where files have changed.
    Records that are no pair of picture and caption are left out. Raises DataError where none is left.
    """
    grids = list(grids)
    parts = sort_share(source, grids, folder, skipped)
    members = {
        ratio: np.concatenate([part[_name(ratio)] for part in parts]) for ratio in _ratios(grids)
    }
    units = np.concatenate([part[UNITS] for part in parts])
    buckets = Buckets(source, members, skipped, units)
    if not len(buckets):
        raise DataError(
            f"{shown(source.name)} holds no readable picture with a caption; a record is image and text "
            f"({len(skipped)} were skipped, see {shown(str(skipped.path))})"
        )
    return buckets


def sort_share(
    source: Source,
    grids: Iterable[GridWeight],
    folder: Path,
    skipped: Skipped,
    rank: int = 0,
    processes: int = 1,
) -> list[Mapping[str, NDArray[Any]]]:
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
        members = _read(path, {UNITS, *map(_name, ratios)}, stamps)
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


def _read(path: Path, names: set[str], stamps: str) -> dict[str, NDArray[Any]] | None:
    """A part as an earlier run kept it; None where there is none, or where it was made from other files."""
    try:
        with safe_open(path, framework="np") as file:
            if (file.metadata() or {}).get(STAMPS) != stamps or set(file.keys()) != names:
                return None
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError):
        return None


def _sort(
    source: Source, indices: Sequence[int], ratios: Sequence[Ratio], skipped: Skipped
) -> dict[str, NDArray[Any]]:
    """The records `indices` by their ratio's name, and `UNITS`."""
    from rich.console import Console
    from rich.progress import track

    members: dict[Ratio, list[int]] = {ratio: [] for ratio in ratios}
    units = np.zeros(len(indices), np.float32)
    quiet = not sys.stderr.isatty()
    console = Console(stderr=True)
    for place, index in enumerate(
        track(indices, "sizes of pictures", console=console, disable=quiet)
    ):
        try:
            record = source.record(index)
            if caption_of(record.conversation) is not None:
                width, height = record.size(0)
                ratio = nearest_ratio(width, height, ratios)
                members[ratio].append(index)
                units[place] = min(height / ratio[0], width / ratio[1])
        except DataError as error:
            _skip(skipped, source, index, error)
    return {UNITS: units} | {_name(r): np.array(of, np.int64) for r, of in members.items()}


def captioned_batch(
    buckets: Buckets, seed: int, step: int, batch: int, grids: tuple[GridWeight, ...], patch: int
) -> PictureBatch:
    """Batch number `step`: a pure function of its arguments.

    A grid is drawn by the number of pictures that suit it times its weight, then `batch` different pictures of those (with
    repeats only where there are fewer). A picture that cannot be read is added to `buckets.skipped`, and another one
    is drawn. Raises DataError where none of a grid's pictures can be read.
    """
    rng = np.random.default_rng([seed, step])
    suitable = [buckets.members_for(grid, grids, patch) for grid in grids]
    chances = np.array([len(m) * g.weight for m, g in zip(suitable, grids, strict=True)], float)
    if not chances.any():
        raise DataError(
            f"{shown(buckets.source.name)} has no picture for any grid of weight above 0"
        )
    drawn_grid = int(rng.choice(len(grids), p=chances / chances.sum()))
    grid, members = grids[drawn_grid], suitable[drawn_grid]
    images: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    drawn: set[int] = set()
    while len(images) < batch:
        index = int(members[int(rng.integers(len(members)))])
        if index in drawn:
            continue
        drawn.add(index)
        pair = _captioned_picture(buckets, index, grid, patch)
        if pair is not None:
            images.append(pair[0])
            captions.append(pair[1])
        if len(drawn) == len(members):
            if not images:
                raise DataError(
                    f"{shown(buckets.source.name)}: none of the {len(members)} pictures for the grid "
                    f"{grid.height}x{grid.width} can be read; see {shown(str(buckets.skipped.path))}"
                )
            drawn.clear()
    return PictureBatch(to_float(np.stack(images)), tuple(captions), tuple(captions), ())


def _captioned_picture(
    buckets: Buckets, index: int, grid: GridWeight, patch: int
) -> tuple[NDArray[np.uint8], str] | None:
    """A picture (H, W, 3) on the grid and its caption; None, and skipped, where it cannot be read."""
    try:
        record = buckets.source.record(index)
        image = record.fitted_image(0, [(grid.height, grid.width)], patch)
        return image, caption_of(record.conversation) or ""
    except DataError as error:
        _skip(buckets.skipped, buckets.source, index, error)
        return None


def _skip(skipped: Skipped, source: Source, index: int, error: DataError) -> None:
    """Adds a record to the list. Several sources may share it, so a place is named with its source."""
    where = source.where(index)
    skipped.add(f"{source.name}: {where}", without_place(where, error))
