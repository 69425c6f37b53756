"""The client of a judge: a local vLLM or SGLang server or a hosted model, by url and name.

What a verdict depends on is pinned: model, rubric, temperature 0, pictures as PNG. A verdict that cannot be
had is missing, never zero: a timeout, a refusal, a cut or an unreadable reply says nothing about the picture.
Nothing is paid twice (`replies.py`), and a judge that went away is not waited for question by question.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from arm.config import MAY_CHANGE
from arm.errors import ArmError
from arm.judge.question import Question
from arm.judge.replies import Reply, ReplyCache, tokens_used, yes_probability

UNREADABLE, STILL_UNREADABLE = "unreadable", "unreadable when asked before, not asked again"
"""Why verdicts are missing, as `Tally.missing` counts them."""
OF_THE_QUESTION = (400, 413, 422)
"""Refusals that say something of one question; the next one may be taken, unless all meet the same words."""
MOST_WORDS = 8
"""So many different messages of one kind of failure are told apart; some endpoints number theirs."""


class JudgeError(ArmError):
    """A judge that cannot be asked at all."""


@dataclass(frozen=True)
class JudgeConfig:
    """Where the judge is and how it is asked.

    url: as http://127.0.0.1:8000/v1. key_env: the environment variable with the key, if it needs
    one. retries: of one request, with growing, jittered pauses that respect Retry-After. min_side:
    smaller pictures are enlarged by a whole factor. cache: a directory, None to keep nothing.
    logprobs: ask for probabilities too (`Reply.yes`); not every endpoint gives them. give_up: after so many
    questions in a row without an answer, retries included, a call asks no more. ask_again: for what could
    not be read when it was asked before, too. answers_as: what the name that the endpoint gives in its
    replies begins with, where that is not `model` (an alias, a deployment).
    """

    url: str = field(metadata=MAY_CHANGE)
    model: str
    key_env: str = field(default="ARM_JUDGE_KEY", metadata=MAY_CHANGE)
    timeout_s: float = field(default=60.0, metadata=MAY_CHANGE)
    retries: int = field(default=4, metadata=MAY_CHANGE)
    concurrency: int = field(default=8, metadata=MAY_CHANGE)
    max_tokens: int = 256
    min_side: int = 256
    cache: Path | None = field(default=None, metadata=MAY_CHANGE)
    logprobs: bool = False
    give_up: int = 16
    ask_again: bool = False
    answers_as: str | None = None

    def __post_init__(self) -> None:
        if not re.match(r"https?://", self.url):
            raise ValueError(f"url must begin with http:// or https://, not {self.url!r}")
        positive = ("timeout_s", "concurrency", "max_tokens", "min_side", "give_up")
        if min(getattr(self, name) for name in positive) <= 0:
            raise ValueError(f"{', '.join(positive[:-1])} and {positive[-1]} must be positive")
        if self.retries < 0:
            raise ValueError("retries must not be negative")


class Tally:
    """What asking cost, and why verdicts are missing; counted by many threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, what: Literal["requests", "cached", "asked_again"]) -> None:
        with self._lock:
            self.counts[what] += 1

    def spend(self, tokens: Mapping[str, int]) -> None:
        with self._lock:
            self.tokens.update(tokens)

    def miss(self, why: str, words: str = "") -> None:
        """words: of the endpoint, told beside `why` for the first MOST_WORDS that differ."""
        with self._lock:
            known = [told for told in self.missing if told.startswith(f"{why}: ")]
            told = f"{why}: {words}" if words else why
            self.missing[told if told in known or len(known) < MOST_WORDS else why] += 1


class Outage:
    """Whether a judge stopped answering, in one call's own eyes: `most` questions in a row failed, or met
    one and the same refusal.
    """

    def __init__(self, most: int) -> None:
        self._most, self._failed, self._answered = most, 0, 0
        self._refused, self._alike = "", 0
        self._reason: str | None = None
        self._lock = Lock()

    def answered(self) -> None:
        with self._lock:
            self._answered, self._failed, self._alike = self._answered + 1, 0, 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            if self._failed >= self._most:
                self._end(f"the judge stopped answering after {self._answered:,} questions")

    def refused(self, why: str) -> None:
        """One question; the same `why` to many is of the endpoint."""
        with self._lock:
            self._alike = self._alike + 1 if why == self._refused else 1
            self._refused = why
            if self._alike >= self._most:
                self._end(f"{self._alike:,} questions in a row met '{why}'")

    def _end(self, why: str) -> None:
        self._reason = self._reason or f"not asked, {why}; the next run asks them alone"

    @property
    def reason(self) -> str | None:
        """Why nothing more is asked; None while the judge may be asked."""
        return self._reason


class Endpoint:
    """Asks one model. Safe to use again after a failure: what is kept is not asked again."""

    def __init__(self, config: JudgeConfig) -> None:
        self.config, self.tally = config, Tally()
        self.replies = ReplyCache(config.cache)

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            raise JudgeError(
                "a judge needs the openai package: pip install 'arm-lmm[judge]'"
            ) from None
        key = os.environ.get(self.config.key_env, "").strip() or "none"
        if not key.isascii():
            raise JudgeError(f"${self.config.key_env} holds no key: a key is plain ASCII")
        try:
            return openai.OpenAI(
                base_url=self.config.url,
                api_key=key,
                timeout=self.config.timeout_s,
                max_retries=self.config.retries,
            )
        except Exception as error:  # many types, one meaning: the url cannot be taken apart
            raise JudgeError(
                f"'{self.config.url}' is no address ({_first_line(error)}); give one as "
                "http://127.0.0.1:8000/v1"
            ) from None

    def check(self) -> None:
        """Raises JudgeError in one line where the endpoint is down, refuses, or has no such model."""
        client = self._client
        import openai

        where = f"the judge at {self.config.url}"
        try:
            names = [m.id for m in client.with_options(max_retries=1).models.list()]
        except openai.AuthenticationError:
            raise JudgeError(f"{where} refuses the key in ${self.config.key_env}") from None
        except openai.APIConnectionError:
            raise JudgeError(f"{where} does not answer; start it or name another url") from None
        except openai.NotFoundError:
            return  # an endpoint without a list of models: the first question will tell
        except openai.APIError as error:
            raise JudgeError(f"{where} fails: {_first_line(error)}") from None
        except (AttributeError, TypeError, ValueError):
            raise JudgeError(
                f"{where} answers, but not as the OpenAI API does; such a url ends in /v1"
            ) from None
        if self.config.model not in names:
            known = ", ".join(map(str, names[:8])) or "none"
            raise JudgeError(f"{where} has no model '{self.config.model}'; it has {known}")

    def outage(self) -> Outage:
        """What the calls of `ask_each` share that belong to one piece of work."""
        return Outage(self.config.give_up)

    def is_settled(self, question: Question) -> bool:
        """Whether `ask_each` would ask nothing: a reply is kept that can be read, or that could not be
        and is not to be asked for again.
        """
        kept = self.replies.read(self._key(question))
        return kept is not None and (question.readable(kept.text) or self._given_up(kept))

    def ask_each(
        self, questions: Sequence[Question], again: str, outage: Outage | None = None
    ) -> list[Reply | None]:
        """A reply to each question, in order, that can be read; None where it is missing.

        again: what is said, once, after a reply that cannot be read. The same question is asked once,
        however often it stands among them. outage: of the work that this call is a part of; without one
        each call finds out for itself whether the judge is there.
        """
        outage = outage or self.outage()
        keys = [self._key(question) for question in questions]
        asked = dict(zip(keys, questions, strict=True))
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            found = pool.map(lambda key: self._kept_or_asked(key, asked[key], again, outage), asked)
            replies = dict(zip(asked, found, strict=True))
        return [replies[key] for key in keys]

    def _kept_or_asked(
        self, key: str, question: Question, again: str, outage: Outage
    ) -> Reply | None:
        kept = self.replies.read(key)
        if kept is not None and question.readable(kept.text):
            self.tally.count("cached")
            return kept
        if kept is not None and self._given_up(kept):
            self.tally.miss(STILL_UNREADABLE)
            return None
        if outage.reason is not None:
            self.tally.miss(outage.reason)
            return None
        reply = self._ask(question, again, outage)
        if reply is not None:
            self.replies.write(key, reply)
        return None if reply is None or reply.unreadable else reply

    def _given_up(self, kept: Reply) -> bool:
        return kept.unreadable and not self.config.ask_again

    def _ask(self, question: Question, again: str, outage: Outage) -> Reply | None:
        """One question, and once more where the reply cannot be read. A reply that was cut is none."""
        client = self._client
        import openai

        messages = question.messages(self.config.min_side)
        tokens: Counter[str] = Counter()
        for last in (False, True):
            try:
                self.tally.count("requests")
                answer = client.chat.completions.create(
                    model=self.config.model,
                    messages=messages,
                    temperature=0,
                    max_tokens=self.config.max_tokens,
                    **({"logprobs": True, "top_logprobs": 10} if self.config.logprobs else {}),
                )
                text, model = answer.choices[0].message.content or "", str(answer.model)
                cut = getattr(answer.choices[0], "finish_reason", None) == "length"
                if not isinstance(text, str):
                    raise TypeError("a reply that is no text")
                used = tokens_used(answer)
            except openai.APIError as error:
                kind, words = type(error).__name__, _words(error)
                if getattr(error, "status_code", None) in OF_THE_QUESTION:
                    outage.refused(f"{kind}: {words}")
                else:
                    outage.failed()
                self.tally.miss(kind, words)
                return None
            except (AttributeError, IndexError, TypeError, ValueError):
                outage.failed()
                self.tally.miss("no chat completion")
                return None
            tokens.update(used)
            self.tally.spend(used)
            pinned = self.config.answers_as or self.config.model
            if not model.startswith(pinned):
                outage.failed()
                self.tally.miss(
                    f"answered by '{model[:80]}', not '{pinned}'; if that is its name for the judge, add "
                    f"--judge-answers-as '{model[:80]}'"
                )
                return None
            if question.readable(text):
                outage.answered()
                return Reply(text, model, dict(tokens) or None, yes_probability(answer))
            if not last:
                self.tally.count("asked_again")
                said = {"role": "assistant", "content": text}
                messages = [*messages, said, {"role": "user", "content": again}]
        if cut:
            most = self.config.max_tokens
            why = f"the judge's answer was cut at {most:,} tokens, --judge-max-tokens allows more"
            outage.refused(why)
            self.tally.miss(why)
            return None
        outage.answered()
        self.tally.miss(UNREADABLE)
        return Reply(text, model, dict(tokens) or None, unreadable=True)

    def _key(self, question: Question) -> str:
        return question.key(self.config.model, self.config.min_side)


def _words(error: Exception) -> str:
    """The first line of an endpoint's own message, shortened; "" where it sent none."""
    if getattr(error, "status_code", None) is None:
        return ""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, Mapping) else None
    return _first_line(said or body or error)


def _first_line(error: object) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return "".join(c if c.isprintable() else "?" for c in line)
