"""The text-image score of the shipped towers."""

from pathlib import Path

import numpy as np
import pytest

from arm.errors import ConfigError, WeightsError
from arm.model_directory import find_model, parts_of
from arm.rewards.base import Attempt
from arm.rewards.siglip import SiglipReward
from arm.world.captions import short_caption
from arm.world.render import render
from arm.world.sampling import sample_scene


def test_a_picture_fits_its_own_caption_best():
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng, *((56, 56), (48, 64))[i % 2], max_things=2) for i in range(16)]
    pictures, texts = [render(s) for s in scenes], [short_caption(rng, s) for s in scenes]
    reward = SiglipReward(parts_of(find_model("micro")) / "siglip")
    reward.check("drawing", of_world=True, scale=1)
    own = reward([Attempt(t, p) for t, p in zip(texts, pictures, strict=True)])
    other = reward([Attempt(texts[i - 1], pictures[i]) for i in range(16)])
    mine, theirs = ([c["fit"] for c in found if c is not None] for found in (own, other))
    assert len(mine) == 16 and all(0 <= v <= 1 for v in mine + theirs)
    assert np.mean(np.greater(mine, theirs)) > 0.9


def test_missing_towers_are_one_line(tmp_path: Path):
    with pytest.raises(WeightsError, match="weights are missing"):
        SiglipReward(tmp_path / "nothing").check("drawing", of_world=True, scale=1)
    with pytest.raises(ConfigError, match="cannot tell what an edit changed"):
        SiglipReward(tmp_path / "nothing").check("editing", of_world=True, scale=1)
