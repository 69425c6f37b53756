"""Batches of rendered scenes as the model sees them, with captions and patch labels.

What each patch of a batch shows, as labels: the dense supervision of the stand-in towers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight, pick_grid, to_float
from arm.domain import PatchLabels, Split
from arm.world.edits import EDITORS, sample_edit
from arm.world.language import long_caption, short_caption
from arm.world.render import render
from arm.world.sampling import Kind, pick, sample_scene, tells_on_held_out
from arm.world.scene import COLORS, MAX_THINGS, PATTERNS, SHAPES, SIZES, Scene


def comparable_pairs(scenes: Sequence[Scene], described: Sequence[Scene]) -> Bool[Tensor, "b n"]:
    """Pairs (picture, caption) that a contrastive loss may use (`tells_on_held_out`)."""
    return torch.tensor([[not tells_on_held_out(a, b) for b in described] for a in scenes])


def twin(rng: np.random.Generator, scene: Scene, *, split: Split) -> Scene:
    """The scene after an edit of one or two of its things; itself where no edit is found."""
    kinds = [kind for kind in EDITORS if kind != "background"]
    edit = sample_edit(rng, scene, pick(rng, kinds), split=split)
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


SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def world_batch(
    seed: int,
    step: int,
    batch: int,
    grids: tuple[GridWeight, ...],
    patch: int,
    *,
    scale: int = 1,
    split: Split = "train",
    singles: float = 0.0,
    max_things: int = MAX_THINGS,
    twins: bool = False,
) -> PictureBatch:
    """The world's batch number `step`: a pure function of its arguments.

    patch: pixels a token; scale: pixels a unit; singles: share of pictures with one thing
    (in held-out batches a thing of a held-out pair); twins: with twins of the pictures.
    """
    rng = np.random.default_rng([seed, step, SPLITS.index(split)])
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
                kinds=lone if alone and split == "train" else None,
                max_things=1 if alone else max_things,
                split=split,
            )
        )
    images = np.stack([render(scene, scale) for scene in scenes])
    short = tuple(short_caption(rng, scene) for scene in scenes)
    details = tuple(long_caption(rng, scene) for scene in scenes)
    made = PictureBatch(to_float(images), short, details, tuple(scenes))
    if not twins:
        return made
    others = [twin(rng, scene, split=split) for scene in scenes]
    shared = np.stack(
        [untouched(*pair, patch / scale) for pair in zip(scenes, others, strict=True)]
    )
    painted = to_float(np.stack([render(scene, scale) for scene in others]))
    return replace(made, twins=painted, shared=torch.from_numpy(shared))


ATTRIBUTES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "pattern": PATTERNS}
REACH = 2.0
"""A patch belongs to a thing while its centre lies at most this many units outside the frame."""


def patch_labels(batch: PictureBatch, unit: float) -> PatchLabels:
    """The labels of a batch whose patches are `unit` units wide. The nearest thing wins a patch."""
    centers_N2 = patch_centers(batch.truths[0], unit)
    shape = (len(batch.truths), len(centers_N2))
    labels = np.full((*shape, len(ATTRIBUTES)), -1)
    offsets = np.zeros((*shape, 2), dtype=np.float32)
    for b, scene in enumerate(batch.truths):
        places_O2 = np.array([[thing.x, thing.y] for thing in scene.things])
        reach_O = np.array([thing.radius + REACH for thing in scene.things])
        away_NO2 = places_O2[None] - centers_N2[:, None]
        beyond_NO = np.abs(away_NO2).max(-1) - reach_O
        owner_N = beyond_NO.argmin(1)
        covered = np.nonzero(beyond_NO.min(1) <= 0)[0]
        values_OA = np.array([
            [names.index(getattr(thing, key)) for key, names in ATTRIBUTES.items()]
            for thing in scene.things
        ])  # fmt: skip
        labels[b, covered] = values_OA[owner_N[covered]]
        offsets[b, covered] = away_NO2[covered, owner_N[covered]] / unit
    return PatchLabels(torch.from_numpy(labels), torch.from_numpy(offsets))
