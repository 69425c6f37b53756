"""Scenes, regions and relations worked by hand, and the sampler with its hold-outs."""

from collections import Counter

import numpy as np
import pytest

from arm.domain import Split
from arm.world.sampling import (
    DEV,
    HELD_OUT_COLORED,
    HELD_OUT_COUNTS,
    HELD_OUT_RELATIONS,
    HELD_OUT_TOGETHER,
    held_out_scene,
    held_out_shapes,
    held_out_thing,
    sample_scene,
)
from arm.world.scene import (
    BACKGROUNDS,
    COLORS,
    MAX_THINGS,
    PATTERNS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    apart,
    fits,
    holds,
    in_region,
    near,
    region,
    relation_of,
    same_scene,
)


def at(x: float, y: float, shape: str = "circle", size: str = "small") -> Thing:
    return Thing(shape, "red", size, "plain", x, y)


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (1, 1, "top left"),
        (24, 1, "top"),
        (47, 1, "top right"),
        (15.9, 24, "left"),
        (16.1, 24, "center"),
        (40, 24, "right"),
        (3, 32.1, "bottom left"),
        (31.9, 47, "bottom"),
        (48, 48, "bottom right"),
    ],
)
def test_regions_of_a_48_by_48_picture(x: float, y: float, name: str) -> None:
    assert region(x, y, 48, 48) == name
    assert in_region(x, y, name, 48, 48, slack=0)


def test_regions_follow_height_and_width() -> None:
    assert region(22, 20, 48, 64) == "center"
    assert region(20, 22, 48, 64) == "left"
    assert region(20, 20, 64, 48) == "top"


def test_slack_widens_a_region() -> None:
    assert not in_region(18, 8, "top left", 48, 48, slack=1.9)
    assert in_region(18, 8, "top left", 48, 48, slack=2)
    assert not in_region(18, 19, "top left", 48, 48, slack=2)


@pytest.mark.parametrize(
    ("dx", "dy", "relation"),
    [
        (8, 0, "left of"),
        (7.5, 0, None),
        (-20, 5, "right of"),
        (5, 20, "above"),
        (-5, -20, "below"),
        (12, -12.5, "below"),
        (7, 7, None),
    ],
)
def test_relation_of_a_pair(dx: float, dy: float, relation: str | None) -> None:
    """The first thing's relation to a second one that lies (dx, dy) from it."""
    assert relation_of(at(24, 24), at(24 + dx, 24 + dy)) == relation


def test_relations_mirror_each_other() -> None:
    rng = np.random.default_rng(0)
    mirror = {"left of": "right of", "above": "below"}
    for x, y in rng.uniform(-30, 30, (200, 2)):
        a, b = at(0, 0), at(float(x), float(y))
        held = [relation for relation in RELATIONS if holds(a, relation, b)]
        assert len(held) <= 1
        for one, other in mirror.items():
            assert holds(a, one, b) == holds(b, other, a)


def test_margin_of_a_relation() -> None:
    assert holds(at(10, 10), "left of", at(14, 10), margin=4)
    assert not holds(at(10, 10), "left of", at(14, 10))


def test_near_is_by_coordinate_and_inclusive() -> None:
    assert near(at(10, 10), at(14, 6))
    assert not near(at(10, 10), at(14.5, 10))
    assert near(at(10, 10), at(11, 10), tolerance=1)


def test_same_scene_ignores_order_but_nothing_else() -> None:
    a, b = at(10, 10), at(34, 30, "star")
    scene = Scene((a, b), "white", 48, 48)
    assert same_scene(scene, Scene((b, a), "white", 48, 48))
    assert same_scene(scene, scene.with_thing(0, x=13.5, y=7.0))
    assert not same_scene(scene, scene.with_thing(0, x=14.5))
    assert not same_scene(scene, scene.with_thing(0, x=12.0), tolerance=1.0)
    assert not same_scene(scene, scene.without(1))
    assert not same_scene(scene, Scene((a, b), "gray", 48, 48))
    for change in ({"shape": "moon"}, {"color": "blue"}, {"size": "large"}, {"pattern": "striped"}):
        assert not same_scene(scene, scene.with_thing(1, **change))


def test_same_scene_pairs_things_one_to_one() -> None:
    twice = Scene((at(10, 10), at(10, 30)), "white", 48, 48)
    assert not same_scene(twice, Scene((at(10, 10), at(10, 12)), "white", 48, 48))
    crossed = Scene((at(10, 30), at(10, 10)), "white", 48, 48)
    assert same_scene(twice, crossed, tolerance=0.0)


def test_apart_needs_the_gap_along_one_axis() -> None:
    assert apart(at(10, 10), at(26.5, 10))
    assert not apart(at(10, 10), at(26, 10))
    assert not apart(at(10, 10), at(25, 25))
    assert apart(at(10, 10), at(29.5, 10, size="large"))
    assert not apart(at(10, 10), at(29, 10, size="large"))
    assert apart(at(10, 10), at(25, 10), gap=0)


def test_fits_inside_with_a_margin_and_alone() -> None:
    assert fits(at(8.5, 8.5), [], 48, 48)
    assert not fits(at(8, 8.5), [], 48, 48)
    assert fits(at(39.5, 39.5), [], 48, 48)
    assert not fits(at(39.5, 40), [], 48, 48)
    assert not fits(at(8.5, 8.5, size="large"), [], 48, 48)
    assert not fits(at(24, 24), [at(30, 30)], 48, 48)
    assert fits(at(24, 24), [at(40.5, 24)], 48, 64)


def test_scene_survives_its_dictionary() -> None:
    scene = Scene((at(10.5, 10), at(34, 30, "star")), "cream", 48, 56)
    assert Scene.from_dict(scene.to_dict()) == scene


def test_edits_return_new_scenes() -> None:
    scene = Scene((at(10, 10), at(34, 30, "star")), "cream", 48, 48)
    assert scene.with_thing(1, color="teal").things[1].kind == ("star", "teal", "small", "plain")
    assert scene.without(0).things == (at(34, 30, "star"),)
    assert scene.things == (at(10, 10), at(34, 30, "star"))


def test_hold_outs_are_few_and_leave_every_word_in_training() -> None:
    assert len(HELD_OUT_COLORED) == len(SHAPES)
    assert {shape for _, shape in HELD_OUT_COLORED} == set(SHAPES)
    assert max(Counter(color for color, _ in HELD_OUT_COLORED).values()) <= 2
    assert all(2 <= count <= MAX_THINGS for count, _ in HELD_OUT_COUNTS)
    assert len({shape for _, shape in HELD_OUT_COUNTS}) == len(HELD_OUT_COUNTS) == 6
    assert len(HELD_OUT_TOGETHER) == 6 and all(len(pair) == 2 for pair in HELD_OUT_TOGETHER)
    assert 0 < len(HELD_OUT_RELATIONS) < 0.2 * len(SHAPES) * (len(SHAPES) - 1) * len(RELATIONS)


def test_held_out_things_and_shapes() -> None:
    color, shape = sorted(HELD_OUT_COLORED)[0]
    assert held_out_thing(Thing(shape, color, "small", "plain", 20, 20))
    free = next(c for c in COLORS if (c, shape) not in HELD_OUT_COLORED)
    assert not held_out_thing(Thing(shape, free, "small", "plain", 20, 20))
    count, counted = sorted(HELD_OUT_COUNTS)[0]
    assert held_out_shapes([counted] * count)
    assert not held_out_shapes([counted])
    assert held_out_shapes([*sorted(HELD_OUT_TOGETHER, key=sorted)[0], "ring"])


@pytest.mark.parametrize(("height", "width"), [(56, 56), (48, 64), (64, 48), (48, 48)])
def test_sampled_scenes_keep_their_split_and_their_rules(height: int, width: int) -> None:
    rng = np.random.default_rng(height + width)
    splits: tuple[Split, ...] = ("train", "dev", "test")
    for split in splits:
        for _ in range(200):
            scene = sample_scene(rng, height, width, split=split)
            shapes = Counter(thing.shape for thing in scene.things)
            combos = {(thing.color, thing.shape) for thing in scene.things} & HELD_OUT_COLORED
            counts = {(n, shape) for shape, n in shapes.items()} & HELD_OUT_COUNTS
            pairs = [pair for pair in HELD_OUT_TOGETHER if pair <= shapes.keys()]
            shown = {*combos, *counts, *(tuple(sorted(pair, key=SHAPES.index)) for pair in pairs)}
            assert bool(shown) == (split != "train") == held_out_scene(scene)
            assert all((combination in DEV) == (split == "dev") for combination in shown)
            assert 1 <= len(scene.things) <= MAX_THINGS
            assert scene.background in BACKGROUNDS
            for i, thing in enumerate(scene.things):
                assert fits(thing, scene.things[:i], height, width)
                assert (2 * thing.x).is_integer() and (2 * thing.y).is_integer()


def test_sampling_is_reproducible_by_seed() -> None:
    def draw(seed: int) -> list[Scene]:
        rng = np.random.default_rng(seed)
        return [sample_scene(rng, 56, 56) for _ in range(20)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_sampling_covers_every_word() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, 56, 56) for _ in range(300)]
    kinds = list(zip(*(thing.kind for scene in scenes for thing in scene.things), strict=True))
    assert [set(words) for words in kinds] == [set(SHAPES), set(COLORS), set(SIZES), set(PATTERNS)]
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}


def test_wanted_kinds_and_background_are_there() -> None:
    rng = np.random.default_rng(1)
    wanted = [("star", "red", None, None), (None, None, "large", "striped")]
    for _ in range(30):
        scene = sample_scene(rng, 56, 56, kinds=wanted, background="sky")
        assert scene.background == "sky" and len(scene.things) == 2
        assert any((thing.shape, thing.color) == ("star", "red") for thing in scene.things)
        assert any((thing.size, thing.pattern) == ("large", "striped") for thing in scene.things)


@pytest.mark.parametrize(
    ("kinds", "height", "split"),
    [
        ([("circle", "red", "large", "plain")] * 3, 24, "train"),
        (
            [(shape, color, None, None) for color, shape in sorted(HELD_OUT_COLORED)[:1]],
            56,
            "train",
        ),
        ([("ring", "green", "small", "plain")], 56, "test"),
        (
            [(shape, color, None, None) for color, shape in sorted(DEV & HELD_OUT_COLORED)],
            56,
            "test",
        ),
    ],
    ids=["no room", "held out in training", "nothing held out", "held out for dev"],
)
def test_impossible_kinds_raise(kinds: list, height: int, split: Split) -> None:
    with pytest.raises(ValueError, match="no scene of"):
        sample_scene(np.random.default_rng(0), height, height, kinds=kinds, split=split)
