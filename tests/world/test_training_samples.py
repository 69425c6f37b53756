"""Each task's samples: whose turn it is, which picture, and that the words are about that picture."""

import re

import numpy as np
import pytest

from arm.sequence import Image, Sample, Text, Turn
from arm.world.chains import Chain
from arm.world.edits import Edit
from arm.world.language import FACTS
from arm.world.sampling import HELD_OUT_COLORED, HELD_OUT_RELATIONS
from arm.world.scene import COLORS, SHAPES, Scene, Thing
from arm.world.training import (
    ASK,
    DESCRIBE,
    FACTS_PER_SAMPLE,
    QUESTIONS,
    copying,
    draw,
    edit,
    facts,
    interleaved,
    picture,
    prompt_for,
    text,
    understand,
)
from worlds import chains, training_scenes


class Words:
    """One id a sentence, so that a test can read the sentence back."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __call__(self, sentence: str) -> tuple[int, ...]:
        self.sentences.append(sentence)
        return (len(self.sentences) - 1,)

    def said(self, turn: Turn) -> list[str]:
        return [self.sentences[p.ids[0]] for p in turn.parts if isinstance(p, Text)]


def roles(sample: Sample) -> list[str]:
    """'U' and 'A' for who speaks, then 'i' and 't' for the parts."""
    return [
        ("A" if turn.assistant else "U")
        + "".join("i" if isinstance(part, Image) else "t" for part in turn.parts)
        for turn in sample
    ]


def pictures(sample: Sample) -> list[int]:
    """Which pictures of `PAIR` the sample shows, in order."""
    images = [part for turn in sample for part in turn.parts if isinstance(part, Image)]
    return [int(image.codes[0, 0]) for image in images]


RED = Scene((Thing("square", "red", "large", "plain", 20, 20),), "white", 48, 48)
BLUE = RED.with_thing(0, shape="moon", color="blue")
PAIR = Chain(
    (RED, BLUE),
    (Edit("replace", "turn the square into a blue moon", RED, BLUE, (0,)),),
    np.stack([np.full((3, 3), k, dtype=np.uint16) for k in (0, 1)]),
)
"""Picture 0 has codes 0 and one red square, picture 1 has codes 1 and one blue moon."""


def assert_about(sentence: str, index: int) -> None:
    """No word of the other picture's thing."""
    other = ("blue", "moon") if index == 0 else ("red", "square")
    assert not set(sentence.split()) & set(other), sentence


def test_text_and_picture():
    assert text(lambda sentence: (len(sentence), 7), "a star") == Text((6, 7))
    image = picture(PAIR, 1)
    assert image.codes.dtype == np.int64 and (image.codes == 1).all()


def test_facts():
    text_tokenizer, known = Words(), {(fact.subject, fact.value) for fact in FACTS}
    for seed in range(50):
        sample = facts(np.random.default_rng(seed), PAIR, text_tokenizer)
        assert roles(sample) == ["Ut", "At"] * FACTS_PER_SAMPLE
        for question, answer in zip(sample[::2], sample[1::2], strict=True):
            (asked,), (said,) = text_tokenizer.said(question), text_tokenizer.said(answer)
            assert any(s in asked and said.endswith(value) for s, value in known), (asked, said)


def test_understand():
    text_tokenizer, described, nothing = Words(), 0, 0
    for seed in range(300):
        sample = understand(np.random.default_rng(seed), PAIR, text_tokenizer)
        if sample is None:  # all five questions wanted two things to compare
            nothing += 1
            continue
        (shown,) = pictures(sample)
        assert roles(sample)[:2] == ["Uit", "At"]
        assert roles(sample)[2:] == ["Ut", "At"] * (len(sample) // 2 - 1)
        asked = [said for turn in sample[::2] for said in text_tokenizer.said(turn)]
        answers = [said for turn in sample[1::2] for said in text_tokenizer.said(turn)]
        if asked[0] in DESCRIBE:
            described += 1
            assert len(sample) == 2
            assert_about(answers[0], shown)
            assert ("red" if shown == 0 else "blue") in answers[0].split()
        else:
            assert 1 <= len(asked) <= QUESTIONS
        for question, answer in zip(asked, answers, strict=True):
            if question.startswith("what shape"):
                assert answer == ("square", "moon")[shown]
            if re.fullmatch(r"what color is the (\w+ )?(square|moon) \?", question):
                assert answer == ("red", "blue")[shown]
            if question == "how many things are there ?":
                assert answer == "one"
    assert 10 < described < 70  # 12 percent of 300
    assert nothing < 5


def test_draw():
    text_tokenizer, shown = Words(), []
    for seed in range(200):
        sample = draw(np.random.default_rng(seed), PAIR, text_tokenizer)
        assert roles(sample) == ["Ut", "Ai"]
        shown += pictures(sample)
        assert_about(text_tokenizer.said(sample[0])[0], shown[-1])
    assert 60 < sum(shown) < 140


def test_edit():
    text_tokenizer = Words()
    for seed in range(20):
        sample = edit(np.random.default_rng(seed), PAIR, text_tokenizer)
        assert sample is not None and roles(sample) == ["Uit", "Ai"]
        assert pictures(sample) == [0, 1]
        assert text_tokenizer.said(sample[0]) == ["turn the square into a blue moon"]


def test_edit_takes_each_step_of_a_chain():
    text_tokenizer = Words()
    chain = next(chain for chain in chains(9) if len(chain.edits) == 2)
    steps = set()
    for seed in range(30):
        sample = edit(np.random.default_rng(seed), chain, text_tokenizer)
        assert sample is not None
        source, target = (turn.parts[0] for turn in sample)
        assert isinstance(source, Image) and isinstance(target, Image)
        step = next(k for k in range(2) if np.array_equal(source.codes, chain.codes[k]))
        assert np.array_equal(target.codes, chain.codes[step + 1])
        assert text_tokenizer.said(sample[0]) == [chain.edits[step].instruction]
        steps.add(step)
    assert steps == {0, 1}


def test_edit_without_edits():
    single = Chain((RED,), (), PAIR.codes[:1])
    assert edit(np.random.default_rng(0), single, Words()) is None


def test_interleaved():
    text_tokenizer, seen = Words(), set()
    for seed in range(100):
        sample = interleaved(np.random.default_rng(seed), PAIR, text_tokenizer)
        seen.add(tuple(roles(sample)))
        assert pictures(sample) == [0, 1]
        assert_about(text_tokenizer.said(sample[0])[0], 0)
        change = next(k for k, turn in enumerate(sample) if roles((turn,)) == ["Ai"] and k > 1)
        assert text_tokenizer.said(sample[change - 1]) == ["turn the square into a blue moon"]
        for k, turn in enumerate(sample):
            answer = text_tokenizer.said(turn)
            if (
                turn.assistant
                and answer
                and text_tokenizer.said(sample[k - 1])[0].startswith("what shape")
            ):
                assert answer == [("square", "moon")[k > change]]
    question = ("Ut", "At")
    assert ("Ut", "Ai", *question, "Ut", "Ai", *question) in seen
    assert all(whole[:2] == ("Ut", "Ai") and "".join(whole).count("i") == 2 for whole in seen)


def test_interleaved_without_edits():
    single = Chain((RED,), (), PAIR.codes[:1])
    assert roles(interleaved(np.random.default_rng(0), single, Words())) == ["Ut", "Ai"]


# What training may state

NOUN = "|".join(SHAPES)
STATED = re.compile(
    rf"({NOUN})( in the center| at the \w+( \w+)?)? (left of|right of|above|below) an? (?:\w+ )*?({NOUN})\b"
)


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    rng = np.random.default_rng(5)
    return [prompt_for(rng, scene) for scene in training_scenes(500) for _ in range(6)]


def test_prompts_state_no_held_out_pair(prompts: list[str]):
    pairs = re.findall(rf"\b({'|'.join(COLORS)}) ({NOUN})", " / ".join(prompts))
    assert len(set(pairs)) == len(COLORS) * len(SHAPES) - len(HELD_OUT_COLORED)
    assert not set(pairs) & HELD_OUT_COLORED


def test_prompts_state_no_held_out_relation(prompts: list[str]):
    stated = {(m[1], m[4], m[5]) for prompt in prompts for m in STATED.finditer(prompt)}
    assert len(stated) > 50
    assert not stated & HELD_OUT_RELATIONS
    with_relation = [p for p in prompts if re.search("left of|right of|above|below", p)]
    assert all(STATED.search(prompt) for prompt in with_relation)  # the pattern misses none


def test_prompts_name_only_the_facts_of_training(prompts: list[str]):
    said = " / ".join(prompts)
    hidden = [fact.subject for fact in FACTS if not fact.in_pictures]
    shown = [fact.subject for fact in FACTS if fact.in_pictures]
    assert not [subject for subject in hidden if re.search(rf"\b{subject}\b", said)]
    assert len([subject for subject in shown if re.search(rf"\b{subject}\b", said)]) > 10


def test_edits_state_no_held_out_pair():
    said = " / ".join(step.instruction for chain in chains(300) for step in chain.edits)
    pairs = set(re.findall(rf"\b({'|'.join(COLORS)}) ({NOUN})\b", said))
    assert len(pairs) > 50 and not pairs & HELD_OUT_COLORED


def test_copying_asks_for_the_same_picture():
    text_tokenizer, rng = Words(), np.random.default_rng(0)
    shown = set()
    for _ in range(20):
        sample = copying(rng, PAIR, text_tokenizer)
        assert roles(sample) == ["Uit", "Ai"]
        asked, drawn = pictures(sample)
        assert asked == drawn
        assert text_tokenizer.said(sample[0])[0] in ASK
        shown.add(asked)
    assert shown == {0, 1}
