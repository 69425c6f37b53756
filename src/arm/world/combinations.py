"""Combinations that training never sees, so that the held-out split tests composition.

Each word of the world is seen in training; these pairings of them are not. The sets are fixed by
arithmetic on the word lists, not by a random seed.
"""

from collections import Counter
from collections.abc import Iterable

from arm.world.scene import COLORS, RELATIONS, SHAPES, Scene, Thing

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
