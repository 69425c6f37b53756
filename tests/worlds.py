"""Random scenes and chains of the world, for tests that need many."""

from functools import lru_cache

import numpy as np

from arm.world.chains import Chain
from arm.world.edits import Edit, sample_edit
from arm.world.sampling import sample_scene
from arm.world.scene import Scene, Thing

GRID = (3, 4)
NUM_CODES = 64


@lru_cache
def training_scenes(count: int) -> tuple[Scene, ...]:
    """Scenes of three aspect ratios that hold training combinations only."""
    rng = np.random.default_rng(11)
    sizes = ((48, 48), (48, 64), (64, 48))
    return tuple(sample_scene(rng, *sizes[i % 3]) for i in range(count))


@lru_cache
def chains(count: int, edits: int = 2) -> tuple[Chain, ...]:
    """Chains of at most `edits` edits, with random codes on a grid of 3 x 4."""
    rng = np.random.default_rng(12)
    found = []
    for first in training_scenes(count):
        scenes, steps = [first], list[Edit]()
        while len(steps) < edits and (step := sample_edit(rng, scenes[-1])) is not None:
            steps.append(step)
            scenes.append(step.target)
        codes = rng.integers(0, NUM_CODES, (len(scenes), *GRID)).astype(np.uint16)
        found.append(Chain(tuple(scenes), tuple(steps), codes))
    return tuple(found)


# What sentences of the world mean, worked out from the scene without the code that made them


def fits_words(thing: Thing, phrase: str) -> bool:
    """Whether 'small red star' or 'striped thing' is true of the thing."""
    *adjectives, noun = phrase.split()
    said = {thing.size, thing.pattern, thing.color}
    return noun in (thing.shape, "thing") and set(adjectives) <= said


def referents(scene: Scene, phrase: str) -> list[int]:
    return [i for i, thing in enumerate(scene.things) if fits_words(thing, phrase)]


def the_one(scene: Scene, phrase: str) -> Thing:
    (index,) = referents(scene, phrase)
    return scene.things[index]


def ninth(thing: Thing, scene: Scene) -> str:
    """The name of the ninth of the picture in which the thing's centre lies."""
    row = (thing.y * 3 >= scene.height) + (thing.y * 3 >= 2 * scene.height)
    column = (thing.x * 3 >= scene.width) + (thing.x * 3 >= 2 * scene.width)
    names = ("top", "", "bottom")[row], ("left", "", "right")[column]
    return " ".join(filter(None, names)) or "center"


def stands(a: Thing, relation: str, b: Thing) -> bool:
    """At least 8 units along the axis of the relation, and no more across it."""
    right, down = b.x - a.x, b.y - a.y
    along, across = (right, down) if relation in ("left of", "right of") else (down, right)
    if relation in ("right of", "below"):
        along = -along
    return along >= 8 and along >= abs(across)


def lies_free(scene: Scene) -> bool:
    """All things at least one unit inside the picture, and frames 1.5 units apart."""
    boxes = [(t.x - t.radius, t.x + t.radius, t.y - t.radius, t.y + t.radius) for t in scene.things]
    inside = all(
        min(x0, y0) >= 1 and x1 <= scene.width - 1 and y1 <= scene.height - 1
        for x0, x1, y0, y1 in boxes
    )
    gaps = [
        max(p[0] - q[1], q[0] - p[1], p[2] - q[3], q[2] - p[3])
        for i, p in enumerate(boxes)
        for q in boxes[:i]
    ]
    return inside and all(gap >= 1.5 for gap in gaps)
