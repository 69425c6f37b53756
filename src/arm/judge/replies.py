"""A judge's replies, kept on disk so that none is paid for twice.

    CACHE/ab/ab12....json   one reply, under the hash of all that the judge was told

A reply that could not be read stays too, with "unreadable": true in its file: to ask again would cost as
much and mostly say the same.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arm.files import write_text


@dataclass(frozen=True)
class Reply:
    """What the judge said, the model that it called itself, and the tokens that it says it took, as
    {"prompt": 900, "completion": 40}; None where it does not say. yes: the probability that it begins with
    yes rather than no, where the endpoint gave the probabilities and one of the two was likely.
    unreadable: it was not in the form that was asked for, even when asked once more.
    """

    text: str
    model: str
    tokens: dict[str, int] | None = None
    yes: float | None = None
    unreadable: bool = False


@dataclass(frozen=True)
class ReplyCache:
    """Replies by key in a directory; None keeps nothing. Many processes may share it."""

    directory: Path | None

    def path(self, key: str) -> Path | None:
        return None if self.directory is None else self.directory / key[:2] / f"{key}.json"

    def read(self, key: str) -> Reply | None:
        """None where there is none, or half a file, or another thing."""
        path = self.path(key)
        try:
            if path is None:
                return None
            reply = Reply(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        values, shapes = (
            (reply.text, reply.model, reply.tokens, reply.yes, reply.unreadable),
            (str, str, dict | None, float | None, bool),
        )
        return reply if all(map(isinstance, values, shapes)) else None

    def write(self, key: str, reply: Reply) -> None:
        path = self.path(key)
        if path is None:
            return
        write_text(json.dumps(asdict(reply)), path, shared=True)


@dataclass(frozen=True)
class Answer:
    """One completion of a chat: its text, the model that it names, its tokens, the probability of yes, and
    whether it was cut at the most tokens allowed.
    """

    text: str
    model: str
    tokens: dict[str, int]
    yes: float | None
    cut: bool


def answer_of(completion: Any) -> Answer:
    """From openai's ChatCompletion, which is what the endpoint sent, checked by nobody.

    Raises AttributeError, IndexError, TypeError or ValueError where it is no chat completion.
    """
    choice = completion.choices[0]
    text = _text(choice.message.content)
    cut = getattr(choice, "finish_reason", None) in ("length", "max_tokens")
    model = str(completion.model)[:200]
    return Answer(text, model, tokens_used(completion), yes_probability(completion), cut)


def _text(content: Any) -> str:
    """A message's text; of one in parts, as {"type": "text", "text": ...}, those of text without a thought's."""
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str | None):
        raise TypeError("a reply that is no text")
    return content or ""


def yes_probability(answer: Any) -> float | None:
    """p(yes) / (p(yes) + p(no)) of an answer's first token; None where neither is among the likely ones."""
    try:
        likely = answer.choices[0].logprobs.content[0].top_logprobs
        found = [(token.token.strip().lower(), math.exp(token.logprob)) for token in likely]
    except (AttributeError, IndexError, TypeError):
        return None
    yes, no = (sum(p for word, p in found if word == said) for said in ("yes", "no"))
    return yes / (yes + no) if yes + no else None


def tokens_used(answer: Any) -> dict[str, int]:
    """What an answer says it took; {} where it does not."""
    usage = getattr(answer, "usage", None)
    counts = {name: getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion")}
    return {name: count for name, count in counts.items() if isinstance(count, int)}
