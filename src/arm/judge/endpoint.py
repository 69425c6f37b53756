"""The client of a judge: a local vLLM or SGLang server or a hosted model, by url and name.

What a verdict depends on is pinned: model, rubric, how it is asked (`asking.py`), pictures as PNG. A verdict that
cannot be had is missing, never zero: a timeout, a refusal, a cut or an unreadable reply says nothing about the
picture. Nothing is paid twice (`replies.py`), one request costs no more than `transport.py` allows, and a judge
that went away is not waited for question by question.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from arm.config import MAY_CHANGE
from arm.errors import ArmError, shown
from arm.judge.asking import Asking, Negotiation, TokensField
from arm.judge.question import Messages, Question
from arm.judge.replies import Answer, Reply, ReplyCache, answer_of
from arm.judge.tally import Outage, Tally

UNREADABLE, STILL_UNREADABLE = "unreadable", "unreadable when asked before, not asked again"
"""Reasons for missing verdicts in `Tally.missing`."""
MOST_WAYS = 6
"""At most so many ways of asking are tried for one question."""
REFUSES_ONE = (400, 413, 422)
"""Status codes by which one question is refused; the next may be accepted, unless all meet the same message."""


class JudgeError(ArmError):
    """A judge that cannot be asked at all."""


@dataclass(frozen=True)
class JudgeConfig:
    """Where the judge is and how it is asked.

    url: as http://127.0.0.1:8000/v1. key_env: the environment variable with the key, if it needs
    one. timeout_s: for one request in whole. retries: of one request, with growing, jittered pauses that respect
    Retry-After. max_tokens, tokens_field, temperature, thinking, logprobs: see `Asking`. min_side: smaller
    pictures are enlarged by a whole factor. cache: a directory, None to keep nothing. give_up: after so many
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
    tokens_field: TokensField | None = field(default=None, metadata=MAY_CHANGE)
    temperature: float | None = 0.0
    thinking: bool | None = None
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
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be from 0 to 2, or none, not {self.temperature}")

    @property
    def asking(self) -> Asking:
        return Asking(
            self.max_tokens, self.tokens_field, self.temperature, self.thinking, self.logprobs
        )


class Endpoint:
    """A client of one model at one endpoint. Questions whose replies are kept are not sent again.

    say: receives one line when the endpoint refuses a way of asking; None writes it to stderr.
    """

    def __init__(self, config: JudgeConfig, say: Callable[[str], None] | None = None) -> None:
        self.config, self.tally = config, Tally()
        self.replies = ReplyCache(config.cache)
        self.negotiation = Negotiation(config.asking, say)

    @cached_property
    def _client(self) -> Any:
        try:
            import openai

            from arm.judge.transport import BoundedClient
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
                http_client=BoundedClient(self.config.timeout_s),
            )
        except Exception as error:  # of several types, all for a url that cannot be parsed
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
            raise JudgeError(f"{where} fails: {_message(error) or _first_line(error)}") from None
        except (AttributeError, RecursionError, TypeError, ValueError):
            raise JudgeError(
                f"{where} answers, but not as the OpenAI API does; such a url ends in /v1"
            ) from None
        if self.config.model not in names:
            known = ", ".join(shown(str(name)) for name in names[:8]) or "none"
            raise JudgeError(f"{where} has no model '{self.config.model}'; it has {known}")

    def outage(self) -> Outage:
        """For the calls of `ask_each` that belong together: a judge that stopped is left for all of them."""
        return Outage(self.config.give_up)

    def is_settled(self, question: Question) -> bool:
        """Whether `ask_each` would send nothing: a readable reply is kept, or an unreadable one that is not to be
        asked for again.
        """
        kept = self.replies.read(self._key(question))
        return kept is not None and (question.readable(kept.text) or self._given_up(kept))

    def ask_each(
        self, questions: Sequence[Question], again: str, outage: Outage | None = None
    ) -> list[Reply | None]:
        """A readable reply to each question, in order; None where it is missing.

        again: the message that follows an unreadable reply, once. Equal questions are sent once. outage: that of
        the work this call belongs to; without one each call notices by itself that the judge stopped answering.
        """
        outage = outage or self.outage()
        keys = [self._key(question) for question in questions]
        asked = dict(zip(keys, questions, strict=True))
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            each = pool.map(lambda key: self._kept_or_asked(key, asked[key], again, outage), asked)
            replies = dict(zip(asked, each, strict=True))
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
        """The reply to one question, sent once more where the first reply cannot be read or was cut; None where it
        is missing.
        """
        messages = question.messages(self.config.min_side)
        tokens: Counter[str] = Counter()
        for last in (False, True):
            answer = self._completion(messages, outage)
            if answer is None:
                return None
            tokens.update(answer.tokens)
            self.tally.spend(answer.tokens)
            pinned = self.config.answers_as or self.config.model
            if not answer.model.startswith(pinned):
                outage.failed()
                name = shown(answer.model[:80])
                self.tally.miss(
                    f"answered by '{name}', not '{pinned}'; if that is its name for the judge, add "
                    f"--judge-answers-as '{name}'"
                )
                return None
            if not answer.cut and question.readable(answer.text):
                outage.answered()
                return Reply(answer.text, answer.model, dict(tokens) or None, answer.yes)
            if not last:
                self.tally.count("asked_again")
                said = {"role": "assistant", "content": answer.text}
                messages = [*messages, said, {"role": "user", "content": again}]
        if answer.cut:
            most = self.config.max_tokens
            why = f"the judge's answer was cut at {most:,} tokens, --judge-max-tokens allows more"
            outage.refused(why)
            self.tally.miss(why)
            return None
        outage.answered()
        self.tally.miss(UNREADABLE)
        return Reply(answer.text, answer.model, dict(tokens) or None, unreadable=True)

    def _completion(self, messages: Messages, outage: Outage) -> Answer | None:
        """One answer, asked for in another way where the endpoint refuses the first; None where it is missing."""
        client = self._client
        import openai

        from arm.judge.transport import REFUSED

        for _ in range(MOST_WAYS):
            asking = self.negotiation.now
            try:
                self.tally.count("requests")
                return answer_of(
                    client.chat.completions.create(
                        model=self.config.model, messages=messages, **asking.fields()
                    )
                )
            except openai.APIError as error:
                if self.negotiation.learn(error, asking):
                    continue
                refused = getattr(error, "code", None) == REFUSED
                kind = "reply refused" if refused else type(error).__name__
                if getattr(error, "status_code", None) in REFUSES_ONE:
                    outage.refused(f"{kind}: {_message(error)}")
                else:
                    outage.failed()
                self.tally.miss(kind, _message(error))
                return None
            except (AttributeError, IndexError, RecursionError, TypeError, ValueError):
                outage.failed()
                self.tally.miss("no chat completion")
                return None
        outage.failed()
        self.tally.miss("the endpoint refuses every way of asking")
        return None

    def _key(self, question: Question) -> str:
        return question.key(self.config.model, self.config.min_side, self.config.asking)


def _message(error: Exception) -> str:
    """The first line of the endpoint's own message, shortened; "" where the error is none of the endpoint's."""
    if getattr(error, "status_code", None) is None:
        return ""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, Mapping) else None
    return _first_line(message or body or error)


def _first_line(error: object) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return "".join(c if c.isprintable() else "?" for c in line)
