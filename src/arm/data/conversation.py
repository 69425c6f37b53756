"""The one format of users' data: a conversation of words and pictures, whatever the task.

A record is a JSON object (the layout of messages and images that TRL and LLaMA-Factory read too):

    {"messages": [{"role": "user", "content": "<image> make the star green"},
                  {"role": "assistant", "content": "<image>", "weight": 1.0}],
     "images": ["before.png", "after.png"],
     "image_loss": [false, true],
     "id": "edit-17"}

- Each `<image>` stands for the next of `images`. Words and pictures may follow each other in any order;
  blanks beside a picture and at a message's ends are not part of the words.
- The user and the assistant take turns, the user first and the assistant last. A single message of the
  assistant is a document: text alone, or text and pictures as a page has them.
- `weight` (optional, the assistant's messages only) scales the loss of the message.
- `image_loss` (optional): whether a picture's codes are learned. Without it, or where it is null, the
  assistant's are, and the user's are where the run's `Weights.source_code` is above 0.

`{"image": "a.jpg", "text": "a red star"}` is the short form of a picture with its caption. It becomes a
drawing: the user gives the caption, the assistant the picture. Training of the tokenizer reads
the same record as the pair of picture and caption (`caption_of`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from arm.errors import DataError, did_you_mean, not_utf8, shown
from arm.sequence import Image, Part, Sample, Text, Tokenize, Turn

PLACEHOLDER = "<image>"
KEYS = ("messages", "images", "image_loss", "id")
SHORT_KEYS = ("image", "text", "id")
MESSAGE_KEYS = ("role", "content", "weight")
Role = Literal["user", "assistant"]
TaskName = Literal["text", "understanding", "drawing", "editing", "interleaved"]
NEEDED = "a record needs messages (with images for its <image> placeholders), or image and text"


@dataclass(frozen=True)
class Message:
    """A message of one side.

    parts: words, and pictures by their index in the conversation. weight: scales the loss of the message.
    """

    role: Role
    parts: tuple[str | int, ...]
    weight: float = 1.0

    @property
    def content(self) -> str:
        """The message's text as a record has it, with a placeholder for each picture."""
        return "".join(PLACEHOLDER if isinstance(part, int) else part for part in self.parts)


@dataclass(frozen=True)
class Conversation:
    """A parsed record.

    images: the name of each picture. image_loss: of each picture, whether its codes are learned (None: as its side's
    default).
    """

    id: str
    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()
    image_loss: tuple[bool | None, ...] = ()


def parse_conversation(record: object, where: str) -> Conversation:
    """The conversation of a record of either form.

    where: the record's place, as "train.jsonl:12"; every error begins with it, and it is the default id. Keys that
    are null count as absent, as a table has them. Raises DataError that names the place, the key, and what would
    be right.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: a record is a JSON object, not {_type_name(record)}; {NEEDED}")
    given = {str(key): value for key, value in record.items() if value is not None}
    if not is_record(given):
        raise DataError(f"{where}: its keys are {shown(', '.join(given)) or 'none'}; {NEEDED}")
    keys = KEYS if "messages" in given else SHORT_KEYS
    _check_keys(given, keys, where, "a record")
    if keys is SHORT_KEYS:
        image, text = _text(given["image"], where, "image"), _text(given["text"], where, "text")
        if PLACEHOLDER in text:
            raise DataError(f"{where}: text holds {PLACEHOLDER}; a caption is words alone")
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": PLACEHOLDER}]
        given = {"id": given.get("id"), "messages": turns, "images": [image]}
    images = tuple(
        _text(name, where, f"images[{i}]")
        for i, name in enumerate(_list(given.get("images", []), where, "images"))
    )
    return Conversation(
        _id(given.get("id"), where),
        _messages(given["messages"], len(images), where),
        images,
        _image_loss(given.get("image_loss"), len(images), where),
    )


def is_record(keys: Mapping[str, Any] | Sequence[str]) -> bool:
    """Whether these keys are those of a record, of the long form or the short one."""
    return "messages" in keys or ("image" in keys and "text" in keys)


def to_record(conversation: Conversation) -> dict[str, Any]:
    """The JSON object that `parse_conversation` reads as this conversation."""
    messages = [
        {"role": m.role, "content": m.content} | ({} if m.weight == 1 else {"weight": m.weight})
        for m in conversation.messages
    ]
    record: dict[str, Any] = {"id": conversation.id, "messages": messages}
    if conversation.images:
        record["images"] = list(conversation.images)
    if any(loss is not None for loss in conversation.image_loss):
        record["image_loss"] = list(conversation.image_loss)
    return record


def to_sample(
    conversation: Conversation, codes: Sequence[NDArray[Any]], tokenize: Tokenize
) -> Sample:
    """The training sample, with `codes` (H, W) of each picture in the order of `images`."""
    if len(codes) != len(conversation.images):
        raise ValueError(f"{len(codes)} grids of codes for {len(conversation.images)} pictures")

    def part(piece: str | int) -> Part:
        if isinstance(piece, str):
            return Text(tokenize(piece))
        return Image(codes[piece].astype(np.int64), conversation.image_loss[piece])

    return tuple(
        Turn(tuple(map(part, m.parts)), assistant=m.role == "assistant", weight=m.weight)
        for m in conversation.messages
    )


def caption_of(conversation: Conversation) -> str | None:
    """The caption of a conversation that is one picture drawn from words, else None."""
    if len(conversation.images) == 1 and len(conversation.messages) == 2:
        question, answer = conversation.messages
        if answer.parts == (0,):
            return str(question.parts[0])
    return None


def task_of(conversation: Conversation) -> TaskName:
    """The task, by which side has pictures and whether the assistant's have words beside them.

    user: picture + words, assistant: words     -> understanding
    user: words, assistant: picture             -> drawing
    user: picture + words, assistant: picture   -> editing (also in several turns)
    pictures among the assistant's words, drawing in several turns   -> interleaved
    """
    has_picture = {role: False for role in get_args(Role)}
    for message in conversation.messages:
        has_picture[message.role] |= any(isinstance(part, int) for part in message.parts)
    if not has_picture["assistant"]:
        return "understanding" if has_picture["user"] else "text"
    answers = [m for m in conversation.messages if m.role == "assistant"]
    if any(isinstance(part, str) for answer in answers for part in answer.parts):
        return "interleaved"
    if has_picture["user"]:
        return "editing"
    return "drawing" if len(conversation.messages) == 2 else "interleaved"


def _messages(value: object, num_images: int, where: str) -> tuple[Message, ...]:
    """The parsed messages. Raises DataError where their placeholders are not `num_images`."""
    items = _list(value, where, "messages")
    if not items:
        raise DataError(f"{where}: messages is empty; give at least one message")
    messages: list[Message] = []
    used = 0
    for i, item in enumerate(items):
        key = f"messages[{i}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: {key} is {_type_name(item)}; give role and content")
        given = {str(k): v for k, v in item.items() if v is not None}
        _check_keys(given, MESSAGE_KEYS, where, key)
        role = _role(given.get("role"), where, key)
        pieces = _text(given.get("content"), where, f"{key}.content").split(PLACEHOLDER)
        parts: list[str | int] = []
        for k, piece in enumerate(map(str.strip, pieces)):
            if k:
                parts.append(used)
                used += 1
            if piece:
                parts.append(piece)
        messages.append(Message(role, tuple(parts), _weight(given, role, where, key)))
    _check_turns(messages, where)
    if used != num_images:
        raise DataError(
            f"{where}: {used} {PLACEHOLDER} in messages but {num_images} in images; "
            "give one placeholder for each picture"
        )
    return tuple(messages)


def _check_turns(messages: Sequence[Message], where: str) -> None:
    """Raises DataError unless both sides take turns, or one message of the assistant is all."""
    if len(messages) == 1 and messages[0].role == "assistant":
        return
    for i, message in enumerate(messages):
        right = get_args(Role)[i % 2]
        if message.role != right:
            raise DataError(
                f"{where}: messages[{i}] is the {message.role}'s where the {right}'s turn is; the "
                "user speaks first, then both take turns (one message of the assistant alone is a document)"
            )
    if messages[-1].role == "user":
        raise DataError(f"{where}: the last message is the user's; the assistant must answer it")


def _role(value: object, where: str, key: str) -> Role:
    for role in get_args(Role):
        if value == role:
            return role
    hint = did_you_mean(str(value), get_args(Role))
    if value == "system":
        hint = " Put a system prompt before the words of the first user message."
    raise DataError(
        f"{where}: {key}.role must be user or assistant, not {shown(repr(value))}.{hint}"
    )


def _weight(given: Mapping[str, Any], role: Role, where: str, key: str) -> float:
    if "weight" not in given:
        return 1.0
    value = given["weight"]
    if role == "user":
        raise DataError(
            f"{where}: {key}.weight: the user's words carry no loss; weigh the assistant's"
        )
    try:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        weight = float(value) if number else math.nan
    except OverflowError:  # JSON has integers beyond every float
        weight = math.inf
    if not 0 <= weight < math.inf:
        raise DataError(
            f"{where}: {key}.weight must be a number from 0 up, not {shown(repr(value))}"
        )
    return weight


def _image_loss(value: object, num_images: int, where: str) -> tuple[bool | None, ...]:
    if value is None:
        return (None,) * num_images
    flags = _list(value, where, "image_loss")
    if len(flags) != num_images:
        raise DataError(
            f"{where}: image_loss has {len(flags)} entries for {num_images} images; give one each"
        )
    for i, flag in enumerate(flags):
        if not isinstance(flag, bool | None):
            raise DataError(
                f"{where}: image_loss[{i}] must be true, false or null, not {_type_name(flag)}"
            )
    return tuple(flags)


def _id(value: object, where: str) -> str:
    value = where if value is None else value
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where}: id must be text, not {_type_name(value)}")
    return _utf8_text(str(value), where, "id")


def _text(value: object, where: str, key: str) -> str:
    if not isinstance(value, str):
        hint = f" with {PLACEHOLDER} where a picture stands" if key.endswith("content") else ""
        raise DataError(f"{where}: {key} must be text{hint}, not {_type_name(value)}")
    if not value.strip():
        raise DataError(f"{where}: {key} is empty; say something or leave the record out")
    return _utf8_text(value, where, key)


def _utf8_text(text: str, where: str, key: str) -> str:
    """The text, unless it cannot be written as UTF-8 (DataError)."""
    if fault := not_utf8(text):
        raise DataError(f"{where}: {key} {fault}")
    return text


def _list(value: object, where: str, key: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise DataError(f"{where}: {key} must be a list, not {_type_name(value)}")
    return list(value)


def _check_keys(given: Mapping[str, Any], keys: Sequence[str], where: str, what: str) -> None:
    """Raises DataError for a key that is not one of `keys`."""
    for key in given:
        if key not in keys:
            hint = did_you_mean(key, keys) or f" The keys of {what} are {', '.join(keys)}."
            raise DataError(f"{where}: {what} has no key '{shown(key)}'.{hint}")


def _type_name(value: object) -> str:
    """The type of a JSON value, in words."""
    names = {str: "text", bool: "true or false", int: "a number", float: "a number"}
    names |= {list: "a list", tuple: "a list", dict: "an object", type(None): "nothing"}
    return names.get(type(value), re.sub(r"\W", " ", type(value).__name__))
