"""Chains of pictures: edits that follow on each other, and scenes of one shape where asked for."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arm.data.images import GridWeight
from arm.errors import ConfigError, DataError
from arm.models.dit import DiTConfig
from arm.models.pretrained import load_siglip
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.world import chains
from arm.world.chains import sample_chain
from arm.world.sampling import held_out_scene
from conftest import TinyChain
from tiny_stages import stages


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


def test_pictures_without_room_for_a_thing_are_told():
    with pytest.raises(
        ConfigError, match=r"no scene and 2 edits .* pictures of 8x8 units; give larger"
    ):
        sample_chain(np.random.default_rng(0), 8, 8, 2, 4)


def test_codes_of_more_than_16_bits_are_refused(chain: TinyChain, tmp_path: Path):
    run = stages(chain.root)["encode"]
    small = TokenizerConfig(17, 8, 1, 1, pixel=DiTConfig(8, 1, 1))
    towers = load_siglip(run.pretrained.siglip)
    VisualTokenizer(small, towers.vision_model).save(tmp_path / "tokenizer")
    run = replace(run, out=tmp_path / "codes", tokenizer=tmp_path / "tokenizer")
    with pytest.raises(DataError, match="this tokenizer has more than 65,536"):
        chains.main(run)


def test_shards_of_another_tokenizer_grid_or_seed_are_refused(chain: TinyChain, tmp_path: Path):
    run = replace(stages(chain.root)["encode"], out=tmp_path / "codes", chains_per_shard=2)
    chains.main(run)
    before = (run.out / "shard_00000.safetensors").read_bytes()
    chains.main(replace(run, num_shards=2))  # more of the same are no other ones
    other = shutil.copytree(run.tokenizer, tmp_path / "tokenizer")
    data = bytearray((other / "tokenizer.safetensors").read_bytes())
    data[-1] ^= 1
    (other / "tokenizer.safetensors").write_bytes(data)
    for change, key in (
        ({"seed": 99}, "seed 10, not 99"),
        ({"grids": (GridWeight(6, 6),)}, "grids .*"),
        ({"tokenizer": other}, "tokenizer .*"),
    ):
        with pytest.raises(ConfigError, match=f"made with {key}; delete the shards in .*codes, or"):
            chains.main(replace(run, **change))
    assert (run.out / "shard_00000.safetensors").read_bytes() == before
    (run.out / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"holds shards but no manifest\.json; delete"):
        chains.main(run)
