"""The weighted mix of tasks and sources that training samples are drawn from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import get_args

import numpy as np

from arm.data.code_shards import CodeConversations
from arm.data.conversation import TaskName, task_of, to_sample
from arm.data.records import Skipped
from arm.errors import DataError, InputError
from arm.sequence import Sample, Tokenize, drop_condition, flatten
from arm.vocab import Vocab


@dataclass(frozen=True)
class Ratios:
    """Sampling ratio of each task: the mix of the paper's section 3, and copying, which is ours."""

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
    """Condition dropout for guidance: the probability that the text, the picture, or both are left out."""

    text: float = 0.05
    image: float = 0.0
    both: float = 0.05

    def __post_init__(self) -> None:
        shares = (self.text, self.image, self.both)
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise ValueError("text, image and both must not be negative, and at most 1 together")


@dataclass(frozen=True)
class Mix:
    """A random source of samples.

    `draw(rng)` returns a sample and its kind, an index into `kinds`; kinds are named "source/task".
    """

    kinds: tuple[str, ...]
    draw: Callable[[np.random.Generator], tuple[Sample, int]]


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
"""Unusable conversations in a row after which drawing from their source fails."""


def conversation_samples(
    shards: CodeConversations,
    dropout: Dropout,
    tokenize: Tokenize,
    vocab: Vocab,
    length: int,
    skipped: Skipped,
) -> Mix:
    """Random conversations of a directory of code shards, with condition dropout where a picture is drawn.

    A conversation that is damaged, longer than `length` tokens, or has words or codes that the model
    does not know, is recorded in `skipped` and replaced by another one. Drawing raises DataError after
    MAX_REJECTED unusable conversations in a row.
    """
    tasks: tuple[TaskName, ...] = get_args(TaskName)

    def draw(rng: np.random.Generator) -> tuple[Sample, int]:
        reason = ""
        for _ in range(MAX_REJECTED):
            index = int(rng.integers(len(shards)))
            try:
                conversation, codes = shards[index]
                sample = to_sample(conversation, codes, tokenize)
                task = task_of(conversation)
                if task in ("drawing", "editing"):
                    sample = drop_some(rng, sample, dropout)
                tokens = len(flatten(sample, vocab))
                if tokens <= length:
                    return sample, tasks.index(task)
                reason = f"{tokens} tokens do not fit a row of {length}"
            except (DataError, InputError, ValueError) as error:
                reason = str(error)
            # All sources share the file and name their shards alike, so the directory is part of the entry.
            skipped.add(f"{shards.directory}: {shards.where(index)}", reason)
        raise DataError(
            f"{shards.directory}: {MAX_REJECTED} conversations in a row cannot be used; the last: {reason}"
        )

    return Mix(tuple(f"{shards.directory.name}/{task}" for task in tasks), draw)


def mixed(parts: Sequence[tuple[float, Mix]]) -> Mix:
    """Several mixes as one: a sample is drawn from each with a probability proportional to its weight."""
    if len(parts) == 1:
        return parts[0][1]
    weights = np.array([weight for weight, _ in parts])
    starts = np.cumsum([0, *(len(mix.kinds) for _, mix in parts)])

    def draw(rng: np.random.Generator) -> tuple[Sample, int]:
        index = int(rng.choice(len(parts), p=weights / weights.sum()))
        sample, kind = parts[index][1].draw(rng)
        return sample, int(starts[index]) + kind

    return Mix(tuple(kind for _, mix in parts for kind in mix.kinds), draw)


TRIED = 64
"""Conversations of a source that are tried before training, to report the share that cannot be used."""


def unusable_share(
    shards: CodeConversations, tokenize: Tokenize, vocab: Vocab, length: int
) -> float:
    """The share that `conversation_samples` would skip, of up to TRIED evenly spaced conversations."""
    tried = np.unique(np.linspace(0, len(shards) - 1, TRIED).astype(int))
    unusable = 0
    for index in tried.tolist():
        try:
            unusable += len(flatten(to_sample(*shards[index], tokenize), vocab)) > length
        except (DataError, InputError, ValueError):
            unusable += 1
    return unusable / len(tried)


def report_unusable(
    shards: CodeConversations, tokenize: Tokenize, vocab: Vocab, length: int
) -> None:
    """Prints a line where more than one conversation in ten cannot be used in rows of `length` tokens."""
    share = unusable_share(shards, tokenize, vocab, length)
    if share > 0.1:
        print(
            f"{shards.directory}: about {share:.0%} of the conversations are skipped: they do not fit a row of "
            f"{length} tokens (row_length), or hold words or codes that the model does not know",
            flush=True,
        )
