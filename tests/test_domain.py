"""What holds for every domain: the arithmetic of edit scores, canvases and code counts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arm.data.images import GridWeight
from arm.domain import Canvas, EditScore, code_counts


def test_edit_scores_by_hand():
    score = EditScore(follow=1.0, preserve=0.4, quality=0.9)
    assert (score.sc, score.pq) == (4.0, 9.0)
    assert score.overall == pytest.approx(6.0)
    assert EditScore(0.0, 1.0, 1.0).overall == 0


def test_sizes_go_round_the_grids():
    canvas = Canvas((GridWeight(7, 7), GridWeight(6, 8)), patch=8)
    assert [canvas.size(i) for i in range(3)] == [(56, 56), (48, 64), (56, 56)]


def test_codes_are_counted_over_all_pictures():
    chains: list[Any] = [
        SimpleNamespace(codes=np.array([[[0, 1], [1, 3]]], dtype=np.uint16)),
        SimpleNamespace(codes=np.array([[[3, 3], [3, 3]]], dtype=np.uint16)),
    ]
    assert code_counts(chains, 5).tolist() == [1, 2, 0, 5, 0]
