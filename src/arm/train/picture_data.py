"""Users' captioned pictures for the tokenizer and the decoders, a part of them held out of training.

A domain (`arm.domain`) does not need this: it offers pictures by split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from jaxtyping import Bool, Float
from torch import Tensor

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
from arm.domain import PictureDomain
from arm.errors import DataError
from arm.models.text import has_known_word, same_texts, tower_ids
from arm.train import parallel

EVALUATED = 32
"""Number of held-out pictures per batch."""


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


def report_unknown_captions(captions: Sequence[str], tower_tokenizer: Any, siglip: Any) -> None:
    """Prints a line with the number of captions in a batch without a word that the text tower knows."""
    ids_BT = tower_ids(siglip, tower_tokenizer, captions)
    unknown = int((~has_known_word(tower_tokenizer, ids_BT)).sum())
    if unknown:
        print(
            f"{unknown} of {len(captions)} captions of the first batch ({unknown / len(captions):.0%}) hold no "
            "word that the text tower knows; the loss 'sig' leaves such captions out",
            flush=True,
        )


def seed_by_rank() -> None:
    """Makes torch's generator differ between processes for the rest of a step, so that each samples its own noise
    and timesteps. The main process's generator does not change.
    """
    if parallel.rank():  # torch's CPU generator uses 32 bits of a seed
        torch.manual_seed((torch.initial_seed() + parallel.rank() * 0x9E3779B1) % 2**32)


@dataclass(frozen=True)
class Captions:
    """The captions of all processes, n, to be compared with the b pictures of this process.

    text: the text tower's embeddings. same: whether a caption reads the same as that of the picture. counted:
    the pairs that the contrastive loss uses; None for all.
    """

    text: Float[Tensor, "n d"]
    same: Bool[Tensor, "b n"]
    counted: Bool[Tensor, "b n"] | None


def gather_captions(
    batch: PictureBatch,
    tower_tokenizer: Any,
    ids_BT: Tensor,
    text_BD: Tensor,
    domain: PictureDomain | None = None,
) -> Captions:
    """Gathers the captions of all processes' batches, so that the contrastive loss has the negatives of the whole
    batch. Pairs that the domain does not find comparable, and captions without a word that the tower's tokenizer
    knows, are not counted.

    ids_BT, text_BD: token ids and embeddings of this process's captions. The text tower is frozen, so embeddings
    are sent without gradients, and the mean of the processes' losses is the loss of the whole batch.
    """
    device, size = text_BD.device, parallel.world_size()
    ids, text, truths = ids_BT, text_BD, batch.truths
    if size > 1:
        gathered: list[Any] = [None] * size
        torch.distributed.all_gather_object(gathered, (ids_BT.cpu(), text_BD.cpu(), batch.truths))
        ids = torch.cat([each for each, _, _ in gathered]).to(device)
        text = torch.cat([each for _, each, _ in gathered]).to(device)
        truths = [truth for _, _, each in gathered for truth in each]
    counted_N = has_known_word(tower_tokenizer, ids)
    counted = None if counted_N.all() else counted_N.expand(len(ids_BT), -1)
    if truths and domain is not None:
        pairs = domain.comparable(batch.truths, truths).to(device)
        counted = pairs if counted is None else pairs & counted
    return Captions(text, same_texts(ids_BT, ids), counted)
