"""Pictures for the tokenizer and the decoders: a user's, with a slice that is never trained on.

A domain (`arm.domain`) needs none of this: it offers pictures by split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arm.data.captioned import (
    Buckets,
    PictureBatch,
    captioned_batch,
    open_buckets,
    ratio_of,
    sort_share,
)
from arm.data.images import GridWeight
from arm.data.records import SKIPPED, Skipped
from arm.data.sources import open_source
from arm.errors import DataError
from arm.models.text import has_known_word, tower_ids
from arm.train import parallel

EVALUATED = 32
"""Held-out pictures in one batch."""


@dataclass(frozen=True)
class UserPictures:
    """Captioned pictures of several sources, each source as often as it has pictures."""

    train: tuple[Buckets, ...]
    held: tuple[Buckets, ...]
    grids: tuple[GridWeight, ...]
    patch: int

    def batch(self, seed: int, number: int, size: int) -> PictureBatch:
        """Batch `number`, of one source and one grid: a pure function of its arguments."""
        sizes = np.array([len(buckets) for buckets in self.train], float)
        rng = np.random.default_rng([seed, number, len(sizes)])
        buckets = self.train[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        return captioned_batch(buckets, seed, number, size, self.grids, self.patch)

    def held_out(self) -> Iterator[PictureBatch]:
        """All held-out pictures, each on the grid of its ratio that is drawn most, in batches and an order
        that do not change.
        """
        drawn_most = sorted(self.grids, key=lambda grid: grid.weight)
        most = {ratio_of(grid): replace(grid, weight=1.0) for grid in drawn_most}
        for buckets in self.held:
            for ratio, members in sorted(buckets.members.items()):
                for start in range(0, len(members), EVALUATED):
                    part = members[start : start + EVALUATED]
                    chunk = replace(buckets, members={ratio: part})
                    yield captioned_batch(chunk, 0, 0, len(part), (most[ratio],), self.patch)


def hold_out(buckets: Buckets, every: int) -> tuple[Buckets, Buckets]:
    """(The rest, every `every`-th picture of each ratio). One of 10 is held out of pictures 0-24 at
    every = 10: numbers 9 and 19.
    """
    held = {ratio: members[every - 1 :: every] for ratio, members in buckets.members.items()}
    rest = {
        ratio: np.delete(members, np.s_[every - 1 :: every])
        for ratio, members in buckets.members.items()
    }
    return replace(buckets, members=rest), replace(buckets, members=held)


def open_pictures(
    paths: Sequence[str],
    grids: tuple[GridWeight, ...],
    patch: int,
    folder: Path,
    held: int,
    allow_outside: bool = False,
) -> UserPictures:
    """Opens users' data (`arm.data.sources`); sizes and what was skipped are noted in `folder`.

    held: how many pictures to hold out of all; never more than one of ten. allow_outside: see `open_source`. Raises DataError for data
    that cannot be opened, and where 0 could be held out though some are asked for.
    """
    skipped = Skipped(folder / SKIPPED)
    sources = [open_source(path, allow_outside) for path in paths]
    if parallel.world_size() > 1:  # each process measures its share of the pictures
        for source in sources:
            sort_share(source, grids, folder, skipped, parallel.rank(), parallel.world_size())
        parallel.barrier()
    opened = [open_buckets(source, grids, folder, skipped) for source in sources]
    total = sum(map(len, opened))
    every = max(10, total // held) if held else total + 1
    pairs = [hold_out(buckets, every) for buckets in opened]
    if held and not any(len(test) for _, test in pairs):
        raise DataError(
            f"{', '.join(paths)}: {total} pictures are too few to hold one of {every} of a "
            "shape out; give more, or set eval_every=0"
        )
    train = tuple(rest for rest, _ in pairs if len(rest))
    return UserPictures(train, tuple(test for _, test in pairs), grids, patch)


def tell_unread(captions: Sequence[str], tower: Any, siglip: Any) -> None:
    """Says how many captions of a batch hold no word that the text tower, whose tokenizer is `tower`, knows."""
    unread = int((~has_known_word(tower, tower_ids(siglip, tower, captions))).sum())
    if unread:
        print(
            f"{unread} of {len(captions)} captions of the first batch hold no word that the text tower "
            "knows: the loss 'sig' leaves such captions out",
            flush=True,
        )


def draw_apart() -> None:
    """From here to the end of a step each process draws noise and timesteps of its own. A process alone
    draws as ever.
    """
    if parallel.rank():  # torch's generator on the CPU reads no more than 32 bits of a seed
        torch.manual_seed((torch.initial_seed() + parallel.rank() * 0x9E3779B1) % 2**32)
