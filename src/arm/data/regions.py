"""What each patch of a batch shows, as labels: the dense supervision of the stand-in towers."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arm.data.pictures import PictureBatch, patch_centers
from arm.world.scene import COLORS, PATTERNS, SHAPES, SIZES

ATTRIBUTES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "pattern": PATTERNS}
REACH = 2.0
"""A patch belongs to a thing while its centre lies at most this many units outside the frame."""


@dataclass(frozen=True)
class Regions:
    """Labels of N patches in row-major order. `labels` (B, N, 4): the attributes of the thing that a
    patch belongs to, in the order of ATTRIBUTES, -1 where there is none. `offsets` (B, N, 2): from
    the patch's centre to the thing's, x then y, in patches; 0 where there is none.
    """

    labels: Int[Tensor, "b n a"]
    offsets: Float[Tensor, "b n 2"]


def regions(batch: PictureBatch, unit: float) -> Regions:
    """The labels of a batch whose patches are `unit` units wide. The nearest thing wins a patch."""
    centers_N2 = patch_centers(batch.scenes[0], unit)
    shape = (len(batch.scenes), len(centers_N2))
    labels = np.full((*shape, len(ATTRIBUTES)), -1)
    offsets = np.zeros((*shape, 2), dtype=np.float32)
    for b, scene in enumerate(batch.scenes):
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
    return Regions(torch.from_numpy(labels), torch.from_numpy(offsets))
