"""Whole models by one command."""

from pathlib import Path

from arm.train.chain import Stages


def micro() -> Stages:
    """Everything that ships as `micro`, from nothing. Two CPU cores with bf16 units under torchrun,
    about 5 hours; resumable.
    """
    return Stages(
        out=Path("runs/micro/chain"),
        runs=(
            "standins:micro",
            "tokenizer:micro",
            "tokenizer:micro_decoder",
            "tokenizer:micro_pixel",
            "detokenizer:micro_flux",
            "detokenizer:micro_sana",
            "encode:micro_small",
            "encode:micro",
            "encode:micro_repeats",
            "lm:micro_pt",
            "lm:micro_ct",
            "lm:micro_sft",
            "export:micro_sft",
            "synergy:micro_shipped",
            "export:micro",
        ),
    )


def tiny() -> Stages:
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
