"""Runs that train the autoregressive model, one a stage."""

from dataclasses import replace
from pathlib import Path

from arm.data.mixture import Dropout, Ratios
from arm.sequence import Weights
from arm.train.lm import Backbone, LMRun
from arm.train.runtime import Loop, Optim


def micro_pt() -> LMRun:
    """Pre-training on small grids (6x6, up to 2 things). One CPU core, about 6 minutes.

    The paper's ratios lean on drawing (.70); here understanding and editing get more, since the
    model is small enough to be short of gradient for each.
    """
    return LMRun(
        out=Path("runs/micro/lm_pt"),
        text_tokenizer=Path("runs/micro/standins/siglip"),
        shards=(Path("runs/micro/codes_small"),),
        init_from=None,
        backbone=Backbone(
            hidden_size=192, intermediate_size=512, num_layers=6, num_heads=6, num_kv_heads=6
        ),
        code_bits=12,
        max_side=12,
        grid_positions=True,
        image_stride=1,
        samples=32,
        row_length=208,
        weights=Weights(text=4.0, code=1.0, source_code=0.5),
        ratios=Ratios(
            text=0.06, image_to_text=0.28, text_to_image=0.34, editing=0.27, interleaved=0.05
        ),
        dropout=Dropout(text=0.05, image=0.0, both=0.05),
        loop=Loop(steps=500, seed=20, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.8, muon=True),
    )


def micro_ct() -> LMRun:
    """Continued training on larger grids (7x7, 6x8, 8x6, up to 4 things). About 35 minutes."""
    return replace(
        micro_pt(),
        out=Path("runs/micro/lm_ct"),
        shards=(Path("runs/micro/codes"),),
        init_from=Path("runs/micro/lm_pt/model"),
        image_stride=128,
        weights=Weights(text=4.0, code=1.0, source_code=0.2),
        ratios=Ratios(
            text=0.05,
            image_to_text=0.24,
            text_to_image=0.29,
            editing=0.27,
            interleaved=0.05,
            copying=0.10,
        ),
        loop=Loop(steps=2100, seed=21, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.5, muon=True),
    )


def micro_sft() -> LMRun:
    """Supervised fine-tuning, most of the training; the rate falls to zero. With
    `torchrun --nproc-per-node 2 -m arm train lm:micro_sft` on two cores about 70 minutes.
    """
    return replace(
        micro_ct(),
        out=Path("runs/micro/lm_sft"),
        shards=(Path("runs/micro/codes"), Path("runs/micro/codes_repeats")),
        init_from=Path("runs/micro/lm_ct/model"),
        samples=64,
        weights=Weights(text=4.0, code=1.0),
        ratios=Ratios(
            text=0.04,
            image_to_text=0.30,
            text_to_image=0.27,
            editing=0.33,
            interleaved=0.04,
            copying=0.02,
        ),
        loop=Loop(steps=3800, seed=22, log_every=50, save_every=100, bf16=True, compile=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.01, muon=True),
        min_count=30,
    )


def tiny_pt() -> LMRun:
    """Pre-training of `tiny` (8 M parameters), up to 2 things. One 80 GB GPU; not trained yet."""
    return replace(
        micro_pt(),
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


def tiny_ct() -> LMRun:
    """Continued training on up to 4 things. One 80 GB GPU; not trained yet."""
    return replace(
        tiny_pt(),
        out=Path("runs/tiny/lm_ct"),
        shards=(Path("runs/tiny/codes"),),
        init_from=Path("runs/tiny/lm_pt/model"),
        loop=Loop(steps=4000, seed=21, log_every=50, bf16=True, workers=12),
        optim=micro_ct().optim,
    )


def tiny_sft() -> LMRun:
    """Supervised fine-tuning of `tiny`. One 80 GB GPU; not trained yet."""
    return replace(
        tiny_ct(),
        out=Path("runs/tiny/lm_sft"),
        init_from=Path("runs/tiny/lm_ct/model"),
        weights=micro_sft().weights,
        ratios=micro_sft().ratios,
        loop=Loop(steps=2500, seed=22, log_every=50, bf16=True, workers=12),
        optim=micro_sft().optim,
    )
