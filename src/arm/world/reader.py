"""The reader: what a picture shows, by geometry alone; no part of it is learned.

A pixel of a thing is `background (1 - a) + color (a - 0.48 d)`, with `a` its coverage and `d` the
coverage of its dark stripes (0 when plain). So the best colour under a template, and the squared
error it leaves, follow in closed form from the picture's inner products with `a` and `d`. The
reader finds patches of foreground, tries every shape, size and pattern near each one's middle,
sharp and blurred, joins or splits patches that fit badly, and says how sure it is of each.

Suffixes: H, W pixels at scale 1; Q pixels of a template window; K shapes and sizes; J candidates
(shape, size and place); B blurs; P patterns; C palette colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from arm.world.scene import (
    BACKGROUND_PALETTE,
    COLORS,
    PALETTE,
    PATTERNS,
    RADIUS,
    SHAPES,
    SIZES,
    STRIPE_SHADE,
    Scene,
    Thing,
    apart,
    masks,
    render_float,
    same_scene,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

BLURS = (0.0, 0.8, 1.6)
"""Standard deviations, in pixels, of the blurs at which templates are tried."""
CONTRAST = 40.0
"""A pixel this far (RGB distance) from the background may be foreground."""
RELATIVE_CONTRAST = 0.35
"""It must also reach this share of the strongest contrast within 3 pixels, so halos stay apart."""
SPECK = 1.2e5
"""A patch of less squared contrast (a fifth of the faintest thing's) is a speck, and no thing."""
REACH = 2.5
"""A patch must explain the pixels around it up to this distance: its soft edge."""
MOST_PATCHES = 12
"""Only the strongest patches are read, which bounds the time a picture of noise takes."""
GOOD = 0.04
"""A patch with at most this share of its contrast unexplained is not joined or split."""
COLOR_WEIGHT = 10.0
"""Pixels' worth of evidence for a palette colour against the best fitting free colour."""

_KINDS = tuple((shape, size) for shape in SHAPES for size in SIZES)
_PALETTE_C3 = np.array([PALETTE[color] for color in COLORS], dtype=np.float32)
_BACKGROUNDS_43 = np.array(list(BACKGROUND_PALETTE.values()), dtype=np.float32)
_DIM = 1 - STRIPE_SHADE
_HALF = int(np.ceil(1.3 * max(RADIUS.values()))) + 1
_SIDE = 2 * _HALF


@dataclass(frozen=True)
class ReadThing(Thing):
    """One object as read, its centre in units, and how sure the reader is of it, in [0, 1]."""

    confidence: float


@dataclass(frozen=True)
class Reading:
    """The things read, the background's name, and the picture's cleanliness in [0, 1]."""

    things: tuple[ReadThing, ...]
    background: str
    cleanliness: float


class _Bank(NamedTuple):
    """Every template, shifted so that the middle of its mask lies at the window's middle.

    Rows R: shape and size (24), phase (4, x fastest), coverage or dark stripes (2). gram: <a, a>,
    <a, d>, <d, d> by phase. shift: x, y from frame centre to mask middle, in half pixels.
    """

    rows_BRQ: Floats
    gram_BK43: Floats
    shift_K2: Ints


class _Picture(NamedTuple):
    """A picture at scale 1: its contrast to the background, and the background's colour."""

    contrast_HW3: Floats
    background_3: Floats


class _Patch(NamedTuple):
    """A patch of foreground: its pixels, and the larger area that it must explain."""

    core_HW: Bools
    area_HW: Bools


class _Fit(NamedTuple):
    """The best thing for a patch. energy: the squared contrast of the patch's area, summed. error:
    what of it the thing, in its best colour, leaves. local: the worst 5 x 5 mean of what it leaves,
    over the thing's mean squared contrast. color_distances: RGB distances from the best colour to
    the palette's nearest two. margin: how much more the best other shape leaves, over energy."""

    patch: _Patch
    thing: Thing
    energy: float
    error: float
    local: float
    color_distances: Floats
    margin: float

    @property
    def share(self) -> float:
        """The share of the contrast that stays unexplained."""
        return self.error / self.energy


def _middle(mask_HW: Bools) -> NDArray[np.float64]:
    """x, y of the mean of a mask's pixels; a pixel's centre lies at its index + 0.5."""
    rows, columns = np.nonzero(mask_HW)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


@lru_cache(maxsize=1)
def _bank() -> _Bank:
    stack = np.zeros((len(BLURS), len(_KINDS), 4, 2, _SIDE, _SIDE), dtype=np.float32)
    shift_K2 = np.zeros((len(_KINDS), 2), dtype=np.intp)
    for i, (shape, size) in enumerate(_KINDS):
        core = masks(shape, size, 0.0, 0.0)[0] > 0.4
        half = len(core) // 2
        shift_K2[i] = np.rint(2 * (_middle(core) - half))
        for phase in range(4):
            x, y = phase % 2 - shift_K2[i, 0], phase // 2 - shift_K2[i, 1]
            for k, mask in enumerate(masks(shape, size, (x & 1) / 2, (y & 1) / 2)):
                sharp = np.roll(np.pad(mask, _HALF - half), (y >> 1, x >> 1), (0, 1))
                for b, sigma in enumerate(BLURS):
                    stack[b, i, phase, k] = ndimage.gaussian_filter(sharp, sigma)
    flat = stack.reshape(len(BLURS), len(_KINDS), 4, 2, -1)
    a, d = flat[..., 0, :], flat[..., 1, :]
    gram = np.stack([(a * a).sum(-1), (a * d).sum(-1), (d * d).sum(-1)], -1)
    return _Bank(flat.reshape(len(BLURS), -1, flat.shape[-1]), gram, shift_K2)


def _errors(
    inner: Floats, gram: Floats, energy: np.float32, background_3: Floats
) -> tuple[Floats, Floats]:
    """The squared error under the best free colour, (..., P), and that colour, (..., P, 3).

    inner: (..., 2, 3), the contrast's inner products with coverage and dark stripes. gram:
    (..., 3), those of coverage and dark stripes. energy: the contrast's sum of squares.
    """
    with_a, with_d = inner[..., 0, :], inner[..., 1, :]
    aa, ad, dd = gram[..., 0], gram[..., 1], gram[..., 2]
    lit = energy + 2 * with_a @ background_3 + aa * (background_3 @ background_3)
    errors, colors = [], []
    for dim in (0.0, _DIM):
        weight = aa - 2 * dim * ad + dim * dim * dd
        pull = with_a - dim * with_d + (aa - dim * ad)[..., None] * background_3
        colors.append(pull / weight[..., None])
        errors.append(lit - np.einsum("...c,...c->...", pull, pull) / weight)
    return np.maximum(np.stack(errors, -1), 0), np.stack(colors, -2)


def _fit(picture: _Picture, patch: _Patch) -> _Fit:
    """The best thing for a patch: first every template at every half pixel within one of the
    patch's middle, at the middle blur and in any colour; then the best few at every blur, at a
    price for the colour's distance to the palette."""
    bank, soft, background_3 = _bank(), len(BLURS) // 2, picture.background_3
    x0, y0 = (round(c) for c in _middle(patch.core_HW))
    only_HW3 = picture.contrast_HW3 * patch.area_HW[..., None]
    height, width, _ = only_HW3.shape
    wide_HW3 = np.zeros((height + _SIDE + 2, width + _SIDE + 2, 3), dtype=np.float32)
    wide_HW3[_HALF + 1 : -_HALF - 1, _HALF + 1 : -_HALF - 1] = only_HW3
    energy = np.float32(np.vdot(only_HW3, only_HW3))
    at = product(range(y0, y0 + 3), range(x0, x0 + 3))
    window_9Q3 = np.stack([wide_HW3[y : y + _SIDE, x : x + _SIDE].reshape(-1, 3) for y, x in at])
    all_QS = window_9Q3.transpose(1, 0, 2).reshape(-1, 27)
    inner = (bank.rows_BRQ[soft] @ all_QS).reshape(len(_KINDS), 4, 2, 9, 3).swapaxes(2, 3)
    rough, _ = _errors(inner, bank.gram_BK43[soft][:, :, None], energy, background_3)
    rough_KJ = rough.min(-1).reshape(len(_KINDS), -1)
    kinds = np.argsort(rough_KJ.min(1))[:5]
    kind_J = kinds.repeat(4)
    phase_J, step_J = np.divmod(np.argsort(rough_KJ[kinds], axis=1)[:, :4].ravel(), 9)
    rows_BJ2Q = bank.rows_BRQ.reshape(len(BLURS), len(_KINDS), 4, 2, -1)[:, kind_J, phase_J]
    gram_BJ3 = bank.gram_BK43[:, kind_J, phase_J]
    errors, colors = _errors(rows_BJ2Q @ window_9Q3[step_J], gram_BJ3, energy, background_3)
    distance_BJPC = np.sqrt(((colors[..., None, :] - _PALETTE_C3) ** 2).sum(-1))
    costs = errors + COLOR_WEIGHT * distance_BJPC.min(-1) ** 2
    b, j, p = (int(i) for i in np.unravel_index(int(costs.argmin()), costs.shape))

    kind, phase, step = kind_J[j], int(phase_J[j]), int(step_J[j])
    shape, size = _KINDS[kind]
    x = x0 - 1 + step % 3 + (phase % 2 - int(bank.shift_K2[kind, 0])) / 2
    y = y0 - 1 + step // 3 + (phase // 2 - int(bank.shift_K2[kind, 1])) / 2
    color_3, color = colors[b, j, p], int(distance_BJPC[b, j, p].argmin())
    a, d = rows_BJ2Q[b, j][..., None]
    ideal_Q3 = a * (color_3 - background_3) - p * _DIM * d * color_3
    left_Q = ((window_9Q3[step_J[j]] - ideal_Q3) ** 2).sum(-1)
    worst = ndimage.uniform_filter(left_Q.reshape(_SIDE, _SIDE), 5).max()
    other = [i for i, k in enumerate(kind_J) if _KINDS[k][0] != shape]
    return _Fit(
        patch,
        Thing(shape, COLORS[color], size, PATTERNS[p], x, y),
        energy=float(energy),
        error=float(errors[b, j, p]),
        local=float(worst * a.sum() / (ideal_Q3**2).sum()),
        color_distances=np.sort(distance_BJPC[b, j, p])[:2],
        margin=float((costs[:, other].min() - costs[b, j, p]) / energy),
    )


def _background(image_HW3: Floats) -> tuple[str, Floats]:
    """The background's name, by the votes of the pixels near it, and its mean colour, (3,)."""
    flat_N3 = image_HW3.reshape(-1, 3)
    square_N4 = (flat_N3**2).sum(1, keepdims=True) - 2 * flat_N3 @ _BACKGROUNDS_43.T
    square_N4 += (_BACKGROUNDS_43**2).sum(1)
    votes_N = square_N4.argmin(1)[square_N4.min(1) < CONTRAST**2]
    winner = int(np.bincount(votes_N, minlength=4).argmax())
    near_N3 = flat_N3[square_N4[:, winner] < (CONTRAST / 2) ** 2]
    color_3 = near_N3.mean(0) if len(near_N3) >= 16 else _BACKGROUNDS_43[winner]
    return tuple(BACKGROUND_PALETTE)[winner], color_3


def _patches(strength_HW: Floats, core_HW: Bools, reach: float) -> list[_Patch]:
    """The core's connected patches, with the pixels in reach of each; most contrast first."""
    found = ndimage.label(core_HW, np.ones((3, 3)))
    labels_HW = cast(tuple[Ints, int], found)[0]
    energies = np.bincount(labels_HW.ravel(), strength_HW.ravel() ** 2)[1:]
    order = [int(i) for i in np.argsort(-energies) if energies[i] >= SPECK][:MOST_PATCHES]
    labels_HW = np.isin(labels_HW, np.array(order) + 1) * labels_HW
    nearest = ndimage.distance_transform_edt(labels_HW == 0, return_indices=True)
    distance_HW, nearest_2HW = cast(tuple[Floats, Ints], nearest)
    owner_HW = np.where(distance_HW <= reach, labels_HW[tuple(nearest_2HW)], 0)
    return [_Patch(labels_HW == i + 1, owner_HW == i + 1) for i in order]


def _merged(picture: _Picture, fits: list[_Fit]) -> list[_Fit]:
    """The fits, with patches joined where one thing explains them better than two do."""
    while True:
        best_gain, best = 0.0, None
        for a, b in combinations(fits, 2):
            core_HW = a.patch.core_HW | b.patch.core_HW
            extent = max(np.ptp(axis) for axis in np.nonzero(core_HW))
            if extent > 2 * max(RADIUS.values()) + 4 or max(a.share, b.share) <= GOOD:
                continue
            fit = _fit(picture, _Patch(core_HW, a.patch.area_HW | b.patch.area_HW))
            gain = a.error + b.error - 1.5 * fit.error
            if gain > best_gain:
                best_gain, best = gain, (a, b, fit)
        if best is None:
            return fits
        fits = [fit for fit in fits if fit is not best[0] and fit is not best[1]] + [best[2]]


def _split(picture: _Picture, fit: _Fit) -> list[_Fit]:
    """The fits of a patch's parts at a higher threshold where they explain it better, else its."""
    if fit.share <= GOOD:
        return [fit]
    strength_HW = np.sqrt((picture.contrast_HW3**2).sum(-1))
    top = np.percentile(strength_HW[fit.patch.core_HW], 80)
    for share in (0.5, 0.65, 0.8):
        core_HW = fit.patch.core_HW & (strength_HW > share * top)
        parts = _patches(strength_HW, core_HW, np.inf)
        if len(parts) > 1:
            shares = [_Patch(part.core_HW, part.area_HW & fit.patch.area_HW) for part in parts]
            fits = _merged(picture, [_fit(picture, part) for part in shares])
            if 2 * sum(part.error for part in fits) < fit.error:
                return fits
    return [fit]


def _confidence(fit: _Fit, found: Sequence[Thing]) -> float:
    """How sure the reader is of a thing: the product of five factors in [0, 1], each linear in
    between, times 0.45 when its frame overlaps another thing's. whole: 1 while at most 4 % of the
    patch's contrast stays unexplained, 0 at 20 %. parts: 1 while no 5 x 5 pixels miss more than 5 %
    of the thing's own contrast, 0 at 20 %. color: 1 up to an RGB distance of 40 from the palette, 0
    at 80; and 1 where the next colour is 12 farther. margin: 0 where another shape does as well, 1
    where it leaves 1.5 % of the contrast more."""
    whole = (0.2 - fit.share) / 0.16
    parts = (0.2 - fit.local) / 0.15
    near, next_near = (float(distance) for distance in fit.color_distances)
    color, clear = 2 - near / 40, (next_near - near) / 12
    margin = fit.margin / 0.015
    value = float(np.prod(np.clip([whole, parts, color, clear, margin], 0, 1)))
    alone = all(other is fit.thing or apart(fit.thing, other, 0.0) for other in found)
    return value if alone else 0.45 * value


def _cleanliness(image_HW3: Floats, scene: Scene, scale: int) -> float:
    """exp(-25 q) in [0, 1]: q is the squared residual against the re-rendered reading (what of it
    exceeds 6 grey levels) over the re-rendering's squared contrast to its background plus 1e6."""
    ideal_HW3 = render_float(scene, scale)
    contrast = ((ideal_HW3 - np.array(BACKGROUND_PALETTE[scene.background])) ** 2).sum()
    excess_HW3 = np.maximum(np.abs(image_HW3 - ideal_HW3) - 6, 0)
    return float(np.exp(-25 * (excess_HW3**2).sum() / (contrast + 1e6 * scale**2)))


def read(image_HW3: NDArray[np.uint8], scale: int = 1) -> Reading:
    """Read a picture, (H, W, 3) uint8 RGB with `scale` pixels to a unit.

    The things come from left to right; patches that no thing explains are among them, with low
    confidence. Raises ValueError for another dtype or shape, or sides no multiples of `scale`.
    """
    if image_HW3.dtype != np.uint8:
        raise ValueError(f"the picture must be uint8, got {image_HW3.dtype}")
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or 0 in image_HW3.shape:
        raise ValueError(f"the picture must be (H, W, 3), got {image_HW3.shape}")
    if scale < 1 or image_HW3.shape[0] % scale or image_HW3.shape[1] % scale:
        raise ValueError(f"the sides of {image_HW3.shape} must be multiples of the scale {scale}")
    height, width = image_HW3.shape[0] // scale, image_HW3.shape[1] // scale
    full_HW3 = image_HW3.astype(np.float32)
    small_HW3 = full_HW3.reshape(height, scale, width, scale, 3).mean((1, 3))
    background, background_3 = _background(small_HW3)
    picture = _Picture(small_HW3 - background_3, background_3)
    strength_HW = np.sqrt((picture.contrast_HW3**2).sum(-1))
    threshold_HW = np.maximum(CONTRAST, RELATIVE_CONTRAST * ndimage.maximum_filter(strength_HW, 7))
    patches = _patches(strength_HW, strength_HW > threshold_HW, REACH)
    fits = [_fit(picture, patch) for patch in patches]
    fits = [part for fit in _merged(picture, fits) for part in _split(picture, fit)]
    fits.sort(key=lambda fit: (fit.thing.x, fit.thing.y))
    found = tuple(fit.thing for fit in fits)
    sure = [_confidence(fit, found) for fit in fits]
    things = tuple(ReadThing(*t.kind, t.x, t.y, c) for t, c in zip(found, sure, strict=True))
    clean = _cleanliness(full_HW3, Scene(found, background, height, width), scale)
    return Reading(things, background, clean)


def agrees(scene: Scene, reading: Reading, min_confidence: float = 0.5) -> bool:
    """Whether the reading shows the scene, nothing else, and is sure of every thing."""
    sure = all(thing.confidence >= min_confidence for thing in reading.things)
    return sure and same_scene(scene, reading)
