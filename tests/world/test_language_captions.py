"""Captions read back by a grammar of their own: they say all things, and nothing that is not so."""

import re
from itertools import permutations

import numpy as np
import pytest

from arm.world.language import caption, long_caption, short_caption, statable_relation
from arm.world.sampling import HELD_OUT_COUNTS, HELD_OUT_RELATIONS, sample_scene
from arm.world.scene import RELATIONS, Scene, Thing
from worlds import fits_words, ninth, stands, training_scenes

SCENES = training_scenes(1000)
COUNTS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
PREFIX = re.compile(r"^(a picture of|an image of|please draw|draw|show|create) ")
BACKGROUND = re.compile(r" (?:on a (\w+) background|on (\w+)|, (\w+) background)$")
PLACE = re.compile(r" (?:at the|in the) (.+)$")


def stripped(text: str, scene: Scene) -> str:
    """The body, after a check of the background that the caption names."""
    text = PREFIX.sub("", text)
    if (named := BACKGROUND.search(text)) is not None:
        assert scene.background in named.groups()
        text = text[: named.start()]
    return text


def items(body: str) -> list[tuple[int, str, str | None]]:
    """Count, singular phrase and place of each item."""
    found = []
    for item in re.split(r" , | and ", body):
        place = PLACE.search(item)
        count, phrase = (item[: place.start()] if place else item).split(" ", 1)
        if COUNTS[count] > 1:
            phrase = re.sub(r"(?<=ch|ss)es$|s$", "", phrase)
        found.append((COUNTS[count], phrase, place[1] if place else None))
    return found


def assert_says_all(body: str, scene: Scene) -> None:
    said = [(phrase, place) for n, phrase, place in items(body) for _ in range(n)]
    assert len(said) == len(scene.things), body

    def true(thing: Thing, phrase: str, place: str | None) -> bool:
        return fits_words(thing, phrase) and place in (None, ninth(thing, scene))

    assert any(
        all(true(thing, *one) for thing, one in zip(order, said, strict=True))
        for order in permutations(scene.things)
    ), (body, scene)


def test_long_captions_place_every_thing():
    rng = np.random.default_rng(2)
    for scene in SCENES:
        body = stripped(long_caption(rng, scene), scene)
        assert_says_all(body, scene)
        for (_, phrase, place), thing in zip(items(body), scene.things, strict=True):
            assert place == ninth(thing, scene)
            assert {thing.size, thing.color} <= set(phrase.split())
            assert thing.pattern == "plain" or "striped" in phrase


def test_short_captions_are_true_and_complete():
    rng = np.random.default_rng(3)
    relations = set()
    for scene in SCENES * 2:
        body = stripped(short_caption(rng, scene), scene)
        stated = re.fullmatch(rf"an? (.+) ({'|'.join(RELATIONS)}) an? (.+)", body)
        if stated is None:
            assert_says_all(body, scene)
            continue
        a, b = scene.things
        first, relation, second = stated.groups()
        assert fits_words(a, first) and fits_words(b, second) and stands(a, relation, b)
        relations.add((a.shape, relation, b.shape))
    assert len(relations) > 60
    assert not relations & HELD_OUT_RELATIONS


def test_captions_are_short_or_long():
    rng = np.random.default_rng(4)
    found = [caption(rng, scene) for scene in SCENES]
    long = sum(" at the " in text or " in the " in text for text in found)
    assert 225 < long < 375  # 3 of 10, within five standard deviations


def test_a_caption_is_a_function_of_the_generator():
    first, second = (caption(np.random.default_rng(9), SCENES[0]) for _ in range(2))
    assert first == second


def two(a: str, b: str, dx: float, dy: float) -> tuple[Thing, Thing]:
    return (
        Thing(a, "red", "small", "plain", 24, 24),
        Thing(b, "blue", "small", "plain", 24 + dx, 24 + dy),
    )


def test_statable_relations_by_hand():
    assert ("circle", "above", "heart") in HELD_OUT_RELATIONS
    assert ("heart", "below", "circle") in HELD_OUT_RELATIONS
    circle, heart = two("circle", "heart", 3, 16)
    assert statable_relation(circle, heart) is None
    assert statable_relation(heart, circle) is None
    circle, heart = two("circle", "heart", 16, 3)
    assert statable_relation(circle, heart) == "left of"
    assert statable_relation(heart, circle) == "right of"
    assert statable_relation(*two("circle", "heart", 7.5, 0)) is None  # too near to be clear


@pytest.mark.parametrize("relation", RELATIONS)
def test_some_relation_of_each_kind_is_held_out(relation: str):
    assert any(stated == relation for _, stated, _ in HELD_OUT_RELATIONS)
    assert all(a != b for a, _, b in HELD_OUT_RELATIONS)


def test_held_out_counts_are_never_stated():
    """In a scene of three squares, one green, 'two red squares' would state a held-out count."""
    rng = np.random.default_rng(3)
    assert (2, "square") in HELD_OUT_COUNTS
    kinds = [("square", color, None, None) for color in ("red", "red", "green")]
    for _ in range(200):
        said = short_caption(rng, sample_scene(rng, 56, 56, kinds=kinds))
        assert "two" not in said.split(), said
