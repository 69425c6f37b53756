"""A model's pictures of codes, and its codes of the world's scenes, many at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from arm.data.images import to_bytes, to_float
from arm.pipeline import Arm, Codes
from arm.world.reader import Reading, read
from arm.world.render import render
from arm.world.scene import Scene

AT_ONCE, PIXELS = 64, 2**21
"""The most pictures of a batch, and the most pixels: large decoders have room for few large pictures."""


def _at_once(arm: Arm, grid: tuple[int, ...]) -> int:
    """How many pictures of a grid (H, W) of tokens go through the networks together."""
    return min(AT_ONCE, max(1, PIXELS // (grid[0] * grid[1] * arm.tokenizer.patch**2)))


def paint(arm: Arm, codes: Sequence[Codes]) -> UInt8[np.ndarray, "b h w 3"]:
    """Pictures of codes that share one grid, by the model's decoder."""
    batch = torch.from_numpy(np.stack(codes).astype(np.int64))
    return to_bytes(arm.detokenizer.decode(batch))


def paint_each(arm: Arm, codes: Sequence[Codes]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """A picture of each, painted in batches of one grid."""
    pictures: dict[int, np.ndarray] = {}
    by_grid: dict[tuple[int, ...], list[int]] = {}
    for i, grid_codes in enumerate(codes):
        by_grid.setdefault(grid_codes.shape, []).append(i)
    for grid, indices in by_grid.items():
        size = _at_once(arm, grid)
        for start in range(0, len(indices), size):
            chunk = indices[start : start + size]
            pictures |= zip(chunk, paint(arm, [codes[i] for i in chunk]), strict=True)
    return [pictures[i] for i in range(len(codes))]


def read_codes(arm: Arm, codes: Sequence[Codes]) -> list[Reading]:
    """Paints and reads codes."""
    return [read(picture, arm.defaults.scale) for picture in paint_each(arm, codes)]


def encode_scenes(arm: Arm, scenes: Sequence[Scene]) -> list[Codes]:
    """Codes of rendered scenes, batched by size."""
    found: list[Codes | None] = [None] * len(scenes)
    by_size: dict[tuple[int, int], list[int]] = {}
    for i, scene in enumerate(scenes):
        by_size.setdefault((scene.height, scene.width), []).append(i)
    for indices in by_size.values():
        for start in range(0, len(indices), AT_ONCE):
            chunk = indices[start : start + AT_ONCE]
            images = np.stack([render(scenes[i], arm.defaults.scale) for i in chunk])
            for i, codes in zip(
                chunk, arm.tokenizer.encode(to_float(images)).cpu().numpy(), strict=True
            ):
                found[i] = codes
    return [codes for codes in found if codes is not None]


def scene_size(arm: Arm, index: int) -> tuple[int, int]:
    """Height and width in units of the model's grid number `index`, going round."""
    height, width = arm.defaults.grids[index % len(arm.defaults.grids)]
    unit = arm.tokenizer.patch // arm.defaults.scale
    return height * unit, width * unit
