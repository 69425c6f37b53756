"""The paper's data: code shards at the picture sizes of its stages, from the tokenizer of `tokenizer:arm` alone.

Each run encodes one kind of data: `arm train encode:arm_pt data=data/raw/web out=data/arm/web`. Shards that are
there are kept, so a run can be stopped, and several machines can share its `out`.
"""

from dataclasses import replace
from pathlib import Path

from arm.configs.paper import PRETRAINED
from arm.train.encode_data import EncodeDataRun

PATCH = 16
RATIOS = (1, 4 / 3, 3 / 4, 16 / 9, 9 / 16)
"""Width / height."""
LONGEST_SIDE = 64


def grids_between(smallest: int, largest: int) -> tuple[tuple[int, int], ...]:
    """Token grids, as (height, width), of pictures of `smallest` to `largest` px: four areas in five shapes.

    The area of a grid is that of a square of the named size; no side has more than LONGEST_SIDE tokens.
    """
    grids: list[tuple[int, int]] = []
    for step in range(4):
        side = (smallest + (largest - smallest) * step / 3) / PATCH
        for ratio in RATIOS:
            grid = round(side / ratio**0.5), round(side * ratio**0.5)
            if max(grid) <= LONGEST_SIDE and grid not in grids:
                grids.append(grid)
    return tuple(grids)


def encode_pt() -> EncodeDataRun:
    """Pictures of text, captions and drawings for pre-training: 256-512 px, the paper's. Not run by us."""
    return EncodeDataRun(
        data=Path("data/raw/text_to_image"),
        out=Path("data/arm/text_to_image"),
        tokenizer=Path("runs/arm/tokenizer"),
        siglip=PRETRAINED.siglip,
        grids=grids_between(256, 512),
        workers=8,
    )


def encode_pt_edits() -> EncodeDataRun:
    """Edits and interleaved data for pre-training: 256-980 px, the paper's. Not run by us."""
    return replace(
        encode_pt(),
        data=Path("data/raw/web"),
        out=Path("data/arm/web"),
        grids=grids_between(256, 980),
    )


def encode_ct() -> EncodeDataRun:
    """All kinds for continued training and fine-tuning: 512-1024 px, the paper's (edits to 980). Not run by us."""
    return replace(
        encode_pt(), out=Path("data/arm_large/text_to_image"), grids=grids_between(512, 1024)
    )
