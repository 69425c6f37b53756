"""Every question's answer, worked out again from the scene by reading the question."""

import re
from collections import Counter

import numpy as np
import pytest

from arm.world.questions import ASKERS, Question, ask
from arm.world.scene import COLORS, RELATIONS, SHAPES, Scene, Thing
from worlds import fits_words, ninth, referents, stands, the_one, training_scenes

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
