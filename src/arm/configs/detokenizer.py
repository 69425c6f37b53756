"""Runs that train the latent detokenizers."""

from dataclasses import replace
from pathlib import Path

from arm.configs.standins import MICRO_GRIDS, TINY_GRIDS
from arm.train.detokenizer import DetokenizerRun, Flux, Sana
from arm.train.runtime import Loop, Optim


def micro_flux() -> DetokenizerRun:
    """A Flux-type painter of 1 M parameters on the stand-in VAE's latents. One core, about 10 minutes."""
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
        timestep_power=2.0,
        loop=Loop(steps=2000, seed=30, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, muon=True),
    )


def micro_sana() -> DetokenizerRun:
    """A Sana-type painter on the same latents. One core, about 10 minutes."""
    return replace(
        micro_flux(),
        out=Path("runs/micro/sana"),
        painter=Sana(num_layers=4, num_heads=4, head_dim=32, condition_dim=128, sample_size=14),
        loop=Loop(steps=2000, seed=31, log_every=50, bf16=True),
    )


def tiny_flux() -> DetokenizerRun:
    """The Flux-type painter of `tiny`. One GPU; rehearsed for a few steps on a CPU, not trained yet."""
    return replace(
        micro_flux(),
        out=Path("runs/tiny/flux"),
        standins=Path("runs/tiny/standins"),
        tokenizer=Path("runs/tiny/tokenizer"),
        grids=TINY_GRIDS,
        scale=2,
        batch=128,
        loop=Loop(steps=3000, seed=30, log_every=50, bf16=True, workers=12),
    )


def tiny_sana() -> DetokenizerRun:
    """The Sana-type painter of `tiny`. One GPU; rehearsed for a few steps on a CPU, not trained yet."""
    return replace(
        tiny_flux(),
        out=Path("runs/tiny/sana"),
        painter=Sana(num_layers=4, num_heads=4, head_dim=32, condition_dim=128, sample_size=16),
        loop=Loop(steps=3000, seed=31, log_every=50, bf16=True, workers=12),
    )
