"""The reader against the renderer: exact on renderings, steady under damage, unsure when it should be."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from arm.world.reader import Reading, ReadThing, agrees, read
from arm.world.sampling import sample_scene
from arm.world.scene import (
    BACKGROUND_PALETTE,
    BACKGROUNDS,
    COLORS,
    PALETTE,
    PATTERNS,
    SHAPES,
    SIZES,
    STRIPE_SHADE,
    Scene,
    Thing,
    fits,
    masks,
    render,
    render_float,
    same_scene,
)

CANVASES = [(56, 56, 1), (48, 64, 1), (64, 48, 1), (48, 48, 1), (56, 56, 2)]
"""Height and width in units, and scale."""


def blurred(image_HW3: NDArray, sigma: float) -> NDArray:
    return ndimage.gaussian_filter(image_HW3.astype(np.float64), (sigma, sigma, 0))


def noisy(image_HW3: NDArray, rng: np.random.Generator, std: float) -> NDArray[np.uint8]:
    shaken = np.rint(image_HW3 + rng.normal(0, std, image_HW3.shape))
    return np.clip(shaken, 0, 255).astype(np.uint8)


def recolored(scene: Scene, rng: np.random.Generator, amount: float) -> NDArray:
    """The picture with every thing's colour moved by up to `amount` in each channel."""
    image = np.empty((scene.height, scene.width, 3))
    image[:] = BACKGROUND_PALETTE[scene.background]
    for thing in scene.things:
        color = np.array(PALETTE[thing.color]) + rng.uniform(-amount, amount, 3)
        cover, dark = masks(thing.shape, thing.size, thing.x % 1, thing.y % 1)
        top, left = (int(c // 1) - len(cover) // 2 for c in (thing.y, thing.x))
        rows = slice(max(top, 0), min(top + len(cover), scene.height))
        columns = slice(max(left, 0), min(left + len(cover), scene.width))
        patch = np.s_[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        shade = cover - (1 - STRIPE_SHADE) * dark if thing.pattern == "striped" else cover
        image[rows, columns] *= 1 - cover[patch][..., None]
        image[rows, columns] += shade[patch][..., None] * color
    return image


def low_passed(image_HW3: NDArray, factor: float) -> NDArray:
    """Shrunk by `factor`, linearly, and enlarged again, cubically."""
    height, width = image_HW3.shape[:2]
    small_h, small_w = round(height / factor), round(width / factor)
    image = image_HW3.astype(np.float64)
    for (rows, columns), order in (((small_h, small_w), 1), ((height, width), 3)):
        factors = (rows / image.shape[0], columns / image.shape[1], 1)
        image = np.asarray(
            ndimage.zoom(image, factors, order=order, grid_mode=True, mode="nearest")
        )
    return image


def damage_mildly(scene: Scene, rng: np.random.Generator) -> NDArray:
    return noisy(blurred(recolored(scene, rng, 12), rng.uniform(0.6, 0.8)), rng, 6)


def damage_by_low_pass(scene: Scene, rng: np.random.Generator) -> NDArray:
    return noisy(low_passed(render_float(scene), 1.5), rng, 6)


def damage_by_wobbly_background(scene: Scene, rng: np.random.Generator) -> NDArray:
    wobble = blurred(rng.normal(0, 1, (scene.height, scene.width, 3)), 1.0)
    image = blurred(recolored(scene, rng, 8), 0.7) + rng.uniform(-6, 6, 3)
    return noisy(image + 8 * wobble / wobble.std(), rng, 1)


def damage_by_strong_blur(scene: Scene, rng: np.random.Generator) -> NDArray:
    return noisy(blurred(recolored(scene, rng, 8), 1.2), rng, 4)


def lone(shape: str = "circle", **changes: str) -> Scene:
    """One thing in the middle of a white picture."""
    kind = {"color": "blue", "size": "large", "pattern": "plain"} | changes
    return Scene((Thing(shape, **kind, x=28.0, y=28.5),), "white", 56, 56)


def half_erased(scene: Scene) -> NDArray[np.uint8]:
    """The picture without the right half of its only thing."""
    image = render(scene)
    image[:, round(scene.things[0].x) :] = BACKGROUND_PALETTE[scene.background]
    return image


def nudged(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with each thing up to a unit off its raster, by half units, where it still fits."""
    for index, thing in enumerate(scene.things):
        dx, dy = (float(d) for d in rng.integers(-2, 3, 2) / 2)
        moved = scene.with_thing(index, x=thing.x + dx, y=thing.y + dy)
        if fits(moved.things[index], scene.without(index).things, scene.height, scene.width):
            scene = moved
    return scene


def exact_readings(height: int, width: int, scale: int, count: int) -> int:
    """How many held-out scenes are read back exactly, to one unit, surely and as clean."""
    rng = np.random.default_rng([height, width, scale])
    exact = 0
    for _ in range(count):
        scene = nudged(sample_scene(rng, height, width, split="test"), rng)
        reading = read(render(scene, scale), scale)
        sure = agrees(scene, reading) and reading.cleanliness >= 0.99
        exact += sure and same_scene(scene, reading, tolerance=1.0)
    return exact


@pytest.mark.parametrize(("height", "width", "scale"), CANVASES)
def test_renderings_are_read_back(height: int, width: int, scale: int) -> None:
    assert exact_readings(height, width, scale, 400) >= 399


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "scale"), CANVASES)
def test_thousands_of_renderings_are_read_back(height: int, width: int, scale: int) -> None:
    assert exact_readings(height, width, scale, 5000) >= 4995


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_kind_is_read_back_on_every_background(background: str) -> None:
    for shape in SHAPES:
        for color in COLORS:
            for size, pattern in zip(SIZES, PATTERNS[:: 1 if color < "p" else -1], strict=True):
                thing = Thing(shape, color, size, pattern, 20.5, 27.0)
                reading = read(render(Scene((thing,), background, 48, 48)))
                (found,) = reading.things
                assert (found.kind, reading.background) == (thing.kind, background)
                assert (found.x, found.y) == (thing.x, thing.y)
                assert found.confidence >= 0.9


@pytest.mark.parametrize(
    ("damage", "rate"),
    [
        (damage_mildly, 0.99),
        (damage_by_low_pass, 0.99),
        (damage_by_wobbly_background, 0.98),
        (damage_by_strong_blur, 0.97),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(56, 56), (48, 48)])
def test_damaged_pictures_are_still_read(
    damage: Callable[[Scene, np.random.Generator], NDArray], rate: float, height: int, width: int
) -> None:
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, height, width, split="test") for _ in range(100)]
    assert sum(agrees(scene, read(damage(scene, rng))) for scene in scenes) >= rate * len(scenes)


def test_neighbors_that_a_blur_joins_are_read_apart() -> None:
    circle = Thing("circle", "blue", "large", "plain", 15.0, 24.0)
    scene = Scene(
        (circle, Thing("ring", "purple", "large", "striped", 37.5, 24.0)), "white", 48, 64
    )
    assert agrees(scene, read(noisy(blurred(render(scene), 1.5), np.random.default_rng(0), 3)))


def test_a_thing_with_a_thin_gap_is_still_one_thing() -> None:
    scene = lone("hourglass", pattern="striped")
    image = render(scene)
    image[28:30] = BACKGROUND_PALETTE["white"]
    (thing,) = read(image).things
    assert thing.kind == scene.things[0].kind


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_blank_picture_has_no_things(background: str) -> None:
    blank = np.full((56, 56, 3), BACKGROUND_PALETTE[background], dtype=np.uint8)
    assert read(blank) == Reading((), background, 1.0)
    assert read(noisy(blank, np.random.default_rng(0), 6)).things == ()


def test_specks_are_no_things_but_unclean() -> None:
    image = render(lone())
    image[4, 5:8] = (150, 150, 160)
    reading = read(image)
    assert agrees(lone(), reading)
    assert reading.cleanliness < 1


def test_a_blob_is_read_without_confidence() -> None:
    image = render(lone())
    image[3:7, 3:9] = (20, 20, 20)
    reading = read(image)
    assert sorted(thing.confidence >= 0.5 for thing in reading.things) == [False, True]
    assert not agrees(lone(), reading)


def test_noise_is_not_clean() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (56, 56, 3), dtype=np.uint8)
    reading = read(image)
    assert reading.cleanliness < 0.1
    assert all(thing.confidence < 0.5 for thing in reading.things)


def test_cleanliness_falls_with_damage() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        image = render(sample_scene(rng, 56, 56, split="test"))
        slight, strong = noisy(blurred(image, 0.5), rng, 4), noisy(blurred(image, 2), rng, 0)
        assert read(image).cleanliness >= 0.99
        assert 0.8 < read(slight).cleanliness < 0.99
        assert read(strong).cleanliness < 0.6


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_half_drawn_thing_is_read_without_confidence(shape: str, pattern: str) -> None:
    scene = lone(shape, pattern=pattern)
    reading = read(half_erased(scene))
    assert reading.things
    assert all(thing.confidence < 0.5 for thing in reading.things)
    assert not agrees(scene, reading)


def test_half_drawn_thing_is_unclean() -> None:
    assert read(half_erased(lone("square"))).cleanliness < 0.6


@pytest.mark.parametrize(
    "change",
    [{"color": "red"}, {"shape": "star"}, {"size": "small"}, {"pattern": "striped"}, {"x": 40.0}],
)
def test_a_copied_source_does_not_agree_with_the_edit(change: dict) -> None:
    source = lone()
    reading = read(render(source))
    assert agrees(source, reading)
    assert not agrees(source.with_thing(0, **change), reading)
    assert not agrees(source.without(0), reading)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Thing("square", "red", "large", "plain", 24.0, 28.0), Thing("circle", "blue", "large", "plain", 34.0, 30.0)),
        (Thing("ring", "teal", "large", "plain", 28.0, 28.0), Thing("star", "pink", "small", "plain", 36.0, 34.0)),
        (Thing("heart", "green", "small", "striped", 24.0, 24.0), Thing("arrow", "green", "small", "plain", 32.0, 30.0)),
        (Thing("square", "blue", "small", "plain", 20.0, 28.0), Thing("square", "blue", "small", "plain", 33.0, 28.0)),
    ],
)  # fmt: skip
def test_overlapping_things_are_read_without_confidence(first: Thing, second: Thing) -> None:
    scene = Scene((first, second), "white", 56, 56)
    reading = read(render(scene))
    assert reading.things
    assert all(thing.confidence < 0.5 for thing in reading.things)
    assert not agrees(scene, reading)


def test_overlaps_of_any_kind_never_agree() -> None:
    rng = np.random.default_rng(4)
    confident = 0
    for _ in range(100):
        a = sample_scene(rng, 56, 56, max_things=1).things[0]
        b = sample_scene(rng, 56, 56, max_things=1).things[0]
        x, y = (min(max(c + rng.integers(5, 11), 12), 44) for c in (a.x, a.y))
        scene = Scene((a, Thing(*b.kind, x=float(x), y=float(y))), "sky", 56, 56)
        if max(abs(x - a.x), abs(y - a.y)) < 5:
            continue
        reading = read(render(scene))
        assert not agrees(scene, reading)
        confident += any(thing.confidence >= 0.5 for thing in reading.things)
    assert confident <= 3


def test_agreement_needs_confidence_count_and_background() -> None:
    scene = lone()
    sure = ReadThing(*scene.things[0].kind, x=29.0, y=27.0, confidence=0.7)
    assert agrees(scene, Reading((sure,), "white", 1.0))
    assert not agrees(scene, Reading((sure,), "white", 1.0), min_confidence=0.8)
    assert not agrees(scene, Reading((sure,), "sky", 1.0))
    assert not agrees(scene, Reading((sure, sure), "white", 1.0))
    assert not agrees(scene, Reading((), "white", 1.0))


def test_reading_is_deterministic_and_leaves_the_picture_alone() -> None:
    image = noisy(render(lone("moon")), np.random.default_rng(2), 6)
    before = image.copy()
    assert read(image) == read(image)
    assert (image == before).all()


@pytest.mark.parametrize(
    ("image", "scale"),
    [
        (np.zeros((56, 56, 3), dtype=np.float32), 1),
        (np.zeros((56, 56), dtype=np.uint8), 1),
        (np.zeros((3, 56, 56), dtype=np.uint8), 1),
        (np.zeros((0, 56, 3), dtype=np.uint8), 1),
        (np.zeros((57, 56, 3), dtype=np.uint8), 2),
        (np.zeros((56, 56, 3), dtype=np.uint8), 0),
    ],
)
def test_wrong_pictures_raise_one_clear_line(image: NDArray, scale: int) -> None:
    with pytest.raises(ValueError, match=r"^the (picture|sides) .*must be") as error:
        read(image, scale)
    assert "\n" not in str(error.value)
