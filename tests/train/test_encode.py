"""Chains of pictures: edits that follow on each other, and scenes of one shape where asked for."""

import numpy as np

from arm.train.encode import sample_chain
from arm.world.combinations import held_out_scene


def one_shape(repeats: float) -> float:
    """The share of 100 chains that begin with several things of one shape."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        scenes, edits = sample_chain(rng, 56, 56, 2, 4, repeats)
        assert len(scenes) == 3 and len(edits) == 2
        for edit, before, after in zip(edits, scenes, scenes[1:], strict=False):
            assert edit.source == before and edit.target == after
        assert not any(held_out_scene(scene) for scene in scenes)
        shapes = [thing.shape for thing in scenes[0].things]
        found += len(shapes) > 1 and len(set(shapes)) == 1
    return found / 100


def test_chains_of_one_shape_come_as_often_as_asked():
    assert one_shape(0.0) < 0.15
    assert 0.4 < one_shape(0.6) < 0.8
    assert one_shape(1.0) == 1.0
