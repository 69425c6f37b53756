"""Captions: many ways to say what a scene shows.

Every caption names all things of its scene; what it leaves out (a size, a place) is free.
A relation of the held-out set is never stated.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from arm.world.combinations import HELD_OUT_COUNTS, HELD_OUT_RELATIONS
from arm.world.language import at_region, counted, listed, noun_phrase, with_article
from arm.world.sampling import pick
from arm.world.scene import Scene, Thing, region, relation_of

PREFIXES = ("", "", "", "a picture of", "an image of", "draw", "show", "please draw", "create")
BACKGROUND_FORMS = ("on a {} background", "on {}", ", {} background")
ATTRIBUTE_SETS: Sequence[tuple[str, ...]] = (
    (),
    ("color",),
    ("color",),
    ("color",),
    ("size", "color"),
    ("pattern", "color"),
    ("size", "pattern", "color"),
)


def _attributes(rng: np.random.Generator, thing: Thing, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The attributes to say: a plain pattern is mostly left unsaid."""
    if thing.pattern == "plain" and rng.random() < 0.7:
        return tuple(a for a in chosen if a != "pattern")
    return chosen


def _said(phrases: Sequence[str], scene: Scene) -> Counter[tuple[str, str]]:
    """How often each phrase stands for each shape: the counts that a caption states."""
    return Counter(zip(phrases, (thing.shape for thing in scene.things), strict=True))


def _finish(rng: np.random.Generator, body: str, scene: Scene, background: float) -> str:
    if rng.random() < background:
        body = f"{body} {pick(rng, BACKGROUND_FORMS).format(scene.background)}"
    return f"{pick(rng, PREFIXES)} {body}".strip()


def statable_relation(a: Thing, b: Thing) -> str | None:
    """The relation of a to b if there is a clear one that is not held out."""
    relation = relation_of(a, b)
    return None if (a.shape, relation, b.shape) in HELD_OUT_RELATIONS else relation


def short_caption(rng: np.random.Generator, scene: Scene) -> str:
    """A few words: 'two red stars and a ring', 'a star left of a blue ring on a sky background'."""
    chosen = ATTRIBUTE_SETS[int(rng.integers(len(ATTRIBUTE_SETS)))]
    phrases = [noun_phrase(thing, _attributes(rng, thing, chosen)) for thing in scene.things]
    if any((n, s) in HELD_OUT_COUNTS for (_, s), n in _said(phrases, scene).items()):
        # "two red hearts and a heart" states a held-out count of a scene of three: count all hearts.
        phrases = [thing.shape for thing in scene.things]
    if len(scene.things) == 2 and rng.random() < 0.5:
        relation = statable_relation(*scene.things)
        if relation is not None:
            body = f"{with_article(phrases[0])} {relation} {with_article(phrases[1])}"
            return _finish(rng, body, scene, 0.2)
    return _finish(rng, listed(counted(phrases)), scene, 0.3)


def long_caption(rng: np.random.Generator, scene: Scene) -> str:
    """Everything: kind, size and place of each thing, and the background."""
    phrases = []
    for thing in scene.things:
        phrase = noun_phrase(thing, _attributes(rng, thing, ("size", "pattern", "color")))
        place = at_region(region(thing.x, thing.y, scene.height, scene.width))
        phrases.append(f"{with_article(phrase)} {place}")
    return _finish(rng, listed(phrases), scene, 0.85)


def caption(rng: np.random.Generator, scene: Scene) -> str:
    """A short caption (7 of 10) or a long one."""
    return short_caption(rng, scene) if rng.random() < 0.7 else long_caption(rng, scene)
