"""Noun phrases of the world, and references that fit exactly one thing of a scene.

Captions: many ways to say what a scene shows.

Every caption names all things of its scene; what it leaves out (a size, a place) is free.
A relation of the held-out set is never stated."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from arm.world.sampling import HELD_OUT_COUNTS, HELD_OUT_RELATIONS, pick
from arm.world.scene import Scene, Thing, region, relation_of

NUMBERS = ("zero", "one", "two", "three", "four")
ATTRIBUTES = ("size", "pattern", "color")
"""The order in which adjectives stand before the noun."""


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "ch")) else "s")


def with_article(phrase: str) -> str:
    """'star' -> 'a star', 'orange arch' -> 'an orange arch'."""
    vowel = phrase[0] in "aeiou" or phrase.startswith("hourglass")
    return f"{'an' if vowel else 'a'} {phrase}"


def noun_phrase(thing: Thing, attributes: Iterable[str], noun: str | None = None) -> str:
    """Adjectives and noun without an article; `attributes` are named fields of the thing."""
    chosen = set(attributes)
    words = [getattr(thing, name) for name in ATTRIBUTES if name in chosen]
    return " ".join([*words, noun or thing.shape])


def counted(phrases: Sequence[str]) -> list[str]:
    """Equal phrases joined: ['star', 'ring', 'star'] -> ['two stars', 'a ring']."""
    result = []
    for phrase in dict.fromkeys(phrases):
        n = phrases.count(phrase)
        result.append(with_article(phrase) if n == 1 else f"{NUMBERS[n]} {plural(phrase)}")
    return result


def listed(items: Sequence[str]) -> str:
    """['a', 'b', 'c'] -> 'a , b and c'."""
    if len(items) == 1:
        return items[0]
    return " , ".join(items[:-1]) + " and " + items[-1]


def at_region(region: str) -> str:
    return "in the center" if region == "center" else f"at the {region}"


def references(scene: Scene, index: int, *, with_shape: bool = True) -> list[str]:
    """Noun phrases that fit this thing and no other of the scene, the shortest first.

    with_shape False leaves the shape open ('red thing'), for questions that ask for it.
    """
    thing = scene.things[index]
    others = [other for i, other in enumerate(scene.things) if i != index]
    found = []
    for n in range(len(ATTRIBUTES) + 1):
        for attributes in combinations(ATTRIBUTES, n):
            fields = (*attributes, "shape") if with_shape else attributes
            if any(all(getattr(o, f) == getattr(thing, f) for f in fields) for o in others):
                continue
            if with_shape or attributes:
                found.append(noun_phrase(thing, attributes, None if with_shape else "thing"))
    return found


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
