"""Runs that train the visual tokenizer."""

from dataclasses import replace
from pathlib import Path

from arm.configs.standins import MICRO_GRIDS, TINY_GRIDS
from arm.models.dit import DiTConfig
from arm.models.tokenizer import TokenizerConfig
from arm.train.runtime import Loop, Optim
from arm.train.tokenizer import LossWeights, Timesteps, TokenizerRun


def micro() -> TokenizerRun:
    """4,096 codes of 8-px patches. `arm train tokenizer:micro`; one CPU core, about 20 minutes."""
    return TokenizerRun(
        out=Path("runs/micro/tokenizer"),
        standins=Path("runs/micro/standins"),
        model=TokenizerConfig(
            code_bits=12,
            width=128,
            num_blocks=2,
            num_heads=4,
            pixel=DiTConfig(width=192, num_blocks=3, num_heads=6, mlp_ratio=3.0),
            mlp_ratio=3.0,
        ),
        weights=LossWeights(cap=1.0, pix=40.0, sig=1.0, feat=1.0, local=2.0),
        timesteps=Timesteps(power=2.0, highest=0.9, velocity_weighting=False),
        grids=MICRO_GRIDS,
        scale=1,
        batch=32,
        loop=Loop(steps=2000, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=2e-3, muon=True),
        eval_every=500,
    )


def micro_decoder() -> TokenizerRun:
    """The codes stay, de-projector and pixel DiT train on. One core, about 15 minutes."""
    return replace(
        micro(),
        out=Path("runs/micro/tokenizer_decoder"),
        init_from=Path("runs/micro/tokenizer"),
        keep_codes=True,
        weights=LossWeights(cap=0.0, pix=40.0, sig=1.0, feat=1.0),
        timesteps=Timesteps(power=3.0, highest=0.6, velocity_weighting=False),
        singles=0.1,
        loop=Loop(steps=2400, seed=5, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=1.5e-3, muon=True),
    )


def micro_pixel() -> TokenizerRun:
    """The pixel DiT alone, close to the noise, where its one sampling step starts. 12 minutes."""
    return replace(
        micro(),
        out=Path("runs/micro/tokenizer_pixel"),
        init_from=Path("runs/micro/tokenizer_decoder"),
        keep_features=True,
        weights=LossWeights(cap=0.0, pix=40.0, sig=0.0, feat=0.0),
        timesteps=Timesteps(power=3.0, highest=0.5, velocity_weighting=False),
        singles=0.1,
        loop=Loop(steps=2400, seed=6, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=1.5e-3, muon=True),
        eval_every=400,
    )


def tiny() -> TokenizerRun:
    """4,096 codes of 16-px patches. `arm train tokenizer:tiny`; one 80 GB GPU and 12 CPU cores.

    Rehearsed for a few steps on a CPU, not trained yet.
    """
    return replace(
        micro(),
        out=Path("runs/tiny/tokenizer"),
        standins=Path("runs/tiny/standins"),
        model=TokenizerConfig(
            code_bits=12,
            width=192,
            num_blocks=2,
            num_heads=6,
            pixel=DiTConfig(width=240, num_blocks=3, num_heads=6, mlp_ratio=3.0),
            mlp_ratio=3.0,
        ),
        grids=TINY_GRIDS,
        scale=2,
        batch=128,
        loop=Loop(steps=5000, log_every=50, save_every=500, bf16=True, workers=12),
        eval_every=1000,
    )
