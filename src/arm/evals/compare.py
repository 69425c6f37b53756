"""Whether two models differ: paired over the same prompts, over several training seeds.

Scores come as arrays (seeds, items): every model is asked the same items. Intervals and tests redraw
seeds and items, so that a lucky seed is not taken for an effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

Scores = Float[np.ndarray, "seeds items"]
RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """The mean difference of paired scores, its 95 % interval, and a two-sided p-value."""

    value: float
    low: float
    high: float
    p: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def _means(scores: Scores, seeds: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The mean of each resample, (RESAMPLES,): rows `seeds` (R, S) and columns `items` (R, I)."""
    return np.array([scores[np.ix_(s, i)].mean() for s, i in zip(seeds, items, strict=True)])


def paired(ours: Scores, theirs: Scores, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """ours - theirs on the same items. A model without seeds of its own may have a single row.

    p: twice the smaller share of resampled differences on one side of 0 (a bootstrap test), never
    below 2 / resamples. Raises ValueError where the items are not the same number.
    """
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"paired scores need the same items: {ours.shape[1]}, {theirs.shape[1]}")
    draws = resampled(ours, theirs, seed, resamples)
    low, high = np.percentile(draws, [2.5, 97.5])
    tail = min((draws <= 0).mean(), (draws >= 0).mean())
    p = min(1.0, max(2 * float(tail), 2 / resamples))
    return Difference(float(ours.mean() - theirs.mean()), float(low), float(high), p)


def resampled(ours: Scores, theirs: Scores, seed: int, resamples: int) -> np.ndarray:
    """Resampled mean differences (R,): the items of both are redrawn together, seeds apart."""
    rng = np.random.default_rng(seed)
    count = ours.shape[1]
    if len(ours) == len(theirs) == 1:
        # One redraw at a time: those of many thousand items would not fit into memory together.
        redraws = (rng.integers(count, size=count) for _ in range(resamples))
        return np.array([ours[0, i].mean() - theirs[0, i].mean() for i in redraws])
    items = rng.integers(count, size=(resamples, count))
    a = _means(ours, rng.integers(len(ours), size=(resamples, len(ours))), items)
    b = _means(theirs, rng.integers(len(theirs), size=(resamples, len(theirs))), items)
    return a - b


def equivalent(
    ours: Scores, theirs: Scores, margin: float, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[bool, float]:
    """Whether the difference lies within +-margin at the 5 % level, and the test's p-value.

    Two one-sided tests: p is the larger share of resampled differences beyond either bound.
    """
    draws = resampled(ours, theirs, seed, resamples)
    p = float(max((draws <= -margin).mean(), (draws >= margin).mean()))
    return p < 0.05, max(p, 1 / resamples)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment of a family of p-values."""
    adjusted: dict[str, float] = {}
    running = 0.0
    ordered: Sequence[str] = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}
