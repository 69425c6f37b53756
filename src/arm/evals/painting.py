"""Pictures of codes and codes of pictures, in batches of one size."""

from collections.abc import Sequence

import numpy as np
import torch

from arm.data.images import GridWeight, to_bytes, to_float
from arm.domain import Canvas, PixelArray
from arm.pipeline import Arm, Codes

MAX_BATCH, MAX_PIXELS = 64, 2**21
"""The most pictures in a batch, and the most pixels: a large decoder has memory for few large pictures."""


def canvas_of(arm: Arm) -> Canvas:
    """The sizes of the model's own pictures, every grid equally often."""
    grids = tuple(GridWeight(height, width) for height, width in arm.defaults.grids)
    return Canvas(grids, arm.tokenizer.patch, arm.defaults.scale)


def _batch_size(arm: Arm, grid: tuple[int, ...]) -> int:
    """How many pictures of a grid (H, W) of tokens go through the decoder together."""
    return min(MAX_BATCH, max(1, MAX_PIXELS // (grid[0] * grid[1] * arm.tokenizer.patch**2)))


def paint(arm: Arm, codes: Sequence[Codes]) -> list[PixelArray]:
    """Pictures of codes that share one grid, by the model's decoder."""
    batch = torch.from_numpy(np.stack(codes).astype(np.int64))
    return list(to_bytes(arm.detokenizer.decode(batch)))


def paint_each(arm: Arm, codes: Sequence[Codes]) -> list[PixelArray]:
    """The picture of each grid of codes, painted in batches of one grid."""
    pictures: dict[int, PixelArray] = {}
    by_grid: dict[tuple[int, ...], list[int]] = {}
    for i, grid_codes in enumerate(codes):
        by_grid.setdefault(grid_codes.shape, []).append(i)
    for grid, indices in by_grid.items():
        size = _batch_size(arm, grid)
        for start in range(0, len(indices), size):
            chunk = indices[start : start + size]
            pictures |= zip(chunk, paint(arm, [codes[i] for i in chunk]), strict=True)
    return [pictures[i] for i in range(len(codes))]


def encode_pictures(arm: Arm, pictures: Sequence[PixelArray]) -> list[Codes]:
    """The codes of each picture, encoded in batches of one size. Sides are multiples of the patch."""
    codes: dict[int, Codes] = {}
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, picture in enumerate(pictures):
        by_size.setdefault(picture.shape, []).append(i)
    for indices in by_size.values():
        for start in range(0, len(indices), MAX_BATCH):
            chunk = indices[start : start + MAX_BATCH]
            images = to_float(np.stack([pictures[i] for i in chunk]))
            codes |= zip(chunk, arm.tokenizer.encode(images).cpu().numpy(), strict=True)
    return [codes[i] for i in range(len(pictures))]
