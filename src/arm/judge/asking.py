"""How a judge is asked: length of a reply, temperature, thinking; and what an endpoint refuses of that.

Newer endpoints refuse `max_tokens` for `max_completion_tokens`, or any temperature but their own, and some know
no probabilities or no switch for thinking. The client learns that from the refusal, says so once, asks again
without it, and records it.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Literal

TokensField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True)
class Asking:
    """What a request asks for besides its messages.

    max_tokens: of a reply, its thought included. tokens_field: the name that the endpoint has for that; None for
    max_tokens until the endpoint refuses it. temperature: None leaves it to the endpoint. thinking: whether a
    model that can think does, by its chat template (vLLM, SGLang); None leaves it to the endpoint. logprobs: ask
    for the probabilities of a reply's tokens.
    """

    max_tokens: int = 256
    tokens_field: TokensField | None = None
    temperature: float | None = 0.0
    thinking: bool | None = None
    logprobs: bool = False

    def fields(self) -> dict[str, Any]:
        """As arguments of openai's `chat.completions.create`."""
        fields: dict[str, Any] = {self.tokens_field or "max_tokens": self.max_tokens}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        if self.thinking is not None:
            template = {"enable_thinking": self.thinking}
            fields["extra_body"] = {"chat_template_kwargs": template}
        if self.logprobs:
            fields |= {"logprobs": True, "top_logprobs": 10}
        return fields


_REFUSES = re.compile(
    r"unsupported|not support|n't support|no longer support|not (?:be )?(?:permitted|allowed|accepted|available|valid)"
    r"|unrecogni[sz]ed|unknown|unexpected|extra (?:fields?|inputs?)|deprecated|forbidden|invalid|instead|only"
    r"|strictly positive|must be|cannot be|can't be|not implemented",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(
    r"too (?:large|long|big|high|many)|exceed|context (?:length|window)|maximum (?:context|allowed|value)|at most"
    r"|less than|greater than|<=|positive integer",
    re.IGNORECASE,
)
_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter", "invalid_parameter")


class Negotiation:
    """How one endpoint is asked now, and what it has refused; shared by threads.

    say: is given one line when something is learned, by default written to stderr.
    """

    def __init__(self, wanted: Asking, say: Callable[[str], None] | None = None) -> None:
        self.now = self.wanted = wanted
        self.refused: dict[str, str] = {}
        self._say = say or _to_stderr
        self._lock = Lock()

    def learn(self, error: Any, sent: Asking) -> bool:
        """Whether a question that was refused can be asked in another way, which is then `now`.

        error: openai's APIStatusError. sent: how the question was asked.
        """
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        with self._lock:
            if self.now != sent:  # another thread has learned already
                return True
            name = _refused_name(error, sent)
            change = None if name is None else _without(name, sent)
            if name is None or change is None:
                return False
            self.now, instead = change
            message = _message(error)[:200]
            self.refused[name] = message
        self._say(f"the judge refuses {name} ({message}): it is asked {instead} from here on")
        return True

    def report(self) -> dict[str, Any]:
        """What was asked in the end, and the endpoint's words to what it refused."""
        now = self.now
        return {
            "max_tokens": now.max_tokens,
            "tokens_field": now.tokens_field or "max_tokens",
            "temperature": now.temperature,
            "thinking": now.thinking,
            "logprobs": now.logprobs,
            "refused": dict(self.refused),
        }


def in_words(report: Mapping[str, Any]) -> str:
    """`Negotiation.report` as a sentence."""
    temperature = report["temperature"]
    degree = (
        "the endpoint's own temperature" if temperature is None else f"temperature {temperature:g}"
    )
    thinking = {None: "thinking left to the endpoint", True: "thinking", False: "without thinking"}
    refused = "".join(f"; the endpoint refuses {name}" for name in report["refused"])
    return (
        f"The judge was asked for at most {report['max_tokens']:,} tokens at {degree}, "
        f"{thinking[report['thinking']]}{refused}."
    )


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _message(error: Any) -> str:
    """The endpoint's own words on one printable line."""
    body = getattr(error, "body", None)
    text = body.get("message") if isinstance(body, Mapping) else None
    line = " ".join(str(text or body or error)[:2000].split())
    return "".join(c if c.isprintable() else "?" for c in line)


def _refused_name(error: Any, sent: Asking) -> str | None:
    """The field that an endpoint refuses, of those that were sent; None where it complains of other things."""
    names = [
        *sent.fields(),
        *(("chat_template_kwargs", "enable_thinking") if sent.thinking is not None else ()),
    ]
    message, parameter = _message(error), str(getattr(error, "param", None) or "")
    if getattr(error, "code", None) not in _CODES and not _REFUSES.search(message):
        return None
    places = {n: re.search(rf"(?<![\w]){n}(?![\w])", parameter or message) for n in names}
    if not any(places.values()):
        places = {n: re.search(rf"(?<![\w]){n}(?![\w])", message) for n in names}
    named = {n: place.start() for n, place in places.items() if place is not None}
    if not named:
        return None
    name = min(named, key=lambda n: named[n])
    if name in ("max_tokens", "max_completion_tokens") and _TOO_MANY.search(message):
        return None  # the number is refused, not the field
    return name


def _without(name: str, sent: Asking) -> tuple[Asking, str] | None:
    """How to ask without a field, and that in words; None where it cannot be left out."""
    if name == "max_tokens" and sent.tokens_field is None:
        return replace(sent, tokens_field="max_completion_tokens"), "with max_completion_tokens"
    if name == "temperature":
        return replace(sent, temperature=None), "without a temperature"
    if name in ("logprobs", "top_logprobs"):
        return replace(sent, logprobs=False), "without probabilities"
    if name in ("chat_template_kwargs", "enable_thinking", "extra_body"):
        return replace(sent, thinking=None), "without a switch for thinking"
    return None
