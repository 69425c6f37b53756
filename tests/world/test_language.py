"""Articles, plurals, lists, and references that fit one thing."""

import re

import numpy as np
import pytest

from arm.models.text import TextTokenizer
from arm.world.edits import EDITORS, sample_edit
from arm.world.language import (
    FACTS,
    at_region,
    build_tokenizer,
    counted,
    listed,
    long_caption,
    noun_phrase,
    plural,
    references,
    short_caption,
    with_article,
)
from arm.world.questions import ASKERS, applicable, ask, fact_turn, indirect_caption
from arm.world.scene import Scene, Thing
from worlds import referents, training_scenes

SCENES = training_scenes(1000)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("arch", "an arch"),
        ("hourglass", "an hourglass"),
        ("ring", "a ring"),
        ("heart", "a heart"),
        ("arrow", "an arrow"),
        ("orange star", "an orange star"),
        ("striped hourglass", "a striped hourglass"),
        ("large arch", "a large arch"),
    ],
)
def test_articles(phrase: str, expected: str):
    assert with_article(phrase) == expected


def test_plurals():
    plurals = "circles squares triangles diamonds stars crosses rings hearts moons arrows hourglasses arches"
    nouns = "circle square triangle diamond star cross ring heart moon arrow hourglass arch"
    assert [plural(noun) for noun in nouns.split()] == plurals.split()
    assert plural("orange arch") == "orange arches"


def test_lists_and_counts():
    assert counted(["star", "ring", "star"]) == ["two stars", "a ring"]
    assert counted(["red arch"] * 4) == ["four red arches"]
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a , b and c"
    assert at_region("center") == "in the center"
    assert at_region("top left") == "at the top left"


def test_noun_phrases_have_a_fixed_order():
    thing = Thing("star", "red", "small", "striped", 10, 10)
    assert noun_phrase(thing, ("color", "size", "pattern")) == "small striped red star"
    assert noun_phrase(thing, ("color",), "thing") == "red thing"
    assert noun_phrase(thing, ()) == "star"


def test_references_by_hand():
    things = (
        Thing("star", "red", "small", "plain", 10, 10),
        Thing("star", "red", "large", "plain", 30, 10),
        Thing("ring", "blue", "large", "plain", 10, 35),
    )
    scene = Scene(things, "white", 48, 48)
    assert references(scene, 0) == [
        "small star",
        "small plain star",
        "small red star",
        "small plain red star",
    ]
    assert references(scene, 2)[:2] == ["ring", "large ring"]
    assert references(scene, 0, with_shape=False)[0] == "small thing"
    assert references(scene, 2, with_shape=False)[0] == "blue thing"
    # twins cannot be told apart
    twins = Scene((things[0], Thing("star", "red", "small", "plain", 30, 30)), "white", 48, 48)
    assert references(twins, 0) == references(twins, 1, with_shape=False) == []


@pytest.mark.parametrize("with_shape", [True, False])
def test_references_fit_one_thing(with_shape: bool):
    for scene in SCENES:
        for index, thing in enumerate(scene.things):
            found = references(scene, index, with_shape=with_shape)
            assert len(found) == len(set(found))
            assert all(referents(scene, phrase) == [index] for phrase in found)
            assert all((thing.shape in phrase) == with_shape for phrase in found)
            lengths = [len(phrase.split()) for phrase in found]
            assert lengths == sorted(lengths)
            # where there is none, everything that could be said fits another thing too
            fullest = noun_phrase(
                thing, ("size", "pattern", "color"), None if with_shape else "thing"
            )
            assert bool(found) == (referents(scene, fullest) == [index])


# All sentences of the world


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    rng = np.random.default_rng(1)
    found = []
    for scene in SCENES:
        found += [short_caption(rng, scene), long_caption(rng, scene)]
        asked = [ask(rng, scene, kind) for kind in ASKERS]
        found += [text for q in asked if q is not None for text in (q.text, q.answer)]
        edits = [sample_edit(rng, scene, kind) for kind in EDITORS]
        found += [edit.instruction for edit in edits if edit is not None]
        named = [indirect_caption(rng, scene, fact) for fact in applicable(scene)]
        found += [text for text in named if text is not None]
    for fact in FACTS:
        found += [text for _ in range(8) for text in fact_turn(rng, fact)]
    return found


def test_all_words_are_known(sentences: list[str]):
    text_tokenizer = TextTokenizer(build_tokenizer())
    assert len(set(sentences)) > 5000
    for sentence in set(sentences):
        assert text_tokenizer.text(text_tokenizer.ids(sentence)) == sentence


VOWEL_SOUNDS = {"arch", "arrow", "orange", "hourglass", "image", "eggplant"}


def test_every_article_is_right(sentences: list[str]):
    found = {pair for sentence in sentences for pair in re.findall(r"\b(an?) (\w+)", sentence)}
    assert {word for article, word in found if article == "an"} == VOWEL_SOUNDS
    assert not {word for article, word in found if article == "a"} & VOWEL_SOUNDS
    assert {("a", "ring"), ("a", "heart"), ("a", "small")} <= found


def test_no_double_spaces_and_no_placeholders(sentences: list[str]):
    assert all(sentence == " ".join(sentence.split()) for sentence in sentences)
    assert not [sentence for sentence in sentences if re.search(r"[{}_]|None", sentence)]
