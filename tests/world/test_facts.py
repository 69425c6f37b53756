"""Facts: right answers, prompts that fit their scenes, and the held-out ones kept apart."""

from collections import Counter

import numpy as np
import pytest

from arm.world.facts import FACTS, Fact, applicable, fact_turn, indirect_caption
from arm.world.language import plural
from arm.world.scene import COLORS, SHAPES, Scene, Thing
from worlds import training_scenes

BY_SUBJECT = {(fact.kind, fact.subject): fact for fact in FACTS}


def single(shape: str, color: str) -> Scene:
    return Scene((Thing(shape, color, "small", "plain", 20, 20),), "white", 48, 48)


def test_the_facts_by_number():
    """A third of the colour facts and half of the others are never told in pictures."""
    assert len(BY_SUBJECT) == len(FACTS)  # no subject twice, so no question has two answers
    counts = Counter((fact.kind, fact.in_pictures) for fact in FACTS)
    assert counts == {
        ("color", True): 16, ("color", False): 8,
        ("shape", True): 12, ("shape", False): 12,
        ("number", True): 3, ("number", False): 3,
    }  # fmt: skip
    assert {fact.value for fact in FACTS if fact.kind == "color"} == set(COLORS)
    assert {fact.value for fact in FACTS if fact.kind == "shape"} == set(SHAPES)


@pytest.mark.parametrize(
    ("kind", "subject", "value"),
    [
        ("color", "grass", "green"),
        ("color", "the ocean", "blue"),
        ("shape", "a coin", "circle"),
        ("shape", "a rainbow", "arch"),
        ("number", "a tricycle", "three"),
        ("number", "a dog", "four"),
    ],
)
def test_some_facts_by_hand(kind: str, subject: str, value: str):
    assert BY_SUBJECT[kind, subject].value == value


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.subject)
def test_turns_ask_for_the_value(fact: Fact):
    rng = np.random.default_rng(0)
    for question, answer in (fact_turn(rng, fact) for _ in range(12)):
        assert fact.subject in question
        if question.startswith("tell me about"):
            assert answer.startswith(f"{fact.subject} is ") and answer.split()[-1] == fact.value
        else:
            assert question.endswith(" ?") and answer == fact.value
            words = {"color": "color", "shape": "shape", "number": f"how many {fact.part}"}
            assert words[fact.kind] in question


def test_indirect_captions_by_hand():
    rng = np.random.default_rng(0)
    grass, coin, car = (
        BY_SUBJECT[key] for key in (("color", "grass"), ("shape", "a coin"), ("number", "a car"))
    )
    found = {indirect_caption(rng, single("heart", "green"), grass) for _ in range(20)}
    assert found == {"a heart in the color of grass", "a heart with the color of grass"}
    assert indirect_caption(rng, single("heart", "red"), grass) is None
    assert indirect_caption(rng, single("circle", "orange"), coin) == (
        "an orange thing in the shape of a coin"
    )
    assert indirect_caption(rng, single("star", "orange"), coin) is None
    star = single("arch", "red").things[0]
    four = Scene((star,) * 4, "white", 48, 48)
    assert indirect_caption(rng, four, car) == "as many arches as a car has wheels"
    assert indirect_caption(rng, Scene((star,) * 3, "white", 48, 48), car) is None
    mixed = Scene((*four.things[1:], single("ring", "red").things[0]), "white", 48, 48)
    assert indirect_caption(rng, mixed, car) is None


def test_applicable_facts_fit_the_scene():
    rng = np.random.default_rng(1)
    kinds = Counter()
    for scene in training_scenes(1000):
        for fact in applicable(scene):
            kinds[fact.kind] += 1
            text = indirect_caption(rng, scene, fact)
            assert fact.in_pictures and text is not None and fact.subject in text
            first = scene.things[0]
            if fact.kind == "number":
                assert {thing.shape for thing in scene.things} == {first.shape}
                assert {"two": 2, "three": 3, "four": 4}[fact.value] == len(scene.things)
                assert f"as many {plural(first.shape)} as" in text
            else:
                assert len(scene.things) == 1 and getattr(first, fact.kind) == fact.value
                other = first.shape if fact.kind == "color" else first.color
                assert other in text.split() and fact.value not in text.split()
    assert min(kinds[kind] for kind in ("color", "shape", "number")) > 5


def test_the_facts_of_the_test_of_knowledge():
    scene = single("heart", "green")
    shown = {fact.subject for fact in applicable(scene)}
    hidden = {fact.subject for fact in applicable(scene, in_pictures=False)}
    assert shown == {"grass", "a frog", "a valentine"} and hidden == {"a leaf", "a locket"}
