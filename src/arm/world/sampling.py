"""Combinations that training never sees, so that the held-out split tests composition.

Each word of the world is seen in training; these pairings of them are not. The sets are fixed by
arithmetic on the word lists, not by a random seed.


Random scenes, from the training combinations or from the held-out ones."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from arm.world.scene import (
    BACKGROUNDS,
    COLORS,
    MAX_THINGS,
    PATTERNS,
    RADIUS,
    REGIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    fits,
)
from arm.world.scene import region as region_at

HELD_OUT_COLORED = frozenset(
    (COLORS[(5 * i + 2) % len(COLORS)], shape) for i, shape in enumerate(SHAPES)
)
"""(colour, shape): one colour of each shape, 12 of 96 pairs."""

HELD_OUT_COUNTS = frozenset((2 + i // 2 % 3, shape) for i, shape in enumerate(SHAPES) if i % 2)
"""(count, shape): for every second shape, one of the counts 2, 3 and 4."""

HELD_OUT_TOGETHER = frozenset(
    frozenset((SHAPES[i], SHAPES[(i + 6) % len(SHAPES)])) for i in range(6)
)
"""Unordered pairs of shapes that never share a picture in training, 6 of 66."""

HELD_OUT_RELATIONS = frozenset(
    (a, RELATIONS[(i + 2 * j) % 4], b)
    for i, a in enumerate(SHAPES)
    for j, b in enumerate(SHAPES)
    if i != j and (3 * i + 2 * j) % 7 == 0
)
"""(shape, relation, shape): never stated in training, though pictures show them."""


def held_out_thing(thing: Thing) -> bool:
    return (thing.color, thing.shape) in HELD_OUT_COLORED


def tells_on_held_out(pictured: Scene, described: Scene) -> bool:
    """Whether "this picture does not show that" would tell on a held-out pair.

    A training picture of one blue thing never shows a heart; counted as a counter-example to the
    words "a heart" it teaches that hearts are not blue, so contrastive losses leave such pairs out.
    """
    if len(pictured.things) != 1 or len(described.things) != 1:
        return False
    return (pictured.things[0].color, described.things[0].shape) in HELD_OUT_COLORED


def held_out_shapes(shapes: Iterable[str]) -> bool:
    """Whether the shapes of one picture hold a held-out count or a held-out pair."""
    counts = Counter(shapes)
    if any((n, shape) in HELD_OUT_COUNTS for shape, n in counts.items()):
        return True
    return any(pair <= counts.keys() for pair in HELD_OUT_TOGETHER)


def held_out_scene(scene: Scene) -> bool:
    """Whether the scene shows any combination that training never sees."""
    return any(held_out_thing(thing) for thing in scene.things) or held_out_shapes(
        thing.shape for thing in scene.things
    )


Kind = tuple[str | None, str | None, str | None, str | None]
"""Shape, colour, size, pattern; None is drawn at random."""

ANY: Kind = (None, None, None, None)


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


RASTER = 2.0
"""Sampled positions are multiples of this many units, half of what `same_scene` tolerates."""


def on_raster(value: float) -> float:
    return RASTER * round(value / RASTER)


def place(
    rng: np.random.Generator,
    kind: tuple[str, str, str, str],
    others: Sequence[Thing],
    height: int,
    width: int,
    region: str | None = None,
    attempts: int = 30,
) -> Thing | None:
    """A thing of this kind at a free position (in the named ninth), or None when none is found."""
    edge = RADIUS[kind[2]] + 1
    low_x, high_x, low_y, high_y = edge, width - edge, edge, height - edge
    if region is not None:
        row, column = divmod(REGIONS.index(region), 3)
        low_x, high_x = max(low_x, column * width / 3), min(high_x, (column + 1) * width / 3)
        low_y, high_y = max(low_y, row * height / 3), min(high_y, (row + 1) * height / 3)
    if low_x > high_x or low_y > high_y:
        return None
    for u, v in rng.random((attempts, 2)):
        x, y = on_raster(low_x + u * (high_x - low_x)), on_raster(low_y + v * (high_y - low_y))
        thing = Thing(*kind, x=x, y=y)
        # The raster may round a position out of the ninth that it was drawn in.
        misplaced = region is not None and region != region_at(x, y, height, width)
        if not misplaced and fits(thing, others, height, width):
            return thing
    return None


def fill(rng: np.random.Generator, kind: Kind) -> tuple[str, str, str, str]:
    shape, color, size, pattern = kind
    return (
        shape or pick(rng, SHAPES),
        color or pick(rng, COLORS),
        size or pick(rng, SIZES),
        pattern or (PATTERNS[0] if rng.random() < 0.65 else PATTERNS[1]),
    )


def sample_scene(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    kinds: Sequence[Kind] | None = None,
    max_things: int = MAX_THINGS,
    background: str | None = None,
    held_out: bool = False,
) -> Scene:
    """A scene of `height` x `width` units.

    kinds: what it must hold (None: 1 to `max_things` things of any kind). held_out False gives a
    scene of training combinations only, True one with at least one held-out combination.
    Raises ValueError when the kinds cannot be placed or never land in the split asked for.
    """
    for _ in range(400):
        wanted = kinds
        if wanted is None:
            wanted = [ANY] * int(rng.integers(1, max_things + 1))
            if held_out and rng.random() < 0.8:
                color, shape = sorted(HELD_OUT_COLORED)[int(rng.integers(len(HELD_OUT_COLORED)))]
                wanted[0] = (shape, color, None, None)
        things: list[Thing] = []
        for kind in wanted:
            thing = place(rng, fill(rng, kind), things, height, width)
            if thing is None:
                break
            things.append(thing)
        if len(things) < len(wanted):
            continue
        order = rng.permutation(len(things))
        scene = Scene(
            tuple(things[i] for i in order), background or pick(rng, BACKGROUNDS), height, width
        )
        if held_out_scene(scene) == held_out:
            return scene
    raise ValueError(f"no scene of {height}x{width} units holds {kinds} with held_out={held_out}")
