"""The weighted mix of tasks, as packed batches that are pure functions of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arm.data.copying import copying
from arm.data.edit import edit
from arm.data.interleaved import interleaved
from arm.data.shards import Chain
from arm.data.t2i import draw
from arm.data.tasks import Task, Tokenize
from arm.data.text import facts
from arm.data.understand import understand
from arm.sequence import PackedBatch, Sample, Weights, drop_condition, flatten, pack
from arm.vocab import Vocab


@dataclass(frozen=True)
class Ratios:
    """Sampling ratio of each task (the paper's section 3 mix, with its own names, and copying)."""

    text: float
    image_to_text: float
    text_to_image: float
    editing: float
    interleaved: float
    copying: float = 0.0


@dataclass(frozen=True)
class Dropout:
    """Condition dropout for guidance: how often the text, the picture, or both are left out."""

    text: float = 0.05
    image: float = 0.0
    both: float = 0.05


TASKS: dict[str, Task] = {
    "text": facts,
    "image_to_text": understand,
    "text_to_image": draw,
    "editing": edit,
    "interleaved": interleaved,
    "copying": copying,
}
GUIDED = ("text_to_image", "editing")
"""Tasks whose condition is sometimes dropped."""


def sample_task(
    rng: np.random.Generator,
    chains: Sequence[Chain],
    ratios: Ratios,
    dropout: Dropout,
    tokenize: Tokenize,
) -> Sample:
    """One sample of the mix from a random chain."""
    names = tuple(TASKS)
    weights = np.array([getattr(ratios, name) for name in names])
    while True:
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        chain = chains[int(rng.integers(len(chains)))]
        sample = TASKS[name](rng, chain, tokenize)
        if sample is None:
            continue
        if name in GUIDED:
            draw = rng.random()
            if draw < dropout.both:
                return drop_condition(sample, text=True, image=True)
            if draw < dropout.both + dropout.text:
                return drop_condition(sample, text=True, image=False)
            if draw < dropout.both + dropout.text + dropout.image:
                return drop_condition(sample, text=False, image=True)
        return sample


def packed_batch(
    seed: int,
    step: int,
    count: int,
    length: int,
    chains: Sequence[Chain],
    ratios: Ratios,
    dropout: Dropout,
    weights: Weights,
    tokenize: Tokenize,
    vocab: Vocab,
) -> PackedBatch:
    """`count` samples of the mix in as few rows of `length` tokens as first fit finds."""
    rng = np.random.default_rng([seed, step])
    samples = (sample_task(rng, chains, ratios, dropout, tokenize) for _ in range(count))
    return pack([flatten(sample, vocab, weights) for sample in samples], length, vocab)
