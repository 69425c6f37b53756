"""Runs that turn pictures into code shards."""

from dataclasses import replace
from pathlib import Path

from arm.data.pictures import GridWeight
from arm.train.encode import EncodeRun


def micro() -> EncodeRun:
    """21,120 chains of three pictures on 7x7, 6x8 and 8x6 grids. One CPU core, about 5 minutes."""
    return EncodeRun(
        out=Path("runs/micro/codes"),
        standins=Path("runs/micro/standins"),
        tokenizer=Path("runs/micro/tokenizer"),
        grids=(GridWeight(7, 7, 0.7), GridWeight(6, 8, 0.15), GridWeight(8, 6, 0.15)),
        scale=1,
        num_shards=22,
    )


def micro_small() -> EncodeRun:
    """4,800 chains of pictures with at most two things on 6x6 grids, for pre-training."""
    return replace(
        micro(),
        out=Path("runs/micro/codes_small"),
        grids=(GridWeight(6, 6),),
        num_shards=5,
        max_things=2,
        seed=11,
    )
