"""The conversation format: what a record becomes, and that faults are named by place and key."""

import math
from typing import Any

import numpy as np
import pytest

from arm.data.conversation import (
    Conversation,
    Message,
    caption_of,
    parse_conversation,
    task_of,
    to_record,
    to_sample,
)
from arm.errors import DataError
from arm.sequence import Image, Text, assistant, user
from user_data import DRAWING, EDITING, INTERLEAVED, RECORDS, SHORT, TASKS, TEXT, turn


def test_an_edit_by_hand():
    assert parse_conversation(EDITING, "train.jsonl:12") == Conversation(
        "edit-1",
        (Message("user", (0, "make it blue")), Message("assistant", (1,), 0.5)),
        ("red.png", "blue.png"),
        (True, None),
    )


def test_words_and_pictures_in_any_order():
    (page,) = parse_conversation(INTERLEAVED, "x:1").messages
    assert page.parts == ("first", 0, "then", 1, "at last")
    record = {
        "messages": [turn("user", " a <image><image> b "), turn("assistant", "c\n <image>")],
        "images": ["1", "2", "3"],
    }
    asked, answer = parse_conversation(record, "x:1").messages
    assert asked.parts == ("a", 0, 1, "b") and answer.parts == ("c", 2)


def test_the_short_form_is_a_drawing():
    conversation = parse_conversation(SHORT, "x:7")
    assert conversation == Conversation(
        "x:7",
        (Message("user", ("a blue square",)), Message("assistant", (0,))),
        ("blue.png",),
        (None,),
    )
    assert caption_of(conversation) == "a blue square"


@pytest.mark.parametrize("record", RECORDS)
def test_only_a_picture_drawn_from_words_has_a_caption(record: dict[str, Any]):
    found = caption_of(parse_conversation(record, "x:1"))
    expected = {id(DRAWING): "a green square", id(SHORT): "a blue square"}
    assert found == expected.get(id(record))


@pytest.mark.parametrize(("record", "task"), [*zip(RECORDS, TASKS, strict=True)])
def test_tasks(record: dict[str, Any], task: str):
    assert task_of(parse_conversation(record, "x:1")) == task


def test_tasks_of_several_turns():
    def said(*contents: str) -> str:
        messages = [turn(("user", "assistant")[i % 2], c) for i, c in enumerate(contents)]
        images = ["x.png"] * sum(c.count("<image>") for c in contents)
        return task_of(parse_conversation({"messages": messages, "images": images}, "x:1"))

    assert said("<image> add a star", "<image>", "and now a ring", "<image>") == "editing"
    assert said("a star", "<image>", "make it red", "<image>") == "interleaved"
    assert said("a star", "here: <image>") == "interleaved"
    assert said("hello", "hi", "<image> what is it?", "a star") == "understanding"
    assert said("hello", "hi") == "text"


@pytest.mark.parametrize("record", RECORDS)
def test_what_is_written_is_read(record: dict[str, Any]):
    conversation = parse_conversation(record, "x:1")
    assert parse_conversation(to_record(conversation), "other:2") == conversation


def test_null_counts_as_absent():
    padded = {
        **TEXT,
        "images": None,
        "image_loss": None,
        "messages": [{**TEXT["messages"][0], "weight": None}],
    }
    assert parse_conversation(padded, "x:1") == parse_conversation(TEXT, "x:1")


def test_a_sample_by_hand():
    codes = [np.array([[1, 2]], np.uint16), np.array([[3], [4]], np.uint16)]
    sample = to_sample(parse_conversation(EDITING, "x:1"), codes, lambda words: (len(words),))
    source, target = Image(np.array([[1, 2]]), True), Image(np.array([[3], [4]]))
    expected = (user(source, Text((12,))), assistant(target, weight=0.5))
    for turn_, right in zip(sample, expected, strict=True):
        assert (turn_.assistant, turn_.weight) == (right.assistant, right.weight)
        for part, other in zip(turn_.parts, right.parts, strict=True):
            if isinstance(other, Text):
                assert part == other
            else:
                assert isinstance(part, Image) and part.loss is other.loss
                assert part.codes.dtype == np.int64 and np.array_equal(part.codes, other.codes)
    with pytest.raises(ValueError, match="1 grids of codes for 2 pictures"):
        to_sample(parse_conversation(EDITING, "x:1"), codes[:1], lambda words: (1,))


USER, ANSWER = turn("user", "hello"), turn("assistant", "hi")


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ([], "a record is a JSON object, not a list; a record needs messages"),
        ({}, "its keys are none; a record needs messages"),
        ({"file": "a", "label": "b"}, "its keys are file, label; a record needs messages"),
        ({**TEXT, "image_los": []}, "a record has no key 'image_los'. Did you mean 'image_loss'?"),
        ({**TEXT, "q": 1}, "a record has no key 'q'. The keys of a record are messages, images"),
        ({**SHORT, "idd": 1}, "a record has no key 'idd'. Did you mean 'id'?"),
        ({**SHORT, "text": "a <image>"}, "text holds <image>; a caption is words alone"),
        ({**SHORT, "text": " "}, "text is empty"),
        ({"messages": "hi"}, "messages must be a list, not text"),
        ({"messages": []}, "messages is empty"),
        ({"messages": ["hi"]}, "messages[0] is text; give role and content"),
        (
            {"messages": [turn("User", "x"), ANSWER]},
            "messages[0].role must be user or assistant, not 'User'. Did you mean 'user'?",
        ),
        ({"messages": [turn("system", "x")]}, "Put a system prompt before the words of the first"),
        (
            {"messages": [USER, {"role": "assistant", "contents": "x"}]},
            "messages[1] has no key 'contents'. Did you mean 'content'?",
        ),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content must be text with <im"),
        ({"messages": [USER, turn("assistant", "")]}, "messages[1].content is empty"),
        ({"messages": [ANSWER, USER]}, "messages[0] is the assistant's where the user's turn is"),
        ({"messages": [USER, USER]}, "messages[1] is the user's where the assistant's turn is"),
        ({"messages": [USER]}, "the last message is the user's; the assistant must answer it"),
        ({"messages": [turn("user", "x", weight=1), ANSWER]}, "messages[0].weight: the user's"),
        (
            {"messages": [USER, turn("assistant", "x", weight=-1)]},
            "messages[1].weight must be a number from 0 up, not -1",
        ),
        ({"messages": [USER, turn("assistant", "x", weight=True)]}, "a number from 0 up, not True"),
        ({"messages": [USER, turn("assistant", "x", weight=math.nan)]}, "from 0 up, not nan"),
        ({"messages": [USER, turn("assistant", "x", weight=10**400)]}, "...0000000"),
        ({**SHORT, "text": "a star \ud83d"}, "text holds '\\ud83d', half a character or a byte"),
        ({**SHORT, "image": "\udce4.png"}, "image holds '\\udce4', half a character or a byte"),
        ({"messages": [turn("assistant", "\ud83d")]}, "messages[0].content holds '\\ud83d'"),
        ({**DRAWING, "images": []}, "1 <image> in messages but 0 in images"),
        ({**TEXT, "images": ["a.png"]}, "0 <image> in messages but 1 in images"),
        ({**DRAWING, "images": [7]}, "images[0] must be text, not a number"),
        ({**DRAWING, "images": "green.png"}, "images must be a list, not text"),
        ({**DRAWING, "image_loss": [True, False]}, "image_loss has 2 entries for 1 images"),
        ({**DRAWING, "image_loss": [1]}, "image_loss[0] must be true, false or null, not a number"),
        ({**TEXT, "id": 1.5}, "id must be text, not a number"),
        ({**TEXT, "id": "\ud83d"}, "id holds '\\ud83d'"),
    ],
)
def test_faults_are_named(record: Any, fault: str):
    with pytest.raises(DataError) as error:
        parse_conversation(record, "train.jsonl:12")
    message = str(error.value)
    assert message.startswith("train.jsonl:12: ") and fault in message and "\n" not in message
