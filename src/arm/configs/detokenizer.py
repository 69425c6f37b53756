"""Runs that train the latent detokenizers."""

from dataclasses import replace
from pathlib import Path

from arm.configs.standins import MICRO_GRIDS
from arm.train.detokenizer import DetokenizerRun, Flux, Sana
from arm.train.runtime import Loop, Optim


def micro_flux() -> DetokenizerRun:
    """A Flux-type painter of 1 M parameters on the stand-in VAE's latents. One core, about 8 minutes."""
    return DetokenizerRun(
        out=Path("runs/micro/flux"),
        standins=Path("runs/micro/standins"),
        tokenizer=Path("runs/micro/tokenizer_decoder"),
        painter=Flux(
            num_layers=2, num_single_layers=2, num_heads=4, axes=(4, 14, 14), condition_dim=128
        ),
        grids=MICRO_GRIDS,
        scale=1,
        batch=32,
        drop_condition=0.1,
        num_steps=12,
        guidance_scale=1.5,
        loop=Loop(steps=450, seed=30, log_every=50),
        optim=Optim(lr=2e-3, muon=True),
    )


def micro_sana() -> DetokenizerRun:
    """A Sana-type painter on the same latents. One core, about 8 minutes."""
    return replace(
        micro_flux(),
        out=Path("runs/micro/sana"),
        painter=Sana(num_layers=4, num_heads=4, head_dim=32, condition_dim=128, sample_size=14),
        loop=Loop(steps=450, seed=31, log_every=50),
    )
