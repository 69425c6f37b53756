"""Batches of pictures as the model sees them, and the one conversion between bytes and floats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from arm.world.captions import long_caption, short_caption
from arm.world.combinations import tells_on_held_out
from arm.world.edits import EDITORS, sample_edit
from arm.world.render import render
from arm.world.sampling import Kind, pick, sample_scene
from arm.world.scene import COLORS, MAX_THINGS, Scene


def to_float(images_BHW3: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """uint8 RGB -> float in [-1, 1], channels first."""
    return torch.from_numpy(images_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images_B3HW: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Float in [-1, 1] (clipped) -> uint8 RGB, channels last."""
    scaled = (images_B3HW.detach().float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class GridWeight:
    """A token grid and how often a batch has it."""

    height: int
    width: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or not 0 <= self.weight < math.inf:
            raise ValueError("a grid has at least one row and one column, and a weight from 0 up")


@dataclass(frozen=True)
class PictureBatch:
    """One grid a batch: `images` (B, 3, H, W) in [-1, 1]; of each a short caption, one with every
    detail, and the scene (users' pictures have none). Where asked for, `twins` are the same pictures with one thing changed, and
    `shared` marks the patches that the change leaves alone.
    """

    images: Float[Tensor, "b 3 h w"]
    captions: tuple[str, ...]
    details: tuple[str, ...]
    scenes: tuple[Scene, ...]
    twins: Float[Tensor, "b 3 h w"] | None = None
    shared: Bool[Tensor, "b n"] | None = None


def counted_pairs(scenes: Sequence[Scene], described: Sequence[Scene]) -> Bool[Tensor, "b n"]:
    """Pairs (picture, caption) that a contrastive loss may use (`tells_on_held_out`)."""
    return torch.tensor([[not tells_on_held_out(a, b) for b in described] for a in scenes])


def pick_grid(rng: np.random.Generator, grids: tuple[GridWeight, ...]) -> GridWeight:
    weights = np.array([grid.weight for grid in grids])
    return grids[int(rng.choice(len(grids), p=weights / weights.sum()))]


def twin(rng: np.random.Generator, scene: Scene, *, held_out: bool) -> Scene:
    """The scene after an edit of one or two of its things; itself where no edit is found."""
    kinds = [kind for kind in EDITORS if kind != "background"]
    edit = sample_edit(rng, scene, pick(rng, kinds), held_out=held_out)
    return scene if edit is None else edit.target


def patch_centers(scene: Scene, unit: float) -> Float[np.ndarray, "n 2"]:
    """Centres (x, y) in units of the scene's patches, `unit` units wide and in row-major order."""
    grid = round(scene.height / unit), round(scene.width / unit)
    rows, cols = np.indices(grid) * unit + unit / 2
    return np.stack([cols.ravel(), rows.ravel()], -1)


def untouched(a: Scene, b: Scene, unit: float) -> Bool[np.ndarray, " n"]:
    """The patches (see `patch_centers`) that no thing of only one scene reaches."""
    centers_N2 = patch_centers(a, unit)
    free = np.ones(len(centers_N2), dtype=bool)
    for thing in set(a.things) ^ set(b.things):
        away_N = np.abs(centers_N2 - (thing.x, thing.y)).max(-1)
        free &= away_N >= thing.radius + unit / 2
    return free


def world_batch(
    seed: int,
    step: int,
    batch: int,
    grids: tuple[GridWeight, ...],
    patch: int,
    *,
    scale: int = 1,
    held_out: bool = False,
    singles: float = 0.0,
    max_things: int = MAX_THINGS,
    twins: bool = False,
) -> PictureBatch:
    """The world's batch number `step`: a pure function of its arguments.

    patch: pixels a token; scale: pixels a unit; singles: share of pictures with one thing
    (in held-out batches a thing of a held-out pair); twins: with twins of the pictures.
    """
    rng = np.random.default_rng([seed, step, int(held_out)])
    grid = pick_grid(rng, grids)
    height, width = grid.height * patch // scale, grid.width * patch // scale
    # The lone things of a batch share two colours, so that their shapes must tell them apart.
    palette = [COLORS[int(i)] for i in rng.choice(len(COLORS), 2, replace=False)]
    scenes = []
    for i in range(batch):
        alone = i < singles * batch
        lone: list[Kind] = [(None, palette[i % 2], None, None)]
        scenes.append(
            sample_scene(
                rng,
                height,
                width,
                kinds=lone if alone and not held_out else None,
                max_things=1 if alone else max_things,
                held_out=held_out,
            )
        )
    images = np.stack([render(scene, scale) for scene in scenes])
    short = tuple(short_caption(rng, scene) for scene in scenes)
    details = tuple(long_caption(rng, scene) for scene in scenes)
    made = PictureBatch(to_float(images), short, details, tuple(scenes))
    if not twins:
        return made
    others = [twin(rng, scene, held_out=held_out) for scene in scenes]
    shared = np.stack(
        [untouched(*pair, patch / scale) for pair in zip(scenes, others, strict=True)]
    )
    painted = to_float(np.stack([render(scene, scale) for scene in others]))
    return replace(made, twins=painted, shared=torch.from_numpy(shared))
