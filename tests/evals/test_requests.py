"""What the adapters for other harnesses are made of, without those harnesses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from arm.errors import InputError
from arm.evals import requests
from arm.evals.painting import paint_each
from arm.evals.requests import AnswerOptions
from arm.pipeline import Arm
from arm.sampling import GREEDY, Sampling
from arm.sequence import Image, Text, assistant, flatten, user


@pytest.fixture
def pictures() -> list[Pillow.Image]:
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)
    return [Pillow.fromarray(array) for array in arrays]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, AnswerOptions(64, GREEDY, ())),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 0, "until": ["\n\n", ""]},
         AnswerOptions(16, GREEDY, ("\n\n",))),
        ({"temperature": 0.7, "do_sample": False, "until": "."}, AnswerOptions(64, GREEDY, (".",))),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": 5}, AnswerOptions(64, Sampling(0.7, 5, 0.9))),
        ({"do_sample": True, "temperature": None, "top_p": None}, AnswerOptions()),
    ],
)  # fmt: skip
def test_generation_options(options: dict, expected: AnswerOptions):
    assert requests.answer_options(options) == expected


def test_generation_options_that_do_not_fit():
    with pytest.raises(InputError, match="generation options"):
        requests.answer_options({"temperature": 1, "top_p": 1.5})


def test_pictures_of_harnesses_come_in_every_form(
    arm: Arm, pictures: list[Pillow.Image], tmp_path: Path
):
    picture = pictures[0]
    picture.save(tmp_path / "x.png")
    words = "how many stars are there?"
    expected = requests.as_turn(arm, (picture, words))
    pixels = np.asarray(picture)
    forms = [
        tmp_path / "x.png",
        (tmp_path / "x.png").read_bytes(),
        pixels,
        torch.from_numpy(pixels.copy()),
    ]
    for form in forms:
        turn = requests.as_turn(arm, (form, words))
        first, same = turn.parts[0], expected.parts[0]
        assert isinstance(first, Image) and isinstance(same, Image)
        assert np.array_equal(first.codes, same.codes) and turn.parts[1] == expected.parts[1]
    with pytest.raises(InputError, match=r"a picture is a path, .* not int"):
        requests.as_turn(arm, (5, words))  # type: ignore[arg-type]


def test_an_answer_ends_before_the_first_stop():
    assert requests.cut(" yes . it is\n\nno", ("\n\n", ".")) == "yes"
    assert requests.cut("a star", ()) == "a star"


def test_pictures_stand_where_the_text_says(pictures: list[Pillow.Image]):
    first, second = pictures
    assert requests.interleaved("what is it ?", [first]) == (first, "what is it ?")
    assert requests.interleaved("is <image> or <image> red ?", pictures) == (
        "is ", first, " or ", second, " red ?",
    )  # fmt: skip
    with pytest.raises(InputError, match="the text has 1 <image>, but there are 2 pictures"):
        requests.interleaved("<image> ?", pictures)


def test_pictures_stand_where_their_marks_are():
    pictures = {"<image 2>": 2, "<image 1>": 1}
    text = "<image 1> as <image 2> ?\n(A) <image 1>"
    assert requests.placed(text, pictures) == (1, " as ", 2, " ?\n(A) ", 1)
    assert requests.placed("which ?", pictures) == (2, 1, "which ?")
    assert requests.placed("which <image> ?", {}) == ("which <image> ?",)


def test_messages_of_texts_and_pictures():
    message = [{"type": "image", "value": "a.png"}, {"type": "text", "value": "a star ?"}]
    assert requests.from_message(message) == (Path("a.png"), "a star ?")
    with pytest.raises(InputError, match="not video"):
        requests.from_message([{"type": "video", "value": "a.mp4"}])


def test_turns_keep_the_order_and_the_known_words(arm: Arm, pictures: list[Pillow.Image]):
    turn = requests.as_turn(arm, (pictures[0], "is there ", pictures[1], "a star ?"))
    kinds = [type(part) for part in turn.parts]
    assert kinds == [Image, Text, Image, Text] and not turn.assistant
    assert turn.parts[1] == Text(arm.text_tokenizer.ids("is there"))
    first = turn.parts[0]
    assert isinstance(first, Image)
    np.testing.assert_array_equal(first.codes, arm.encode(pictures[0]))
    told = "is there a Zanzibar star ?"
    with pytest.raises(InputError, match="does not know the word 'zanzibar'"):
        requests.as_turn(arm, (told,))
    known = requests.as_turn(arm, (told,), known_words=True)
    assert known.parts == (Text(arm.text_tokenizer.ids("is there a star ?")),)
    with pytest.raises(InputError, match="knows no word of 'Zanzibar'"):
        requests.as_turn(arm, (pictures[0], "Zanzibar"), known_words=True)
    with pytest.raises(InputError, match="the text is empty"):
        requests.as_turn(arm, (pictures[0],))
    with pytest.raises(InputError, match="not dict"):
        requests.as_turn(arm, ({"array": []}, "a star"))  # type: ignore[arg-type]


def test_answers_are_those_of_the_model_itself(arm: Arm, pictures: list[Pillow.Image]):
    asked = ["is there a star ?", "how many things are there ?"]
    turns = [requests.as_turn(arm, pair) for pair in zip(pictures, asked, strict=True)]
    own = arm.answer_codes([arm.encode(p) for p in pictures], asked, max_text=5)
    assert requests.answer(arm, turns, AnswerOptions(5)) == [text.strip() for text in own]
    assert requests.answer(arm, [], AnswerOptions()) == []


def test_sampled_answers_depend_on_their_place_alone(arm: Arm, pictures: list[Pillow.Image]):
    turn = requests.as_turn(arm, (pictures[0], "is there a star ?"))
    how = AnswerOptions(8, Sampling(1.0))
    together = requests.answer(arm, [turn, turn, turn], how, seed=3)
    apart = [requests.answer(arm, [turn], how, seed=3, first=place)[0] for place in range(3)]
    assert together == apart
    assert requests.answer(arm, [turn, turn], how, seed=3, first=[2, 0]) == [apart[2], apart[0]]
    assert len(set(together)) > 1


def test_pictures_are_those_of_the_model_itself(arm: Arm, pictures: list[Pillow.Image]):
    """Two batches, the second with an edit among drawings."""
    prompts = ["a red star", "a blue ring"]
    turns = [requests.as_turn(arm, (text,)) for text in prompts]
    own = paint_each(arm, arm.draw_prompts(prompts, seed=5))
    change = requests.as_turn(arm, (pictures[0], "make the star green"))
    drawn = requests.draw(arm, turns[:1], seed=5)
    rest = requests.draw(arm, [change, turns[1]], seed=5)
    for found, expected in zip([drawn[0], rest[1]], own, strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)
    codes = arm.edit_codes([arm.encode(pictures[0])], ["make the star green"], seed=5)
    edited = requests.draw(arm, [change], seed=5)[0]
    np.testing.assert_array_equal(np.asarray(edited), paint_each(arm, codes)[0])


def test_a_picture_depends_on_its_place_alone(arm: Arm, pictures: list[Pillow.Image]):
    """Drawings and edits are two batches below, and each turn keeps its place."""
    turns = [
        requests.as_turn(arm, parts)
        for parts in (("a red star",), (pictures[0], "make the star green"), ("a red star",))
    ]
    together = requests.draw_codes(arm, turns, seed=3, first=4)
    for place, (turn, codes) in enumerate(zip(turns, together, strict=True), 4):
        np.testing.assert_array_equal(
            requests.draw_codes(arm, [turn], seed=3, first=place)[0], codes
        )
    few = requests.draw_codes(arm, [turns[0], turns[2]], seed=3, first=[4, 6])
    np.testing.assert_array_equal(few, [together[0], together[2]])
    assert (together[0] != together[2]).any()


def test_likelihoods_by_one_word_at_a_time(arm: Arm, pictures: list[Pillow.Image]):
    """Each word scored from a sequence of its own, the slow way; two lengths in one batch."""
    turn = requests.as_turn(arm, (pictures[0], "is there a star ?"))
    said = ["yes", "a red star"]
    found = requests.likelihoods(arm, [turn, turn], said)
    vocab = arm.vocab
    for text, (logprob, greedy) in zip(said, found, strict=True):
        total, likeliest, ids = 0.0, True, arm.text_tokenizer.ids(text)
        for n, wanted in enumerate(ids):
            # Without what is yet to be said, and without the <end> of the answer.
            stream = flatten((turn, assistant(Text(ids[:n]))), vocab)
            fields = (stream.ids, stream.codes, stream.rows, stream.cols, stream.positions)
            *tokens, positions = (torch.from_numpy(f)[None, :-1] for f in fields)
            with torch.no_grad():
                logits = arm.model.text_logits(arm.model(arm.model.embed(*tokens), positions))
            ends = [*range(vocab.text_size), vocab.end]
            logprobs = logits[0, -1, ends].log_softmax(-1)
            total += float(logprobs[wanted])
            likeliest &= int(logprobs.argmax()) == wanted
        assert logprob == pytest.approx(total, abs=1e-4)
        assert greedy == likeliest


def test_a_turn_with_a_seed_of_its_own_is_drawn_as_alone(arm: Arm, pictures: list[Pillow.Image]):
    """Drawings of other lengths and an edit in one batch."""
    turns = [
        requests.as_turn(arm, parts)
        for parts in (
            ("a red star",), (pictures[0], "make the star green"),
            ("two blue rings and a moon",), ("a red star",),
        )
    ]  # fmt: skip
    together = requests.draw_codes(arm, turns, seed=[5, 6, 7, 8])
    for turn, seed, codes in zip(turns, [5, 6, 7, 8], together, strict=True):
        np.testing.assert_array_equal(requests.draw_codes(arm, [turn], seed=seed)[0], codes)
    assert (together[0] != together[3]).any()


def test_a_whole_answer_is_likely_with_its_end(arm: Arm, pictures: list[Pillow.Image]):
    turn = requests.as_turn(arm, (pictures[0], "is there a star ?"))
    ids = arm.text_tokenizer.ids("a red star")
    stream = flatten((turn, assistant(Text(ids))), arm.vocab)
    fields = (stream.ids, stream.codes, stream.rows, stream.cols, stream.positions)
    *tokens, positions = (torch.from_numpy(f)[None, :-1] for f in fields)
    with torch.no_grad():
        logits = arm.model.text_logits(arm.model(arm.model.embed(*tokens), positions))[0, -1]
    allowed = [*range(arm.vocab.text_size), arm.vocab.end]
    end = float(logits[allowed].log_softmax(-1)[-1])
    ((first, _),) = requests.likelihoods(arm, [turn], ["a red star"])
    ((whole, _),) = requests.likelihoods(arm, [turn], ["a red star"], whole=True)
    assert whole == pytest.approx(first + end, abs=1e-4) and end < -0.01


def test_what_greedy_answering_says_is_greedy(arm: Arm, pictures: list[Pillow.Image]):
    turn = user(Image(arm.encode(pictures[0])), Text(arm.text_tokenizer.ids("is there a star ?")))
    (said,) = requests.answer(arm, [turn], AnswerOptions(4))
    ((_, greedy),) = requests.likelihoods(arm, [turn], [said or "yes"])
    assert greedy == bool(said)
    with pytest.raises(InputError):
        requests.likelihoods(arm, [turn], [""])


def test_pictures_are_answered_by_paths(tmp_path: Path, pictures: list[Pillow.Image]):
    path = tmp_path / "new/arm_draw_0_0.png"
    requests.save_picture(pictures[0], path)
    assert [p.name for p in path.parent.iterdir()] == ["arm_draw_0_0.png"]
    reply = json.loads(requests.picture_reply([path]))
    assert reply == {"text": "", "images": [str(path)]}
    np.testing.assert_array_equal(np.asarray(Pillow.open(path)), np.asarray(pictures[0]))
