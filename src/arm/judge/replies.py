"""A judge's replies, kept on disk so that none is paid for twice.

    CACHE/ab/ab12....json   one reply, named by the hash of everything the judge was sent

A reply that could not be read is kept too, with "unreadable": true in its file: asking again would cost as much
and mostly give the same. `answer_of` checks what an endpoint sends, which may be anything.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arm.files import write_text


@dataclass(frozen=True)
class Reply:
    """A judge's reply to one question.

    text: as sent, thoughts included. model: as the endpoint names it. tokens: those it reports, as
    {"prompt": 900, "completion": 40}; None where it reports none. yes: the probability that the reply begins with
    yes rather than no; None without probabilities, or where neither was likely. unreadable: not in the form
    that was asked for, even when asked once more.
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
        """The reply under a key; None where there is none, or where its file is cut or holds something else."""
        path = self.path(key)
        try:
            if path is None:
                return None
            reply = Reply(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, RecursionError, TypeError, ValueError):
            return None
        values = (reply.text, reply.model, reply.tokens, reply.yes, reply.unreadable)
        types = (str, str, dict | None, float | None, bool)
        return reply if all(map(isinstance, values, types)) else None

    def write(self, key: str, reply: Reply) -> None:
        path = self.path(key)
        if path is None:
            return
        write_text(json.dumps(asdict(reply)), path, shared=True)


@dataclass(frozen=True)
class Answer:
    """One chat completion: text, model, tokens and probability of yes as in `Reply`. cut: whether it ended at the
    token limit.
    """

    text: str
    model: str
    tokens: dict[str, int]
    yes: float | None
    cut: bool


def answer_of(completion: Any) -> Answer:
    """The answer in an openai ChatCompletion, whose fields openai does not check. One that a content filter ended
    has no text.

    Raises AttributeError, IndexError, TypeError or ValueError where it is no chat completion.
    """
    choice = completion.choices[0]
    text = _text(choice.message.content)
    ended = getattr(choice, "finish_reason", None)
    return Answer(
        "" if ended == "content_filter" else text,
        str(completion.model)[:200],
        tokens_used(completion),
        yes_probability(completion),
        cut=ended in ("length", "max_tokens"),
    )


def _text(content: Any) -> str:
    """A message's text; of a list of parts, the text of those of type "text" (others hold a thought)."""
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        content = "".join(part.get("text") for part in content if part.get("type") == "text")
    if not isinstance(content, str | None):
        raise TypeError("the content of a message is no text")
    return content or ""


def yes_probability(completion: Any) -> float | None:
    """p(yes) / (p(yes) + p(no)) at a completion's first token; None where neither is among the likely tokens."""
    try:
        likely = completion.choices[0].logprobs.content[0].top_logprobs
        tokens = [(t.token.strip().lower(), math.exp(t.logprob)) for t in likely]
    except (AttributeError, IndexError, OverflowError, TypeError):
        return None
    yes, no = (sum(p for token, p in tokens if token == word) for word in ("yes", "no"))
    share = yes / (yes + no) if yes + no else math.nan
    return share if 0 <= share <= 1 else None


def tokens_used(completion: Any) -> dict[str, int]:
    """The tokens of prompt and completion as the endpoint reports them; {} where it does not."""
    usage = getattr(completion, "usage", None)
    counts = {name: getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion")}
    return {
        k: count for k, count in counts.items() if isinstance(count, int) and 0 <= count < 2**53
    }
