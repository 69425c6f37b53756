"""The renderer: antialiased, true to the analytic shapes, deterministic."""

from itertools import combinations

import numpy as np
import pytest

from arm.world.scene import (
    BACKGROUND_PALETTE,
    BACKGROUNDS,
    COLORS,
    IMPLICIT,
    PALETTE,
    RADIUS,
    SHAPES,
    SIZES,
    STRIPE_SHADE,
    Scene,
    Thing,
    masks,
    render,
    render_float,
)


def one(shape: str = "circle", pattern: str = "plain", x: float = 24.0, y: float = 24.0) -> Scene:
    return Scene((Thing(shape, "blue", "large", pattern, x, y),), "white", 48, 48)


def test_every_name_has_its_drawing() -> None:
    assert tuple(IMPLICIT) == SHAPES
    assert tuple(PALETTE) == COLORS
    assert tuple(BACKGROUND_PALETTE) == BACKGROUNDS


def test_edge_pixels_lie_between_the_colors() -> None:
    image = render_float(one())
    background, color = np.array(BACKGROUND_PALETTE["white"]), np.array(PALETTE["blue"])
    share = (background - image) / (background - color)
    assert np.allclose(share, share[..., :1], atol=1e-4)
    assert (share > -1e-6).all() and (share < 1 + 1e-6).all()
    soft = ((share[..., 0] > 0.02) & (share[..., 0] < 0.98)).sum()
    assert 40 <= soft <= 2.2 * 2 * np.pi * RADIUS["large"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("phase", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
@pytest.mark.parametrize(("shape", "area"), [("circle", np.pi), ("square", 4 * 0.88**2)])
def test_mask_area_is_the_analytic_area(
    shape: str, area: float, size: str, phase: tuple[float, float]
) -> None:
    cover, _ = masks(shape, size, *phase)
    assert cover.sum() == pytest.approx(area * RADIUS[size] ** 2, rel=0.02)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_masks_are_coverages_with_a_clear_border(shape: str, size: str) -> None:
    for phase in (0.0, 0.5):
        cover, dark = masks(shape, size, phase, phase)
        assert cover.min() == 0 and cover.max() == 1
        assert (dark <= cover).all() and 0 < dark.sum() < cover.sum()
        border = np.concatenate([cover[0], cover[-1], cover[:, 0], cover[:, -1]])
        assert (border == 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_shapes_are_pairwise_distinguishable(size: str) -> None:
    for a, b in combinations(SHAPES, 2):
        first, second = (masks(shape, size, 0.0, 0.0)[0] for shape in (a, b))
        assert np.abs(first - second).sum() > 0.12 * max(first.sum(), second.sum()), (a, b)


def test_a_phase_moves_the_mask_half_a_pixel() -> None:
    cover, _ = masks("heart", "large", 0.0, 0.0)
    moved, _ = masks("heart", "large", 0.5, 0.5)
    index = np.arange(len(cover))
    for axis in (0, 1):
        before, after = (index @ mask.sum(1 - axis) / mask.sum() for mask in (cover, moved))
        assert after - before == pytest.approx(0.5, abs=0.02)


def test_stripes_darken() -> None:
    plain, striped = render_float(one()), render_float(one(pattern="striped"))
    assert (striped <= plain + 1e-3).all()
    row = round(24 - 0.42 * RADIUS["large"])
    dark, full = striped[row, 24], striped[24, 24]
    assert np.allclose(dark, STRIPE_SHADE * np.array(PALETTE["blue"]), atol=1e-3)
    assert np.allclose(full, PALETTE["blue"], atol=1e-3)
    assert (striped[0] == plain[0]).all()


def test_rendering_is_deterministic() -> None:
    scene = one("star", "striped", 20.5, 25.0)
    first = render(scene)
    assert first.dtype == np.uint8 and first.shape == (48, 48, 3)
    masks.cache_clear()
    assert (render(scene) == first).all()


def test_order_of_things_apart_does_not_matter() -> None:
    a = Thing("moon", "red", "small", "plain", 10.0, 10.0)
    b = Thing("arch", "teal", "large", "striped", 36.5, 40.0)
    images = [render(Scene(order, "cream", 56, 48)) for order in ((a, b), (b, a))]
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_two_doubles(shape: str) -> None:
    scene = one(shape, "striped", 22.5, 25.0)
    once, twice = render_float(scene), render_float(scene, scale=2)
    assert twice.shape == (96, 96, 3)
    pooled = twice.reshape(48, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(pooled - once).max() < 20
    assert np.abs(pooled - once).mean() < 0.4


@pytest.mark.parametrize(
    ("x", "y", "share"),
    [(0.0, 24.0, 0.5), (24.0, 48.0, 0.5), (48.0, 48.0, 0.25), (-20.0, 24.0, 0.0)],
)
def test_thing_partly_outside_is_cut_off(x: float, y: float, share: float) -> None:
    def ink(scene: Scene) -> float:
        return float((np.array(BACKGROUND_PALETTE["white"]) - render_float(scene)).sum())

    assert ink(one(x=x, y=y)) == pytest.approx(share * ink(one()), abs=0.01 * ink(one()))


def test_cut_off_thing_is_the_crop_of_a_larger_picture() -> None:
    thing = Thing("arrow", "purple", "large", "striped", 4.5, 3.0)
    moved = Thing("arrow", "purple", "large", "striped", 24.5, 23.0)
    small = render(Scene((thing,), "gray", 30, 30))
    large = render(Scene((moved,), "gray", 60, 60))
    assert (small == large[20:50, 20:50]).all()


def test_background_alone() -> None:
    image = render(Scene((), "sky", 20, 30))
    assert image.shape == (20, 30, 3)
    assert (image == BACKGROUND_PALETTE["sky"]).all()
