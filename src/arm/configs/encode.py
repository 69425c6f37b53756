"""Runs that turn pictures into code shards."""

from dataclasses import replace
from pathlib import Path

from arm.configs.standins import TINY_GRIDS
from arm.data.images import GridWeight
from arm.models.pretrained import Pretrained
from arm.train.encode import EncodeRun


def micro() -> EncodeRun:
    """30,720 chains of three pictures on 7x7, 6x8 and 8x6 grids. One CPU core, about 5 minutes."""
    return EncodeRun(
        out=Path("runs/micro/codes"),
        pretrained=Pretrained.under(Path("runs/micro/standins")),
        tokenizer=Path("runs/micro/tokenizer"),
        grids=(GridWeight(7, 7, 0.7), GridWeight(6, 8, 0.15), GridWeight(8, 6, 0.15)),
        scale=1,
        num_shards=32,
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


def micro_repeats() -> EncodeRun:
    """46,080 chains more, of which three in ten begin with several things of one shape: counting and
    prompts like "three stars" need them, and by chance they are rare. One CPU core, about 8 minutes.
    """
    return replace(
        micro(), out=Path("runs/micro/codes_repeats"), num_shards=48, seed=12, repeats=0.3
    )


def tiny() -> EncodeRun:
    """61,440 chains of three pictures on 8x8, 7x9 and 9x7 grids. One GPU; not run at length yet."""
    return EncodeRun(
        out=Path("runs/tiny/codes"),
        pretrained=Pretrained.under(Path("runs/tiny/standins")),
        tokenizer=Path("runs/tiny/tokenizer"),
        grids=TINY_GRIDS,
        scale=2,
        num_shards=64,
        batch=96,
    )


def tiny_small() -> EncodeRun:
    """19,200 chains with at most two things, for pre-training."""
    return replace(tiny(), out=Path("runs/tiny/codes_small"), num_shards=20, max_things=2, seed=11)
