"""The weighted mix of tasks, as packed batches that are pure functions of (seed, step)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from arm.data.code_shards import CodeConversations
from arm.data.conversation import task_of, to_sample
from arm.data.records import Skipped
from arm.errors import DataError, InputError
from arm.sequence import (
    PackedBatch,
    Sample,
    Tokenize,
    Tokens,
    Weights,
    drop_condition,
    flatten,
    pack,
)
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

    def __post_init__(self) -> None:
        shares = [getattr(self, field.name) for field in fields(self)]
        if not (min(shares) >= 0 and 0 < sum(shares) < math.inf):
            raise ValueError("ratios must not be negative, and one of them above 0")


@dataclass(frozen=True)
class Dropout:
    """Condition dropout for guidance: how often the text, the picture, or both are left out."""

    text: float = 0.05
    image: float = 0.0
    both: float = 0.05

    def __post_init__(self) -> None:
        shares = (self.text, self.image, self.both)
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise ValueError("text, image and both must not be negative, and at most 1 together")


Draw = Callable[[np.random.Generator], Sample]
"""One random sample of a mix."""


def drop_some(rng: np.random.Generator, sample: Sample, dropout: Dropout) -> Sample:
    """The sample, now and then with its condition dropped."""
    draw = rng.random()
    if draw < dropout.both:
        return drop_condition(sample, text=True, image=True)
    if draw < dropout.both + dropout.text:
        return drop_condition(sample, text=True, image=False)
    if draw < dropout.both + dropout.text + dropout.image:
        return drop_condition(sample, text=False, image=True)
    return sample


MAX_REJECTED = 100
"""Conversations in a row that cannot be used, after which their source is given up."""


def conversation_samples(
    shards: CodeConversations,
    dropout: Dropout,
    tokenize: Tokenize,
    vocab: Vocab,
    length: int,
    skipped: Skipped,
) -> Draw:
    """Random conversations of code shards, with condition dropout where a picture is drawn.

    One that is damaged, or has more than `length` tokens, or words or codes that the model does not
    have, is noted in `skipped` and another taken. Raises DataError after MAX_REJECTED of them in a row.
    """

    def draw(rng: np.random.Generator) -> Sample:
        reason = ""
        for _ in range(MAX_REJECTED):
            index = int(rng.integers(len(shards)))
            try:
                conversation, codes = shards[index]
                sample = to_sample(conversation, codes, tokenize)
                if task_of(conversation) in ("drawing", "editing"):
                    sample = drop_some(rng, sample, dropout)
                tokens = len(flatten(sample, vocab))
                if tokens <= length:
                    return sample
                reason = f"{tokens} tokens do not fit a row of {length}"
            except (DataError, InputError, ValueError) as error:
                reason = str(error)
            # Sources share the file, and all call their shards the same.
            skipped.add(f"{shards.directory}: {shards.where(index)}", reason)
        raise DataError(
            f"{shards.directory}: {MAX_REJECTED} conversations in a row cannot be used; the last: {reason}"
        )

    return draw


def mixed(parts: Sequence[tuple[float, Draw]]) -> Draw:
    """Several mixes as one, each by its weight."""
    if len(parts) == 1:
        return parts[0][1]
    weights = np.array([weight for weight, _ in parts])

    def draw(rng: np.random.Generator) -> Sample:
        return parts[int(rng.choice(len(parts), p=weights / weights.sum()))][1](rng)

    return draw


def packed_batch(
    seed: int, step: int, count: int, length: int, draw: Draw, weights: Weights, vocab: Vocab
) -> PackedBatch:
    """`count` samples in as few rows of `length` tokens as first fit finds."""
    rng = np.random.default_rng([seed, step])
    return pack([flatten(draw(rng), vocab, weights) for _ in range(count)], length, vocab)


MAX_MISFITS = 4
"""Samples that did not fit, after which a row counts as full."""


def filled_rows(
    seed: int,
    step: int,
    rows: Sequence[int],
    length: int,
    draw: Draw,
    weights: Weights,
    vocab: Vocab,
) -> PackedBatch:
    """Rows of `length` tokens, each as full as random samples make it.

    A row is a pure function of (seed, step, its number), so processes make their own alone and together
    the rows that one would make. Raises DataError where no sample fits a row.

    What does not fit the rest of a row is let go, and that is the likelier the longer it is. So a row's
    first sample is drawn with a chance that rises with its length, as one would be that goes on from
    the row before.
    """
    made = []
    for row in rows:
        rng = np.random.default_rng([seed, step, row])
        found: list[Tokens] = []
        room, missed = length, 0
        while room and missed < MAX_MISFITS:
            tokens = flatten(draw(rng), vocab, weights)
            if len(tokens) > room:
                missed += 1
            elif not found and rng.random() * length >= len(tokens):
                missed = 0
            else:
                found.append(tokens)
                room -= len(tokens)
        if not found:
            raise DataError(
                f"no sample of {MAX_MISFITS} fits a row of {length} tokens; raise row_length"
            )
        made.append(pack(found, length, vocab))
    return PackedBatch(
        *(torch.cat([getattr(batch, f.name) for batch in made]) for f in fields(PackedBatch))
    )
