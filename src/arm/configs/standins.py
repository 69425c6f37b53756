"""Runs that train the stand-ins for SigLIP2, the captioning LM and the VAE."""

from dataclasses import replace
from pathlib import Path

from arm.data.images import GridWeight
from arm.train.optim import Optim
from arm.train.standins import VAE, CaptionLM, StandinsRun, Towers
from arm.train.training import Loop

MICRO_GRIDS = (
    GridWeight(7, 7, 0.55),
    GridWeight(6, 8, 0.17),
    GridWeight(8, 6, 0.17),
    GridWeight(6, 6, 0.11),
)


def micro() -> StandinsRun:
    """48-64 px, patch 8, width 128. `arm train standins:micro`; one CPU core, about 25 minutes."""
    return StandinsRun(
        out=Path("runs/micro/standins"),
        towers=Towers(
            width=128, num_layers=4, num_heads=4, mlp=384, patch=8, image_size=56, text_layers=2
        ),
        caption_lm=CaptionLM(width=128, num_layers=2, num_heads=4, mlp=320),
        vae=VAE(channels=(16, 32, 32), latent_channels=8),
        grids=MICRO_GRIDS,
        scale=1,
        batch=64,
        vae_batch=16,
        towers_loop=Loop(steps=2400, log_every=50, bf16=True),
        vae_loop=Loop(steps=1600, seed=2, log_every=50),
        optim=Optim(lr=2e-3, muon=True),
        vae_optim=Optim(lr=2e-3),
        eval_every=300,
    )


TINY_GRIDS = (
    GridWeight(8, 8, 0.6),
    GridWeight(7, 9, 0.2),
    GridWeight(9, 7, 0.2),
)


def tiny() -> StandinsRun:
    """128 px, patch 16, width 192. `arm train standins:tiny`; one 80 GB GPU and 12 CPU cores.

    Rehearsed for a few steps on a CPU, not trained yet; minutes on the GPU by the design's budget.
    """
    loop = Loop(steps=2400, log_every=50, bf16=True, workers=12)
    return StandinsRun(
        out=Path("runs/tiny/standins"),
        towers=Towers(
            width=192, num_layers=4, num_heads=6, mlp=576, patch=16, image_size=128, text_layers=2
        ),
        caption_lm=CaptionLM(width=192, num_layers=2, num_heads=6, mlp=512),
        vae=VAE(channels=(16, 32, 64, 64), latent_channels=8),
        grids=TINY_GRIDS,
        scale=2,
        batch=128,
        vae_batch=64,
        towers_loop=loop,
        vae_loop=replace(loop, seed=2),
        optim=Optim(lr=2e-3, muon=True),
        vae_optim=Optim(lr=2e-3),
        eval_every=600,
    )
