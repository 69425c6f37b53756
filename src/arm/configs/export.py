"""Runs that gather a trained model into one directory."""

from dataclasses import replace
from pathlib import Path

from arm.configs.tokenizer import PAPER, PAPER_GRIDS
from arm.generate import Guidance
from arm.model_directory import Defaults, find_model
from arm.models.pretrained import Pretrained
from arm.sampling import Sampling
from arm.train.export import ExportRun


def micro_sft() -> ExportRun:
    """The shipped `micro-sft`: the supervised model, and the parts that `micro` shares. Seconds."""
    root = Path("runs/micro")
    return ExportRun(
        out=Path("src/arm/weights/micro-sft"),
        pretrained=Pretrained.under(root / "standins"),
        tokenizer=root / "tokenizer_pixel",
        backbone=root / "lm_sft/model",
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=Defaults(
            scale=1,
            grids=((7, 7), (6, 8), (8, 6)),
            sampling=Sampling(temperature=0.3),
            edit_sampling=Sampling(temperature=0.0),
            guidance=Guidance(text=2.25, image=1.0),
            edit_guidance=Guidance(text=1.5, image=1.0),
            detokenizer="pixel",
        ),
    )


def micro() -> ExportRun:
    """The shipped `micro`: the average that `synergy:micro_shipped` made of its policies. Seconds."""
    supervised = micro_sft()
    return replace(
        supervised,
        out=Path("src/arm/weights/micro"),
        backbone=Path("runs/micro/synergy/seed0/averaged/backbone"),
        defaults=replace(supervised.defaults, parts="micro-sft"),
    )


def micro_finetune() -> ExportRun:
    """A model around the tokenizer of `tokenizer:micro_finetune`, in runs/finetune/model. Seconds."""
    shipped = find_model("micro-sft")
    return ExportRun(
        out=Path("runs/finetune/model"),
        pretrained=Pretrained(siglip=str(shipped / "siglip"), caption_lm="", vae=""),
        tokenizer=Path("runs/finetune/tokenizer"),
        backbone=find_model("micro") / "backbone",
        detokenizers=(),
        defaults=replace(micro_sft().defaults, detokenizer="pixel"),
    )


def tiny() -> ExportRun:
    """The model `tiny`, from runs/tiny, into runs/tiny/model; `micro`'s default sampling. Seconds."""
    root = Path("runs/tiny")
    return ExportRun(
        out=root / "model",
        pretrained=Pretrained.under(root / "standins"),
        tokenizer=root / "tokenizer",
        backbone=root / "lm_sft/model",
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=replace(micro_sft().defaults, scale=2, grids=((8, 8), (7, 9), (9, 7))),
    )


def arm7b() -> ExportRun:
    """The paper's model, from runs/arm and runs/arm7b, with both decoders. Minutes, and 64 GB of memory.

    The paper's: guidance 1.5 for drawing, 1.5 by text and 1.25 by the picture for editing. Ours: plain
    sampling at temperature 1.
    """
    root = Path("runs/arm")
    return ExportRun(
        out=Path("runs/arm7b/model"),
        pretrained=PAPER,
        tokenizer=root / "tokenizer",
        backbone=Path("runs/arm7b/sft/model"),
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=Defaults(
            scale=8,
            grids=tuple((grid.height, grid.width) for grid in PAPER_GRIDS),
            sampling=Sampling(temperature=1.0),
            edit_sampling=Sampling(temperature=1.0),
            guidance=Guidance(text=1.5, image=1.0),
            edit_guidance=Guidance(text=1.5, image=1.25),
            detokenizer="flux",
        ),
        text_tokenizer="Qwen/Qwen2.5-7B",
    )
