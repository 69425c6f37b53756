"""Users' pictures with captions, for training the tokenizer and the decoders.

Pictures of one aspect ratio make a batch. So every picture is assigned, once, to the token grid nearest to its
own shape (`Buckets`); a batch takes one grid and fits its pictures to it.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arm.data.conversation import caption_of
from arm.data.pictures import GridWeight, PictureBatch, to_float
from arm.data.record import Source
from arm.data.skipped import Skipped, without_place
from arm.data.transforms import best_grid, fit_to_grid
from arm.errors import DataError
from arm.files import write_text

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Buckets:
    """The records of a source that are one captioned picture, by the (height, width) grid nearest to it."""

    source: Source
    members: Mapping[Grid, NDArray[np.int64]]
    skipped: Skipped

    def __len__(self) -> int:
        return sum(map(len, self.members.values()))


def open_buckets(
    source: Source, grids: Iterable[GridWeight], folder: Path, skipped: Skipped
) -> Buckets:
    """The buckets of a source, from `folder` where it has them, else from every picture's header.

    What is kept is found again by the source's path and length and by the grids. Records that are no pair
    of picture and caption are passed over. Raises DataError where none is left.
    """
    names = sorted({(grid.height, grid.width) for grid in grids})
    key = json.dumps([str(Path(source.name).resolve()), len(source), names])
    path = folder / f"buckets-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    members = _read(path, key, len(names))
    if members is None:
        members = _sort(source, names, skipped)
        write_text(json.dumps({"key": key, "members": members}), path, shared=True)
    if not any(members):
        raise DataError(
            f"{source.name} holds no readable picture with a caption; a record is image and text "
            f"({len(skipped)} were skipped, see {skipped.path})"
        )
    arrays = {grid: np.array(found, np.int64) for grid, found in zip(names, members, strict=True)}
    return Buckets(source, arrays, skipped)


def _read(path: Path, key: str, count: int) -> list[list[int]] | None:
    """What an earlier run kept; None where there is nothing whole of this key."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept["members"] if kept["key"] == key and len(kept["members"]) == count else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _sort(source: Source, grids: Sequence[Grid], skipped: Skipped) -> list[list[int]]:
    from rich.console import Console
    from rich.progress import track

    members: dict[Grid, list[int]] = {grid: [] for grid in grids}
    quiet = not sys.stderr.isatty()
    console = Console(stderr=True)
    for index in track(range(len(source)), "sizes of pictures", console=console, disable=quiet):
        try:
            record = source.record(index)
            if caption_of(record.conversation) is not None:
                members[best_grid(*record.size(0), grids)].append(index)
        except DataError as error:
            _note(skipped, source, index, error)
    return [members[grid] for grid in grids]


def captioned_batch(
    buckets: Buckets, seed: int, step: int, batch: int, grids: tuple[GridWeight, ...], patch: int
) -> PictureBatch:
    """Batch number `step`: a pure function of its arguments.

    A grid is drawn by how many pictures it has times its weight, then `batch` different pictures of it (with
    repeats only where it has fewer). A picture that cannot be read is noted in `buckets.skipped` and
    another drawn. Raises DataError where a grid has none that can.
    """
    rng = np.random.default_rng([seed, step])
    chances = np.array(
        [len(buckets.members.get((g.height, g.width), ())) * g.weight for g in grids], float
    )
    if not chances.any():
        raise DataError(f"{buckets.source.name} has no picture for any grid of weight above 0")
    grid = grids[int(rng.choice(len(grids), p=chances / chances.sum()))]
    members = buckets.members[grid.height, grid.width]
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
        image = fit_to_grid(record.image(0), [(grid.height, grid.width)], patch)
        return image, caption_of(record.conversation) or ""
    except DataError as error:
        _note(buckets.skipped, buckets.source, index, error)
        return None


def _note(skipped: Skipped, source: Source, index: int, error: DataError) -> None:
    """Several sources may share the file, so a place is named with its source."""
    where = source.where(index)
    skipped.add(f"{source.name}: {where}", without_place(where, error))
