"""Fields that no run could have are refused with one line before anything is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest

from arm.config import load_run
from arm.errors import ConfigError
from arm.train import chain


@pytest.mark.parametrize(
    ("run", "override", "fault"),
    [
        ("grpo:micro_t2i", "objective.mini_batches=0", "mini_batches and update must be"),
        ("grpo:micro_t2i", "objective.update=0", "mini_batches and update must be"),
        ("grpo:micro_t2i", "anchors.null_share=2", "null_share must be from 0 to 1"),
        ("tokenizer:micro", "grids=[[0,7]]", "at least one row and one column"),
        ("tokenizer:micro", "grids=[]", "one of grids must have a weight"),
        ("tokenizer:micro", "batch=0", "batch must be at least 1"),
        (
            "tokenizer:micro",
            "model.num_heads=5",
            "width 128 is no multiple of four times num_heads 5",
        ),
        ("detokenizer:micro_flux", "grids=[[7,7,0]]", "one of grids must have a weight"),
        ("detokenizer:micro_flux", "batch=0", "batch, scale and num_steps must be at least 1"),
        ("detokenizer:micro_flux", "scale=0", "batch, scale and num_steps must be at least 1"),
        ("detokenizer:micro_flux", "num_steps=0", "batch, scale and num_steps must be at least 1"),
        ("detokenizer:micro_flux", "drop_condition=1.5", "drop_condition must be from 0 to 1"),
        ("detokenizer:micro_flux", "timestep_power=0", "timestep_power must be above 0"),
        ("detokenizer:micro_flux", "guidance_scale=NaN", "guidance_scale must be a number"),
        ("detokenizer:micro_flux", "eval_every=-1", "eval_every must not be negative"),
        ("detokenizer:sana", "eval_pictures=0", "with it eval_pictures must be above 0"),
        ("tokenizer:micro", "eval_steps=0", "scale, eval_steps and eval_pictures must be at least"),
        ("tokenizer:micro", "weights.pix=-1", "the weights of losses must be numbers from 0 up"),
        ("tokenizer:micro", "grids=[[7,7,1e999]]", "a weight from 0 up"),
        ("grpo:micro_t2i", "loop.seed=99999999999", "seed must be from 0 to 4294967295"),
        ("tokenizer:micro", "singles=2", "singles must be a share from 0 to 1"),
        ("tokenizer:micro", "timesteps.highest=2", "highest above 0 and at most 1"),
        ("encode:micro", "num_shards=0", "num_shards, chains_per_shard, batch and scale must be"),
        ("encode:micro", "chains_per_shard=0", "batch and scale must be at least 1"),
        ("encode:micro", "batch=0", "batch and scale must be at least 1"),
        ("encode:micro", "scale=0", "batch and scale must be at least 1"),
        ("encode:micro", "edits=-1", "edits and seed must not be negative"),
        ("encode:micro", "seed=-1", "edits and seed must not be negative"),
        ("encode:micro", "repeats=1.1", "repeats must be from 0 to 1"),
        ("encode:micro", "max_things=0", "max_things must be from 1 to 4"),
        ("encode:micro", "max_things=5", "max_things must be from 1 to 4"),
        ("encode:micro_repeats", "max_things=1", "max_things must be from 2 to 4 beside repeats"),
        ("encode:micro", "grids=[[7,7,0]]", "one of grids must have a weight"),
        ("standins:micro", "batch=0", "batch, vae_batch and scale must be at least 1"),
        ("standins:micro", "vae_batch=0", "batch, vae_batch and scale must be at least 1"),
        ("standins:micro", "scale=0", "batch, vae_batch and scale must be at least 1"),
        ("standins:micro", "scale=3", r"8 pixels, must be multiples of 12, since scale is 3 .* 4"),
        ("standins:micro", "grids=[]", "one of grids must have a weight"),
        ("standins:micro", "eval_every=-1", "eval_every must not be negative"),
        ("standins:micro", "singles=-0.1", "singles must be from 0 to 1"),
        ("standins:micro", "dense_weight=-1", "weights of losses must be numbers from 0 up"),
        ("standins:micro", "towers.text_length=0", "sizes of towers must be at least 1"),
        (
            "standins:micro",
            "towers.num_heads=3",
            "width 128 is no multiple of 4 and of num_heads 3",
        ),
        ("standins:micro", "towers.image_size=7", "image_size 7 holds no patch of 8 pixels"),
        ("standins:micro", "caption_lm.mlp=0", "sizes of caption_lm must be at least 1"),
        ("standins:micro", "caption_lm.num_heads=3", "128 is no multiple of twice num_heads 3"),
        ("standins:micro", "vae.channels=[16,20]", "channels must be one or more multiples of 8"),
        ("standins:micro", "vae.layers=0", "latent_channels and layers must be at least 1"),
    ],
)
def test_fields_that_no_run_could_have(run: str, override: str, fault: str):
    with pytest.raises(ConfigError, match=fault):
        load_run(run, [override])


@pytest.mark.parametrize("run", ["tokenizer:micro", "export:micro", "encode:micro", "lm:micro_pt"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, run: str):
    (tmp_path / "file").write_text("")
    config = replace(load_run(run), out=tmp_path / "file/model")
    with pytest.raises(ConfigError, match="file is a file; choose another `out`"):
        chain.start(config)
