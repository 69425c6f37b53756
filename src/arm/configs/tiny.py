"""`tiny`: every stage of a model for one data-centre GPU, in the order in which `chain:tiny` runs them."""

from dataclasses import replace
from pathlib import Path

from arm.configs import micro
from arm.data.images import GridWeight
from arm.models.dit import DiTConfig
from arm.models.pretrained import Pretrained
from arm.models.tokenizer import TokenizerConfig
from arm.train.chain import Stages
from arm.train.detokenizer import DetokenizerRun, Sana
from arm.train.export import ExportRun
from arm.train.lm import Backbone, LMRun
from arm.train.optim import Optim
from arm.train.standins import VAE, CaptionLM, StandinsRun, Towers
from arm.train.tokenizer import TokenizerRun
from arm.train.training import Loop
from arm.world.chains import EncodeRun
from arm.world.domain import World

GRIDS = (
    GridWeight(8, 8, 0.6),
    GridWeight(7, 9, 0.2),
    GridWeight(9, 7, 0.2),
)


def standins() -> StandinsRun:
    """128 px, patch 16, width 192. `arm train standins:tiny`; one 80 GB GPU and 12 CPU cores.

    Rehearsed for a few steps on a CPU, not trained yet; minutes on the GPU by the design's budget.
    """
    loop = Loop(steps=2400, log_every=50, bf16=True, workers=12)
    return StandinsRun(
        out=Path("runs/tiny/standins"),
        domain=World(),
        towers=Towers(
            width=192, num_layers=4, num_heads=6, mlp=576, patch=16, image_size=128, text_layers=2
        ),
        caption_lm=CaptionLM(width=192, num_layers=2, num_heads=6, mlp=512),
        vae=VAE(channels=(16, 32, 64, 64), latent_channels=8),
        grids=GRIDS,
        scale=2,
        batch=128,
        vae_batch=64,
        towers_loop=loop,
        vae_loop=replace(loop, seed=2),
        optim=Optim(lr=2e-3, muon=True),
        vae_optim=Optim(lr=2e-3),
        eval_every=600,
    )


def tokenizer() -> TokenizerRun:
    """4,096 codes of 16-px patches. `arm train tokenizer:tiny`; one 80 GB GPU and 12 CPU cores.

    Rehearsed for a few steps on a CPU, not trained yet.
    """
    return replace(
        micro.tokenizer(),
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
        grids=GRIDS,
        scale=2,
        batch=128,
        loop=Loop(steps=5000, log_every=50, save_every=500, bf16=True, workers=12),
        eval_every=1000,
    )


def flux() -> DetokenizerRun:
    """The Flux-type painter of `tiny`. One GPU; rehearsed for a few steps on a CPU, not trained yet."""
    return replace(
        micro.flux(),
        out=Path("runs/tiny/flux"),
        pretrained=Pretrained.under(Path("runs/tiny/standins")),
        tokenizer=Path("runs/tiny/tokenizer"),
        grids=GRIDS,
        scale=2,
        batch=128,
        loop=Loop(steps=3000, seed=30, log_every=50, bf16=True, workers=12),
    )


def sana() -> DetokenizerRun:
    """The Sana-type painter of `tiny`. One GPU; rehearsed for a few steps on a CPU, not trained yet."""
    return replace(
        flux(),
        out=Path("runs/tiny/sana"),
        painter=Sana(num_layers=4, num_heads=4, head_dim=32, condition_dim=128, sample_size=16),
        loop=Loop(steps=3000, seed=31, log_every=50, bf16=True, workers=12),
    )


def encode_small() -> EncodeRun:
    """19,200 chains with at most two things, for pre-training."""
    return replace(
        encode(), out=Path("runs/tiny/codes_small"), num_shards=20, max_things=2, seed=11
    )


def encode() -> EncodeRun:
    """61,440 chains of three pictures on 8x8, 7x9 and 9x7 grids. One GPU; not run at length yet."""
    return EncodeRun(
        out=Path("runs/tiny/codes"),
        pretrained=Pretrained.under(Path("runs/tiny/standins")),
        tokenizer=Path("runs/tiny/tokenizer"),
        grids=GRIDS,
        scale=2,
        num_shards=64,
        batch=96,
    )


def lm_pt() -> LMRun:
    """Pre-training of `tiny` (8 M parameters), up to 2 things. One 80 GB GPU; not trained yet."""
    return replace(
        micro.lm_pt(),
        out=Path("runs/tiny/lm_pt"),
        text_tokenizer=Path("runs/tiny/standins/siglip"),
        shards=(Path("runs/tiny/codes_small"),),
        backbone=Backbone(
            hidden_size=288, intermediate_size=768, num_layers=7, num_heads=9, num_kv_heads=9
        ),
        samples=256,
        row_length=256,
        loop=Loop(steps=1000, seed=20, log_every=50, bf16=True, workers=12),
    )


def lm_ct() -> LMRun:
    """Continued training on up to 4 things. One 80 GB GPU; not trained yet."""
    return replace(
        lm_pt(),
        out=Path("runs/tiny/lm_ct"),
        shards=(Path("runs/tiny/codes"),),
        init_from=Path("runs/tiny/lm_pt/model"),
        loop=Loop(steps=4000, seed=21, log_every=50, bf16=True, workers=12),
        optim=micro.lm_ct().optim,
    )


def lm_sft() -> LMRun:
    """Supervised fine-tuning of `tiny`. One 80 GB GPU; not trained yet."""
    return replace(
        lm_ct(),
        out=Path("runs/tiny/lm_sft"),
        init_from=Path("runs/tiny/lm_ct/model"),
        weights=micro.lm_sft().weights,
        ratios=micro.lm_sft().ratios,
        loop=Loop(steps=2500, seed=22, log_every=50, bf16=True, workers=12),
        optim=micro.lm_sft().optim,
        min_count=micro.lm_sft().min_count,
    )


def export() -> ExportRun:
    """The model `tiny`, from runs/tiny, into runs/tiny/model; `micro`'s default sampling. Seconds."""
    root = Path("runs/tiny")
    return ExportRun(
        out=root / "model",
        pretrained=Pretrained.under(root / "standins"),
        tokenizer=root / "tokenizer",
        backbone=root / "lm_sft/model",
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=replace(micro.export_sft().defaults, scale=2, grids=((8, 8), (7, 9), (9, 7))),
    )


def chain() -> Stages:
    """Everything of `tiny`, from nothing. One 80 GB GPU and 12 CPU cores; not run at length yet."""
    return Stages(
        out=Path("runs/tiny/chain"),
        runs=(
            "standins:tiny",
            "tokenizer:tiny",
            "detokenizer:tiny_flux",
            "detokenizer:tiny_sana",
            "encode:tiny_small",
            "encode:tiny",
            "lm:tiny_pt",
            "lm:tiny_ct",
            "lm:tiny_sft",
            "export:tiny",
        ),
    )
