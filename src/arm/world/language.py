"""Noun phrases of the world, and references that fit exactly one thing of a scene."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from arm.world.scene import Scene, Thing

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
