"""Facts: right answers, prompts that fit their scenes, and the held-out ones kept apart.

Every question's answer, worked out again from the scene by reading the question."""

import re
from collections import Counter

import numpy as np
import pytest

from arm.world.language import FACTS, Fact, plural
from arm.world.questions import ASKERS, Question, applicable, ask, fact_turn, indirect_caption
from arm.world.scene import COLORS, RELATIONS, SHAPES, Scene, Thing
from worlds import fits_words, ninth, referents, stands, the_one, training_scenes

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


SCENES = training_scenes(1000)
NUMBERS = ("zero", "one", "two", "three", "four")


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


def answer(question: str, scene: Scene) -> str:
    """The answer, from the words of the question and the scene alone."""

    def said(pattern: str) -> list[str] | None:
        match = re.fullmatch(pattern, question)
        return None if match is None else list(match.groups())

    if (at := said(r"(?:is there|do you see) an? (.+?)(?: in the picture)? \?")) is not None:
        return yes(bool(referents(scene, at[0])))
    if said(r"what color is the background \?") is not None:
        return scene.background
    if (at := said(r"what (color|size|shape) is the (.+) \?")) is not None:
        return getattr(the_one(scene, at[1]), at[0])
    if (at := said(r"is the (.+) plain or striped \?")) is not None:
        return the_one(scene, at[0]).pattern
    if (at := said(r"how many (.+) are there \?")) is not None:
        plural = at[0].split()
        noun = {"things": "thing", "arches": "arch", "crosses": "cross", "hourglasses": "hourglass"}
        plural[-1] = noun.get(plural[-1], plural[-1].removesuffix("s"))
        return NUMBERS[sum(fits_words(thing, " ".join(plural)) for thing in scene.things)]
    if (at := said(r"where is the (.+) \?")) is not None:
        return ninth(the_one(scene, at[0]), scene)
    if (at := said(r"is the (.+) larger than the (.+) \?")) is not None:
        first, second = (the_one(scene, phrase) for phrase in at)
        return yes((first.size, second.size) == ("large", "small"))
    if (at := said(rf"is the (.+) ({'|'.join(RELATIONS)}) the (.+) \?")) is not None:
        return yes(stands(the_one(scene, at[0]), at[1], the_one(scene, at[2])))
    raise AssertionError(f"no such question: {question}")


def ask_all(kind: str) -> list[tuple[Question, Scene]]:
    rng = np.random.default_rng(3)
    asked = [(ask(rng, scene, kind), scene) for scene in SCENES]
    return [(question, scene) for question, scene in asked if question is not None]


@pytest.mark.parametrize("kind", list(ASKERS))
def test_every_answer_is_right(kind: str):
    asked = ask_all(kind)
    assert len(asked) > 500
    for question, scene in asked:
        assert question.kind == kind
        assert question.answer == answer(question.text, scene), (question, scene)


@pytest.mark.parametrize("kind", ["existence", "comparison"])
def test_yes_and_no_are_balanced(kind: str):
    answers = Counter(question.answer for question, _ in ask_all(kind))
    assert 0.35 < answers["yes"] / answers.total() < 0.65


def test_a_wrong_combination_differs_in_one_word():
    """'no' is worth something: the picture has the colour or the shape, most of the time."""
    near = []
    for question, scene in ask_all("existence"):
        match = re.search(rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})", question.text)
        if question.answer == "no" and match is not None:
            near.append(any(t.color == match[1] or t.shape == match[2] for t in scene.things))
    assert len(near) > 200 and all(near)


def test_answers_are_of_many_kinds():
    counts = Counter(question.answer for question, _ in ask_all("count"))
    assert set(counts) == set(NUMBERS)
    assert len({question.answer for question, _ in ask_all("position")}) == 9
    assert {question.answer for question, _ in ask_all("color")} == set(COLORS)
    assert {question.answer for question, _ in ask_all("shape")} == set(SHAPES)


def test_a_question_never_gives_its_answer_away():
    for question, _ in ask_all("color") + ask_all("shape"):
        assert question.answer not in question.text.split()
    for question, _ in ask_all("appearance"):
        if question.text.startswith("is the"):
            assert question.text.split().count(question.answer) == 1  # in '... plain or striped ?'
        else:
            assert question.answer not in question.text.split()


def test_scenes_that_allow_no_question():
    one = Scene((Thing("star", "red", "small", "plain", 20, 20),), "white", 48, 48)
    twins = Scene((*one.things, Thing("star", "red", "small", "plain", 38, 38)), "white", 48, 48)
    rng = np.random.default_rng(0)
    assert ask(rng, one, "comparison") is None
    assert ask(rng, twins, "position") is None and ask(rng, twins, "color") is None


def test_any_kind_is_asked():
    rng = np.random.default_rng(0)
    kinds = {question.kind for scene in SCENES[:200] if (question := ask(rng, scene)) is not None}
    assert kinds == set(ASKERS)
