"""Pictures of many codes, in the order of the codes."""

import numpy as np

from arm.evals import painting
from arm.pipeline import Arm


def test_pictures_come_back_in_the_order_of_their_codes(arm: Arm):
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 4096, shape) for shape in ((7, 7), (6, 8), (7, 7), (8, 6))]
    together = painting.read_codes(arm, codes)
    assert together == [painting.read_codes(arm, [c])[0] for c in codes]
