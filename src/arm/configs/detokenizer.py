"""Runs that train the latent detokenizers."""

from dataclasses import replace
from pathlib import Path

from arm.configs.standins import MICRO_GRIDS, TINY_GRIDS
from arm.configs.tokenizer import PAPER, PAPER_GRIDS
from arm.models.pretrained import Pretrained
from arm.train.detokenizer import DetokenizerRun, Flux, PretrainedPainter, Sana
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.training import Loop


def micro_flux() -> DetokenizerRun:
    """A Flux-type painter of 1 M parameters on the stand-in VAE's latents. One core, about 10 minutes."""
    return DetokenizerRun(
        out=Path("runs/micro/flux"),
        pretrained=Pretrained.under(Path("runs/micro/standins")),
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
        pretrained=Pretrained.under(Path("runs/tiny/standins")),
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


def flux() -> DetokenizerRun:
    """The paper's decoder: FLUX.1-dev with z_q in the place of its text, on your pictures.

    `torchrun --nproc-per-node 8 -m arm train detokenizer:flux 'data=["DIRECTORY"]'` after `tokenizer:arm`;
    8 GPUs of 80 GB (12 billion fp32 weights and AdamW's two moments, 24 GB on each). Estimated, not run:
    120 TFLOP a picture (counted), so the 1.3 million pictures take some 110 H100-hours at 40 % of the bf16
    peak, 13 hours. The paper prints no score of the decoder alone; the pictures that it painted for the
    supervised model have GenEval .79 and DPG 84.48.

    The paper's: the starting point, the rectified-flow loss at uniform timesteps, 28 steps, guidance 1.5.
    Ours: the rate, the length, the share of conditions left out, five shapes of about 512 px.
    """
    return DetokenizerRun(
        out=Path("runs/arm/flux"),
        pretrained=PAPER,
        tokenizer=Path("runs/arm/tokenizer"),
        painter=PretrainedPainter("black-forest-labs/FLUX.1-dev:transformer"),
        grids=PAPER_GRIDS,
        scale=8,
        batch=8,
        drop_condition=0.1,
        num_steps=28,
        guidance_scale=1.5,
        timestep_power=1.0,
        loop=Loop(
            steps=20_000, seed=30, log_every=20, save_every=500, workers=8,
            parallel=Parallel(shard=True, bf16=True),
        ),
        optim=Optim(lr=2e-5, warmup=1000),
        data=("data/pictures",),
    )  # fmt: skip


def sana() -> DetokenizerRun:
    """The paper's second decoder: SANA-1.5 1.6B on the latents of DC-AE, on your pictures.

    `arm train detokenizer:sana 'data=["DIRECTORY"]'` after `tokenizer:arm`; one GPU of 80 GB (26 GB of
    weights, gradients and moments). Estimated, not run: 7 TFLOP a picture (counted), a day of an H100 for
    the 3.2 million pictures. The paper shows its pictures beside FLUX's and prints no score.

    The paper's: the starting point, 28 steps, guidance 1.5. Ours: as in `detokenizer:flux`.
    """
    source = "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers"
    return replace(
        flux(),
        out=Path("runs/arm/sana"),
        pretrained=replace(PAPER, vae=f"{source}:vae"),
        painter=PretrainedPainter(f"{source}:transformer"),
        batch=64,
        loop=Loop(steps=50_000, seed=31, log_every=20, save_every=500, bf16=True, workers=12),
        optim=Optim(lr=5e-5, warmup=1000),
        eval_every=2000,
        eval_pictures=128,
    )
