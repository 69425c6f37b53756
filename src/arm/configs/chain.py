"""Whole models by one command."""

from pathlib import Path

from arm.train.chain import Stages


def micro() -> Stages:
    """Everything that ships as `micro`, from nothing. Two CPU cores, about 3 hours; resumable."""
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
            "lm:micro_pt",
            "lm:micro_ct",
            "lm:micro_sft",
            "lm:micro_sft_again",
            "export:micro",
        ),
    )
