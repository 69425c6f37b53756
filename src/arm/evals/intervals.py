"""Scores with 95 % bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

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
