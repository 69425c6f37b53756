"""Training rows: samples of a mix, packed so that the mix is delivered in the shares that were asked for.

A row holds whole samples only. Discarding what does not fit the rest of a row would deliver long samples
less often than they are drawn, so nothing that was drawn is discarded: it waits in a buffer, and every row
begins with the sample that has waited longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from arm.data.mixture import Mix
from arm.errors import DataError
from arm.sequence import PackedBatch, Tokens, Weights, flatten, pack
from arm.vocab import Vocab

BUFFER = 16
"""Samples among which a row chooses what fits."""
WARM_UP = 32
"""Rows packed and thrown away before a block, until its buffer holds what a buffer holds in the long run."""
BLOCK = 96
"""Rows that a buffer is carried through before the next block starts anew."""
STRIDE = 24
"""Consecutive steps that belong to different blocks. Data workers take steps in turn; a number of workers
that divides this one lets each of them pack blocks of its own."""


def packed_batch(
    seed: int, step: int, count: int, length: int, mix: Mix, weights: Weights, vocab: Vocab
) -> PackedBatch:
    """`count` samples, in as few rows of `length` tokens as first fit finds; a pure function of its arguments."""
    rng = np.random.default_rng([seed, step])
    samples = [draw_tokens(rng, mix, weights, vocab) for _ in range(count)]
    return pack(samples, length, vocab, len(mix.kinds))


def draw_tokens(rng: np.random.Generator, mix: Mix, weights: Weights, vocab: Vocab) -> Tokens:
    """One random sample of a mix as tokens that carry its kind."""
    sample, kind = mix.draw(rng)
    return replace(flatten(sample, vocab, weights), kind=kind)


class _Block:
    """The rows of one block, made one after another. `made` counts them, without those of the warm-up."""

    def __init__(self, packer: "RowPacker", row: int, phase: int, number: int) -> None:
        self.packer, self.number, self.made = packer, number, 0
        self.rng = np.random.default_rng([packer.seed, row, phase, number])
        self.buffer: list[Tokens] = []
        for _ in range(WARM_UP):
            self._fill()

    def next_row(self) -> list[Tokens]:
        self.made += 1
        return self._fill()

    def _fill(self) -> list[Tokens]:
        """One row: the sample that waited longest, then others that fit, oldest first. The last quarter of
        the row takes the longest that fits, which leaves the least of it empty.
        """
        length = self.packer.length
        row, room = [], length
        while True:
            while len(self.buffer) < BUFFER:
                self.buffer.append(self.packer.draw(self.rng))
            fitting = [i for i, tokens in enumerate(self.buffer) if len(tokens) <= room]
            if not fitting:
                return row
            index = fitting[0]
            if row and room <= length // 4:
                index = max(fitting, key=lambda i: len(self.buffer[i]))
            row.append(self.buffer.pop(index))
            room -= len(row[-1])


@dataclass
class RowPacker:
    """Makes full rows of `length` tokens. A row is a pure function of (seed, step, its number), so processes
    that make their own rows make together those that one would make, and a resumed run goes on with the
    rows that it would have had.

    Row r of steps s, s + STRIDE, s + 2 * STRIDE, ... comes from one stream of samples, which begins anew
    after BLOCK of them. Only the state of streams in use is kept.
    """

    seed: int
    length: int
    mix: Mix
    weights: Weights
    vocab: Vocab

    def __post_init__(self) -> None:
        self._blocks: dict[tuple[int, int], _Block] = {}

    def draw(self, rng: np.random.Generator) -> Tokens:
        """A random sample. Raises DataError where it is longer than a row."""
        tokens = draw_tokens(rng, self.mix, self.weights, self.vocab)
        if len(tokens) > self.length:
            raise DataError(
                f"a sample of {len(tokens)} tokens does not fit a row of {self.length}; raise row_length"
            )
        return tokens

    def batch(self, step: int, rows: Sequence[int]) -> PackedBatch:
        """The rows with these numbers of a step, in their order."""
        packed = [
            pack(self._row(step, row), self.length, self.vocab, len(self.mix.kinds)) for row in rows
        ]
        return PackedBatch(
            *(torch.cat([getattr(one, f.name) for one in packed]) for f in fields(PackedBatch))
        )

    def _row(self, step: int, row: int) -> list[Tokens]:
        phase, turn = step % STRIDE, step // STRIDE
        number, index = divmod(turn, BLOCK)
        block = self._blocks.get((row, phase))
        if block is None or block.number != number or block.made > index:
            block = self._blocks[row, phase] = _Block(self, row, phase, number)
        while block.made < index:
            block.next_row()
        return block.next_row()


class DeliveredShares:
    """The share of every kind of sample among all that this process has trained on since it started."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.names = [f"share/{kind}" for kind in kinds]
        self.counts = torch.zeros(len(kinds), dtype=torch.int64)

    def after(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Counts a batch; returns the shares so far by name, each in [0, 1]."""
        self.counts = self.counts + batch.tally.sum(0).to(self.counts.device)
        shares = self.counts / self.counts.sum().clamp(min=1)
        return dict(zip(self.names, shares.to(batch.tally.device), strict=True))
