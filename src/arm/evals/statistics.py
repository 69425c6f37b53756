"""Scores with 95 % bootstrap intervals.

Whether two models differ: paired over the same prompts, over several training seeds.

Scores come as arrays (seeds, items): every model is asked the same items. Intervals and tests redraw the
items and allow for the seeds' spread, so that a lucky seed is not taken for an effect."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

RESAMPLES = 1000
AT_ONCE = 4_000_000
"""Samples that are drawn together: all redraws of VQAv2's 214,354 answers would take gigabytes."""


@dataclass(frozen=True)
class Score:
    """A mean of n samples with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def mean_score(values: Sequence[float], seed: int = 0) -> Score:
    """The mean of the values. Raises ValueError where there are none."""
    return mean_of_groups({"all": values}, seed)


def mean_of_groups(groups: Mapping[str, Sequence[float]], seed: int = 0) -> Score:
    """The unweighted mean of the groups' means; samples are redrawn within their group.

    Raises ValueError for no group or an empty one.
    """
    return weighted_mean_of_groups(groups, None, seed)


def weighted_mean_of_groups(
    groups: Mapping[str, Sequence[float]], weights: Mapping[str, float] | None = None, seed: int = 0
) -> Score:
    """The mean of the groups' means, by the groups' weights (None: all alike; they need not sum to 1).

    Raises ValueError for no group or an empty one, and KeyError for one without a weight.
    """
    if not groups or not all(len(v) for v in groups.values()):
        raise ValueError("a score needs at least one sample in every group")
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(values, dtype=np.float64) for values in groups.values()]
    share = np.array([1.0 if weights is None else weights[name] for name in groups])
    drawn = [redrawn_means(a, rng) for a in arrays]
    means = np.average(np.stack(drawn), 0, share)
    low, high = np.percentile(means, [2.5, 97.5])
    value = float(np.average([a.mean() for a in arrays], weights=share))
    return Score(value, float(low), float(high), sum(map(len, arrays)))


def redrawn_means(
    values: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """The means of so many redraws of n values; the same whatever number is drawn together."""
    n = len(values)
    rows = min(resamples, max(1, AT_ONCE // n))
    return np.concatenate([
        values[rng.integers(n, size=(min(rows, resamples - start), n))].mean(1)
        for start in range(0, resamples, rows)
    ])  # fmt: skip


Scores = Float[np.ndarray, "seeds items"]
PAIRED_RESAMPLES = 10_000
FLIPS = 9_999


@dataclass(frozen=True)
class Difference:
    """The mean difference of paired scores, its 95 % interval, and a two-sided p-value."""

    value: float
    low: float
    high: float
    p: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a model's mean score from seed to seed, and its degrees of freedom."""

    deviation: float
    freedom: int


def pooled_spread(models: Iterable[Scores]) -> Spread | None:
    """The spread of all models that have several seeds, taken to be one: three seeds of each say little
    of their own. None where no model has.
    """
    means = [scores.mean(1) for scores in models if len(scores) > 1]
    freedom = sum(len(m) - 1 for m in means)
    if not freedom:
        return None
    squares = sum(float(((m - m.mean()) ** 2).sum()) for m in means)
    return Spread(float(np.sqrt(squares / freedom)), freedom)


def paired(
    ours: Scores,
    theirs: Scores,
    seed: int = 0,
    resamples: int = PAIRED_RESAMPLES,
    spread: Spread | None = None,
) -> Difference:
    """ours - theirs on the same items. A model without seeds of its own may have a single row.

    spread: as `resampled`. p: twice the smaller share of resampled differences on one side of 0 (a bootstrap test), never
    below 2 / resamples. Raises ValueError where the items are not the same number.
    """
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"paired scores need the same items: {ours.shape[1]}, {theirs.shape[1]}")
    draws = resampled(ours, theirs, seed, resamples, spread)
    low, high = np.percentile(draws, [2.5, 97.5])
    tail = min((draws <= 0).mean(), (draws >= 0).mean())
    p = min(1.0, max(2 * float(tail), 2 / resamples))
    return Difference(float(ours.mean() - theirs.mean()), float(low), float(high), p)


def resampled(
    ours: Scores, theirs: Scores, seed: int, resamples: int, spread: Spread | None = None
) -> np.ndarray:
    """Resampled mean differences (R,): the items of both are redrawn together; to each is added what the
    luck of the seeds may be, by Student's t on `spread`, or else on that of each model's own seeds.

    Redrawing three seeds instead would find a third of their variance missing, and no tails.
    """
    rng = np.random.default_rng(seed)
    draws = redrawn_means(ours.mean(0) - theirs.mean(0), rng, resamples)
    for scores in (ours, theirs):
        if (seeds := len(scores)) > 1:
            own = spread or Spread(float(scores.mean(1).std(ddof=1)), seeds - 1)
            luck = rng.standard_t(own.freedom, resamples) / np.sqrt(seeds)
            draws = draws + own.deviation * luck
    return draws


def equivalent(
    ours: Scores, theirs: Scores, margin: float, seed: int = 0, resamples: int = PAIRED_RESAMPLES,
    spread: Spread | None = None,
) -> tuple[bool, float]:  # fmt: skip
    """Whether the difference lies within +-margin at the 5 % level, and the test's p-value. spread: as
    `resampled`.

    Two one-sided tests: p is the larger share of resampled differences beyond either bound.
    """
    draws = resampled(ours, theirs, seed, resamples, spread)
    p = float(max((draws <= -margin).mean(), (draws >= margin).mean()))
    return p < 0.05, max(p, 1 / resamples)


def stratified(groups: Sequence[tuple[float, np.ndarray]], seed: int = 0) -> Difference:
    """The weighted mean of the groups' mean differences, each (weight, differences); weights need not sum
    to 1. The interval redraws the items within their group, p flips the signs of their differences:
    all flips of few items, else 9,999. One item proves nothing: its p is 1.
    """
    whole = sum(weight for weight, _ in groups)
    shares = [(weight / whole, np.asarray(d, dtype=np.float64)) for weight, d in groups]
    rng = np.random.default_rng(seed)
    draws = sum(share * redrawn_means(d, rng, PAIRED_RESAMPLES) for share, d in shares)
    low, high = np.percentile(draws, [2.5, 97.5])
    value = float(sum(share * d.mean() for share, d in shares))
    terms = np.concatenate([share * d / len(d) for share, d in shares])
    return Difference(value, float(low), float(high), _sign_flips(terms, seed))


def _sign_flips(terms: np.ndarray, seed: int) -> float:
    """How often the sum of the terms is as far from 0 when each sign is thrown: two-sided, the terms' own
    signs counted. scipy's `permutation_test` sorts every pair, hours for 200,000 of them.
    """
    n = len(terms)
    if n < 2:
        return 1.0
    reached = abs(terms.sum()) - 1e-12 * np.abs(terms).sum()
    if n <= 13:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ terms) >= reached).mean())
    rng, rows, found = np.random.default_rng(seed), max(1, AT_ONCE // n), 0
    for start in range(0, FLIPS, rows):
        thrown = rng.integers(2, size=(min(rows, FLIPS - start), n), dtype=np.int8)
        found += int((np.abs(terms.sum() - 2 * (thrown @ terms)) >= reached).sum())
    return (found + 1) / (FLIPS + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment of a family of p-values."""
    adjusted: dict[str, float] = {}
    running = 0.0
    ordered: Sequence[str] = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}
