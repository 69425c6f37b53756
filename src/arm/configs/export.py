"""Runs that gather a trained model into one directory."""

from dataclasses import replace
from pathlib import Path

from arm.generate import Guidance, Sampling
from arm.pipeline import Defaults
from arm.train.export import ExportRun


def micro_sft() -> ExportRun:
    """The shipped `micro-sft`: the supervised model, and the parts that `micro` shares. Seconds."""
    root = Path("runs/micro")
    return ExportRun(
        out=Path("src/arm/weights/micro-sft"),
        standins=root / "standins",
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
    """The shipped `micro`: the backbone after reinforcement learning. Seconds."""
    supervised = micro_sft()
    return replace(
        supervised,
        out=Path("src/arm/weights/micro"),
        backbone=Path("runs/micro/synergy/seed0/t2i-edit-joint/backbone"),
        defaults=replace(supervised.defaults, parts="micro-sft"),
    )


def tiny() -> ExportRun:
    """The model `tiny`, from runs/tiny, into runs/tiny/model; `micro`'s default sampling. Seconds."""
    root = Path("runs/tiny")
    return ExportRun(
        out=root / "model",
        standins=root / "standins",
        tokenizer=root / "tokenizer",
        backbone=root / "lm_sft/model",
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=replace(micro_sft().defaults, scale=2, grids=((8, 8), (7, 9), (9, 7))),
    )
