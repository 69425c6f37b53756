"""Runs that train the visual tokenizer."""

from dataclasses import replace
from pathlib import Path

from arm.configs.standins import MICRO_GRIDS, TINY_GRIDS
from arm.data.images import GridWeight
from arm.model_directory import find_model
from arm.models.dit import DiTConfig
from arm.models.pretrained import Pretrained
from arm.models.tokenizer import TokenizerConfig
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.tokenizer import LossWeights, Timesteps, TokenizerRun
from arm.train.training import Loop


def micro() -> TokenizerRun:
    """4,096 codes of 8-px patches. `arm train tokenizer:micro`; one CPU core, about 20 minutes."""
    return TokenizerRun(
        out=Path("runs/micro/tokenizer"),
        pretrained=Pretrained.under(Path("runs/micro/standins")),
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


def micro_finetune() -> TokenizerRun:
    """The shipped tokenizer on a user's own pictures: `arm train tokenizer:micro_finetune
    'data=["FOLDER"]'`. One CPU core, about ten minutes. `arm train export:micro_finetune` makes a model
    of it, whose codes its backbone has yet to learn.
    """
    shipped = find_model("micro-sft")
    return replace(
        micro(),
        out=Path("runs/finetune/tokenizer"),
        data=("docs/data",),
        init_from=shipped,
        pretrained=Pretrained(siglip=str(shipped / "siglip"), caption_lm="", vae=""),
        weights=LossWeights(cap=0.0, pix=40.0, sig=1.0, feat=1.0),
        loop=Loop(steps=1000, seed=7, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=1e-3, muon=True),
        eval_every=250,
    )


def tiny() -> TokenizerRun:
    """4,096 codes of 16-px patches. `arm train tokenizer:tiny`; one 80 GB GPU and 12 CPU cores.

    Rehearsed for a few steps on a CPU, not trained yet.
    """
    return replace(
        micro(),
        out=Path("runs/tiny/tokenizer"),
        pretrained=Pretrained.under(Path("runs/tiny/standins")),
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


PAPER = Pretrained(
    siglip="google/siglip2-so400m-patch16-512",
    caption_lm="Qwen/Qwen2.5-0.5B",
    vae="black-forest-labs/FLUX.1-dev:vae",
)
"""Hub ids, fetched when a run starts; a local copy of each serves as well (`pretrained.siglip=DIRECTORY`)."""

PAPER_GRIDS = (
    GridWeight(32, 32),
    GridWeight(28, 36),
    GridWeight(36, 28),
    GridWeight(24, 42),
    GridWeight(42, 24),
)
"""About 1,024 tokens of 16 pixels in five shapes, all sides even, since SANA's latents are 32 pixels wide."""


def arm() -> TokenizerRun:
    """The paper's tokenizer: 65,536 codes of 16-px patches at 512 px, on your captioned pictures.

    `torchrun --nnodes 32 --nproc-per-node 8 ... -m arm train tokenizer:arm 'data=["DIRECTORY"]'`; 256 GPUs
    of 80 GB. Estimated, not run: 9 TFLOP a picture (counted), so 2.2 billion pictures take some 14,000
    H100-hours at 40 % of the bf16 peak, two days and a half. The paper reports 80.2 % zero-shot on ImageNet,
    PSNR 19.6 dB, 75.6 % of the codes used.

    The paper's: the parts, 16 bits, 6 blocks each way, a DiT of 24, the four losses and their weights,
    uniform timesteps, AdamW at 3e-4, 32,768 pictures a step (128 a process), 2.2 billion in all. Ours: the
    widths, the warm-up, cosine decay to .02 of the rate, gradients clipped at 1.0, a DiT that predicts x1 and
    whose error weighs 400 at most, pictures in five shapes. `pretrained.siglip=google/siglip2-so400m-patch16-naflex`
    reads all shapes natively.
    """
    return TokenizerRun(
        out=Path("runs/arm/tokenizer"),
        pretrained=PAPER,
        model=TokenizerConfig(
            code_bits=16,
            width=1152,
            num_blocks=6,
            num_heads=16,
            pixel=DiTConfig(width=1152, num_blocks=24, num_heads=16),
        ),
        weights=LossWeights(),
        timesteps=Timesteps(),
        grids=PAPER_GRIDS,
        scale=8,
        batch=128,
        loop=Loop(
            steps=67_000, log_every=50, save_every=500, bf16=True, workers=12,
            parallel=Parallel(recompute="all"),
        ),
        optim=Optim(lr=3e-4, betas=(0.9, 0.95), warmup=2000),
        eval_every=2000,
        eval_pictures=512,
        data=("data/pictures",),
        eval_steps=20,
    )  # fmt: skip


def arm_1gpu() -> TokenizerRun:
    """`tokenizer:arm` at 64 pictures a step, for one GPU of 80 GB. `arm train tokenizer:arm_1gpu 'data=[...]'`.

    Estimated, not run: about 1.5 s a step on an H100 at 40 % of its bf16 peak, a day for the 50,000 steps.
    These are 3.2 million pictures; the paper's scores are of 2.2 billion, and it gives none for fewer.
    Ours: the rate of 1e-4, lower since the batch is 512 times smaller, and the length.
    """
    paper = arm()
    return replace(
        paper,
        out=Path("runs/arm_1gpu/tokenizer"),
        batch=64,
        loop=replace(paper.loop, steps=50_000),
        optim=Optim(lr=1e-4, betas=(0.9, 0.95), warmup=1000),
    )
