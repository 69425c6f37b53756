"""Pictures of many codes, in the order of the codes."""

import numpy as np
import pytest

from arm.evals import painting
from arm.pipeline import Arm
from arm.world.reader import read


def test_pictures_come_back_in_the_order_of_their_codes(arm: Arm):
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 4096, shape) for shape in ((7, 7), (6, 8), (7, 7), (8, 6))]
    together = [read(picture) for picture in painting.paint_each(arm, codes)]
    assert together == [read(painting.paint_each(arm, [c])[0]) for c in codes]


def test_large_pictures_are_painted_few_at_a_time(arm: Arm, monkeypatch: pytest.MonkeyPatch):
    """Of 56 x 56 pixels two fit 7,000 and three do not."""
    codes = [np.full((7, 7), k) for k in range(5)]
    whole = painting.paint_each(arm, codes)
    sizes: list[int] = []
    paint = painting.paint
    monkeypatch.setattr(painting, "paint", lambda a, c: sizes.append(len(c)) or paint(a, c))
    monkeypatch.setattr(painting, "MAX_PIXELS", 7000)
    parts = painting.paint_each(arm, codes)
    assert sizes == [2, 2, 1]
    np.testing.assert_allclose(np.stack(parts).astype(int), np.stack(whole).astype(int), atol=1)
