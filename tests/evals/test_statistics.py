"""Intervals against cases whose answer is known.

Paired comparisons, on scores whose answer is known."""

import numpy as np
import pytest

from arm.evals import statistics as intervals
from arm.evals.statistics import (
    equivalent,
    holm,
    mean_of_groups,
    mean_score,
    paired,
    pooled_spread,
    resampled,
)


def test_constant_values_have_no_width():
    score = mean_score([1.0] * 50)
    assert (score.value, score.low, score.high, score.n) == (1.0, 1.0, 1.0, 50)


def test_interval_of_a_proportion_is_about_the_textbook_one():
    score = mean_score([1.0] * 300 + [0.0] * 100)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert score.value == 0.75
    assert score.low == pytest.approx(0.75 - half, abs=0.01)
    assert score.high == pytest.approx(0.75 + half, abs=0.01)


def test_groups_count_equally_whatever_their_size():
    score = mean_of_groups({"a": [1.0] * 90, "b": [0.0] * 10})
    assert score.value == 0.5 and score.n == 100 and score.low == score.high == 0.5


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        score = mean_score((rng.random(80) < 0.3).astype(float).tolist(), seed=trial)
        covered += score.low <= 0.3 <= score.high
    assert 176 <= covered <= 200


def test_nothing_to_score():
    for groups in ({}, {"a": []}):
        with pytest.raises(ValueError, match="at least one"):
            mean_of_groups(groups)


def test_many_samples_are_redrawn_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """The very same intervals, without the gigabytes."""
    groups = {"a": np.random.default_rng(0).random(300).tolist(), "b": [0.5, 1.0] * 25}
    whole = mean_of_groups(groups)
    for few in (1, 700, 30_000):
        monkeypatch.setattr(intervals, "AT_ONCE", few)
        assert mean_of_groups(groups) == whole


RNG = np.random.default_rng(0)


def test_a_paired_difference_needs_fewer_items_than_an_unpaired_one():
    hard = RNG.random((1, 200))
    better = np.clip(hard + 0.05 + 0.01 * RNG.standard_normal((3, 200)), 0, 2)
    found = paired(better, hard, resamples=2000)
    assert found.value == pytest.approx(0.05, abs=0.01)
    assert 0.04 < found.low < found.value < found.high < 0.06
    assert found.p == 2 / 2000


def test_equal_models_do_not_differ():
    level = RNG.random((1, 300))
    a, b = level + 0.1 * RNG.standard_normal((3, 300)), level + 0.1 * RNG.standard_normal((3, 300))
    found = paired(a, b, resamples=2000)
    assert found.low < 0 < found.high and found.p > 0.05
    assert equivalent(a, b, 0.05, resamples=2000)[0]
    assert not equivalent(a, b, 0.001, resamples=2000)[0]


def test_a_lucky_seed_is_not_an_effect():
    """One of three seeds is far better: the interval over seeds reaches below nothing."""
    base = np.full((1, 100), 0.5)
    lucky = np.concatenate([base, base, base + 0.3])
    found = paired(lucky, base, resamples=2000)
    assert found.value == pytest.approx(0.1)
    assert found.low < 0 and found.p > 0.05


def test_a_pooled_spread_by_hand():
    """Means 1, 3 and 2, 2, 5: squares 2 and 6 over 1 + 2 degrees of freedom; one seed says nothing."""
    models = [np.array([[1.0], [3.0]]), np.array([[2.0], [2.0], [5.0]]), np.array([[9.0]])]
    found = pooled_spread(models)
    assert found is not None and found.freedom == 3
    assert found.deviation == pytest.approx((8 / 3) ** 0.5)
    assert pooled_spread(models[2:]) is None


@pytest.mark.parametrize("how", ["own", "fixed", "pooled"])
def test_the_luck_of_seeds_is_rarely_called_an_effect(how: str):
    """Models that differ by the luck of three seeds alone: one in twenty may have p < .05."""
    rng = np.random.default_rng(5)

    def trained(seeds: int) -> np.ndarray:
        return rng.normal(0.5, 0.05, (seeds, 1)) + 0.01 * rng.standard_normal((seeds, 60))

    found = []
    for i in range(300):
        ours, theirs = trained(3), trained(3) if how == "own" else np.full((1, 60), 0.5)
        spread = pooled_spread([ours, *(trained(3) for _ in range(5))]) if how == "pooled" else None
        found.append(paired(ours, theirs, i, 400, spread).p < 0.05)
    assert np.mean(found) < 0.08
    assert how != "pooled" or np.mean(found) > 0.01


def test_two_percent_points_off_are_not_equivalent():
    base = np.tile([0.0, 1.0], 200)[None]
    assert equivalent(base - 0.001, base, 0.02, resamples=2000) == (True, 1 / 2000)
    assert not equivalent(base - 0.03, base, 0.02, resamples=2000)[0]
    with pytest.raises(ValueError, match="the same items"):
        paired(base, base[:, :5])


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"x": 0.9, "y": 0.8}) == pytest.approx({"x": 1.0, "y": 1.0})


def test_seeds_that_are_all_alike_count_as_one():
    a, b = RNG.random((1, 90)), RNG.random((1, 90))
    whole = resampled(np.repeat(a, 2, 0), np.repeat(b, 2, 0), 3, 200)
    assert np.allclose(resampled(a, b, 3, 200), whole, atol=1e-12)
