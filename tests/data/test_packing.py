"""Rows are full, deliver the mix that was asked for, and depend on nothing but seed, step and number."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.data.mixture import Mix
from arm.data.packing import BLOCK, STRIDE, DeliveredShares, RowPacker, packed_batch
from arm.errors import DataError
from arm.sequence import PackedBatch, Sample, Text, Weights, assistant
from arm.vocab import Vocab

LENGTH = 400
VOCAB = Vocab(1000, 16, 8)


def mix_of(lengths: Sequence[int], shares: Sequence[float]) -> Mix:
    """Samples of these numbers of tokens (at least 2), one length a kind."""

    def draw(rng: np.random.Generator) -> tuple[Sample, int]:
        kind = int(rng.choice(len(lengths), p=shares))
        return (assistant(Text((1,) * (lengths[kind] - 2))),), kind

    return Mix(tuple(f"test/{length}" for length in lengths), draw)


def packer(mix: Mix, length: int = LENGTH, seed: int = 0) -> RowPacker:
    return RowPacker(seed, length, mix, Weights(), VOCAB)


def many_rows(mix: Mix, count: int, length: int = LENGTH, seed: int = 0) -> PackedBatch:
    """Rows of as many lanes as there are of one step in each block, so that all blocks are sampled alike."""
    made, lanes = packer(mix, length, seed), 4
    steps = range(0, count // lanes * STRIDE, STRIDE)
    parts = [made.batch(step, range(lanes)) for step in steps]
    return PackedBatch(
        *(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(PackedBatch))
    )


def fullness(batch: PackedBatch) -> float:
    return float((batch.document_ids >= 0).float().mean())


def same(one: PackedBatch, two: PackedBatch) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(PackedBatch))


MIX = mix_of([130, 16, 24, 40], [0.1, 0.3, 0.3, 0.3])


@pytest.mark.parametrize(
    ("long", "share"), [(0.01, 0.1), (0.1, 0.7), (1 / 3, 0.1), (0.5, 0.15), (0.6, 0.05), (1.0, 0.1)]
)
def test_samples_of_every_length_come_as_often_as_asked(long: float, share: float):
    """Once .10 asked of a third of a row gave .076, and .15 of half a row .055."""
    rest = (1 - share) / 3
    mix = mix_of([max(2, round(long * LENGTH)), 12, 20, 31], [share, rest, rest, rest])
    batch = many_rows(mix, 1600)
    assert_shares(batch, [share, rest, rest, rest])
    assert fullness(batch) >= 0.97


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(4, LENGTH), min_size=2, max_size=5),
    weights=st.lists(st.integers(1, 10), min_size=5, max_size=5),
)
def test_any_mix_is_delivered(lengths: list[int], weights: list[int]):
    shares = np.array(weights[: len(lengths)]) / sum(weights[: len(lengths)])
    assert_shares(many_rows(mix_of(lengths, shares.tolist()), 800), shares)


def assert_shares(batch: PackedBatch, shares: Sequence[float]) -> None:
    """Within five standard deviations of the binomial."""
    tally = batch.tally.sum(0).double().numpy()
    total, asked = tally.sum(), np.asarray(shares)
    error = np.abs(tally - total * asked) / np.sqrt(total * asked * (1 - asked))
    assert error.max() <= 5, (tally / total, asked)


PAPER_MIXES = {
    "pt": (0.05, 0.10, 0.70, 0.10, 0.05),
    "ct": (0.05, 0.10, 0.55, 0.15, 0.15),
    "sft": (0.05, 0.05, 0.50, 0.20, 0.20),
}
"""Text, image to text, text to image, interleaved video, interleaved web (the paper's section 3)."""


@pytest.mark.parametrize("stage", PAPER_MIXES)
def test_the_papers_mixes_are_delivered(stage: str):
    """Lengths in the proportions of 80K-token rows: texts of 2K, one picture of 1K to 4K, videos of 20K,
    pages of 10K.
    """
    mix = mix_of([20, 12, 26, 200, 100], PAPER_MIXES[stage])
    batch = many_rows(mix, 1600, length=800)
    assert_shares(batch, PAPER_MIXES[stage])
    assert fullness(batch) >= 0.97


def test_rows_are_made_apart_as_together():
    together = packer(MIX).batch(5, [0, 1, 2, 3])
    even, odd = packer(MIX).batch(5, [0, 2]), packer(MIX).batch(5, [1, 3])
    for name in (f.name for f in fields(PackedBatch)):
        pair = torch.stack([getattr(even, name), getattr(odd, name)], 1)
        assert torch.equal(getattr(together, name), pair.flatten(0, 1))


@pytest.mark.parametrize("step", [3, STRIDE * 7 + 3, STRIDE * BLOCK + 3])
def test_a_resumed_run_has_the_rows_it_would_have_had(step: int):
    whole, begun = packer(MIX), packer(MIX)
    for earlier in range(step % STRIDE, step, STRIDE):
        whole.batch(earlier, [0])
    assert same(whole.batch(step, [0]), begun.batch(step, [0]))
    assert same(whole.batch(step, [0]), begun.batch(step, [0]))  # and again
    assert not same(packer(MIX, seed=1).batch(step, [0]), begun.batch(step, [0]))
    assert not same(begun.batch(step + 1, [0]), begun.batch(step, [0]))


def test_a_sample_longer_than_a_row_is_an_error():
    with pytest.raises(DataError, match="a sample of 16 tokens does not fit a row of 12; raise"):
        packer(mix_of([16], [1.0]), length=12).batch(0, [0])


def test_shares_are_counted_over_batches():
    shares = DeliveredShares(("a", "b"))
    one = packed_batch(0, 0, 6, LENGTH, mix_of([5, 6], [0.5, 0.5]), Weights(), VOCAB)
    two = packed_batch(0, 1, 6, LENGTH, mix_of([5, 6], [0.0, 1.0]), Weights(), VOCAB)
    first = int(one.tally.sum(0)[0])
    assert float(shares.after(one)["share/a"]) == pytest.approx(first / 6)
    assert float(shares.after(two)["share/b"]) == pytest.approx((12 - first) / 12)
