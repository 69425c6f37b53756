"""Intervals against cases whose answer is known."""

import numpy as np
import pytest

from arm.evals import intervals
from arm.evals.intervals import mean_of_groups, mean_score


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
