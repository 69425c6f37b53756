"""Random scenes, and the combinations that training never sees, so that held-out scenes test composition.

Each word of the world is seen in training; the held-out pairings of them are not. They are fixed by
arithmetic on the word lists, not by a random seed, and divided into two halves: choices are made on the
split "dev", and scores are reported on "test".
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from arm.domain import Split
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

Combination = tuple[str | int, ...]
"""(colour, shape), (count, shape), two shapes in the order of SHAPES, or (shape, relation, shape)."""


def _together(pair: Iterable[str]) -> Combination:
    return tuple(sorted(pair, key=SHAPES.index))


def _every_second() -> frozenset[Combination]:
    """Every second combination of each held-out set, and so about half of each."""
    sets: tuple[Iterable[Combination], ...] = (
        HELD_OUT_COLORED,
        HELD_OUT_COUNTS,
        map(_together, HELD_OUT_TOGETHER),
        [(relation, a, b) for a, relation, b in HELD_OUT_RELATIONS],
    )
    chosen = [combination for each in sets for combination in sorted(each)[1::2]]
    # Relations are sorted by relation first, so that each split has as many of each.
    return frozenset(c if len(c) == 2 else (c[1], c[0], c[2]) for c in chosen)


DEV = _every_second()
"""Held-out combinations of the split "dev"; the others are those of "test"."""


def split_of(combinations: Iterable[Combination]) -> Split | None:
    """The split of what shows these held-out combinations: "train" for none, None for some of each half."""
    in_dev = {combination in DEV for combination in combinations}
    if len(in_dev) > 1:
        return None
    return "train" if not in_dev else "dev" if True in in_dev else "test"


def held_out_thing(thing: Thing) -> bool:
    return (thing.color, thing.shape) in HELD_OUT_COLORED


def held_out_combinations(scene: Scene) -> set[Combination]:
    """The held-out combinations that a scene shows; relations are stated, never shown."""
    counts = Counter(thing.shape for thing in scene.things)
    return {
        *((t.color, t.shape) for t in scene.things if held_out_thing(t)),
        *((n, shape) for shape, n in counts.items() if (n, shape) in HELD_OUT_COUNTS),
        *(_together(pair) for pair in HELD_OUT_TOGETHER if pair <= counts.keys()),
    }


def split_of_scenes(*scenes: Scene) -> Split | None:
    """The split of scenes that belong together, such as source and target of an edit; None for no split."""
    return split_of(set().union(*map(held_out_combinations, scenes)))


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
    split: Split = "train",
) -> Scene:
    """A scene of `height` x `width` units.

    kinds: what it must hold (None: 1 to `max_things` things of any kind). split: "train" gives a scene of
    training combinations only, the others one with at least one held-out combination, all of that split.
    Raises ValueError when the kinds cannot be placed or never land in the split asked for.
    """
    colored = [pair for pair in sorted(HELD_OUT_COLORED) if split_of([pair]) == split]
    for _ in range(400):
        wanted = kinds
        if wanted is None:
            wanted = [ANY] * int(rng.integers(1, max_things + 1))
            if split != "train" and rng.random() < 0.8:
                color, shape = colored[int(rng.integers(len(colored)))]
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
        if split_of_scenes(scene) == split:
            return scene
    raise ValueError(f"no scene of {height}x{width} units holds {kinds} in the split {split}")
