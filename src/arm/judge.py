"""A vision-language model as a judge, at any endpoint that speaks the OpenAI chat API.

A local vLLM or SGLang server or a hosted model, by url and name. What a verdict depends on is
pinned: model, rubric, temperature 0, pictures as PNG. A verdict that cannot be had is missing, never
zero: a timeout, a refusal or an unreadable reply says nothing about the picture. Nothing is paid
twice: verdicts are kept under the hash of all that went into them.
"""

import base64
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from arm.errors import ArmError, InputError


class JudgeError(ArmError):
    """A judge that cannot be asked at all."""


@dataclass(frozen=True)
class Rubric:
    """What is judged, each criterion 0 to 10. `version` changes whenever the text does."""

    version: str
    task: str
    criteria: Mapping[str, str]

    def instructions(self) -> str:
        lines = [f'- "{name}": {meaning}' for name, meaning in self.criteria.items()]
        shape = ", ".join(f'"{name}": 0' for name in self.criteria)
        return (
            f"{self.task}\nGive each criterion a number from 0 (fails) to 10 (perfect):\n"
            + "\n".join(lines)
            + f"\nAnswer with one JSON object and nothing else: {{{shape}}}"
        )


DRAWING = Rubric(
    "drawing-1",
    "You see one picture that was made from a prompt. Judge how well it shows what the prompt asks.",
    {
        "objects": "every object that the prompt names is there, in the number it names",
        "attributes": "each object has the colours and other attributes that the prompt gives it",
        "relations": "the objects stand to each other as the prompt says; 10 where it says nothing",
    },
)
EDITING = Rubric(
    "editing-1",
    "You see two pictures: a source, then the same picture after an edit. Judge the edit.",
    {
        "instruction": "the edit does what the instruction asks; an unchanged picture does not",
        "preservation": "whatever the instruction leaves alone is as it was in the source",
        "quality": "the edited picture is clean: whole shapes, no smears, no artefacts",
    },
)
ASK_AGAIN = "That could not be read. Answer with the JSON object alone, every criterion a number from 0 to 10."


@dataclass(frozen=True)
class JudgeConfig:
    """Where the judge is and how it is asked.

    url: as http://127.0.0.1:8000/v1. key_env: the environment variable with the key, if it needs
    one. retries: of one request, with growing, jittered pauses that respect Retry-After. min_side:
    smaller pictures are enlarged by a whole factor. cache: a directory, None to keep nothing.
    logprobs: ask for probabilities too (`Reply.yes`); not every endpoint gives them.
    """

    url: str
    model: str
    key_env: str = "ARM_JUDGE_KEY"
    timeout_s: float = 60.0
    retries: int = 4
    concurrency: int = 8
    max_tokens: int = 256
    min_side: int = 256
    cache: Path | None = None
    logprobs: bool = False

    def __post_init__(self) -> None:
        if not re.match(r"https?://", self.url):
            raise ValueError(f"url must begin with http:// or https://, not {self.url!r}")
        if min(self.timeout_s, self.concurrency, self.max_tokens, self.min_side) <= 0:
            raise ValueError("timeout_s, concurrency, max_tokens and min_side must be positive")
        if self.retries < 0:
            raise ValueError("retries must not be negative")


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to judge: a prompt or instruction, and the pictures in the order the rubric says."""

    text: str
    pictures: tuple[UInt8[np.ndarray, "h w 3"], ...]


@dataclass(frozen=True)
class Reply:
    """What the judge said, the model that it called itself, and the tokens that it says it took, as
    {"prompt": 900, "completion": 40}; None where it does not say. yes: the probability that it begins with
    yes rather than no, where the endpoint gave the probabilities and one of the two was likely.
    """

    text: str
    model: str
    tokens: dict[str, int] | None = None
    yes: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`scores` in [0, 1] by criterion, and the reply they were read from."""

    scores: dict[str, float]
    reply: Reply


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

    def miss(self, why: str) -> None:
        with self._lock:
            self.missing[why] += 1


def read_verdict(reply: str, criteria: Sequence[str]) -> dict[str, float] | None:
    """Scores in [0, 1] from the last JSON object of a reply that has all criteria; None where there
    is none, or where a score is no number from 0 to 10.
    """
    for found in reversed(re.findall(r"\{[^{}]*\}", reply)):
        try:
            values = json.loads(found)
        except json.JSONDecodeError:
            continue
        if not isinstance(values, dict) or not set(criteria) <= values.keys():
            continue
        scores = [values[name] for name in criteria]
        if all(type(s) in (int, float) and 0 <= s <= 10 for s in scores):
            return {name: s / 10 for name, s in zip(criteria, scores, strict=True)}
    return None


def png(picture: UInt8[np.ndarray, "h w 3"], min_side: int) -> bytes:
    """A picture as PNG, enlarged by a whole factor until its shorter side has `min_side` pixels."""
    factor = -(-min_side // min(picture.shape[:2]))
    out = io.BytesIO()
    Pillow.fromarray(picture.repeat(factor, 0).repeat(factor, 1)).save(out, "PNG")
    return out.getvalue()


Messages = list[dict[str, Any]]


def picture_part(data: bytes) -> dict[str, Any]:
    """A PNG file as a part of a message; many messages may share one."""
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def user_message(text: str, pictures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A user's turn of a text and the parts of pictures."""
    return {"role": "user", "content": [{"type": "text", "text": text}, *pictures]}


class Endpoint:
    """Asks one model. Safe to use again after a failure: what is cached is not asked again."""

    def __init__(self, config: JudgeConfig) -> None:
        self.config, self.tally = config, Tally()

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

    def ask_each(
        self,
        questions: Sequence[Messages],
        readers: Sequence[Callable[[str], bool]],
        again: str,
    ) -> list[Reply | None]:
        """A reply to each question, in order, that its reader can read; None where it is missing.

        again: what is said, once, after a reply that cannot be read. The same question is asked once,
        however often it stands among them.
        """
        keys = [self._key(messages) for messages in questions]
        asked = dict(zip(keys, zip(questions, readers, strict=True), strict=True))
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            found = pool.map(lambda key: self._kept_or_asked(key, *asked[key], again), asked)
            replies = dict(zip(asked, found, strict=True))
        return [replies[key] for key in keys]

    def _kept_or_asked(
        self, key: str, messages: Messages, readable: Callable[[str], bool], again: str
    ) -> Reply | None:
        cache = self.config.cache
        path = None if cache is None else cache / key[:2] / f"{key}.json"
        kept = None if path is None else _kept(path)
        if kept is not None and readable(kept.text):
            self.tally.count("cached")
            return kept
        reply = self._ask(messages, readable, again)
        if reply is not None and path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.{get_ident()}.tmp")
            temporary.write_text(json.dumps(asdict(reply)), encoding="utf-8")
            temporary.replace(path)
        return reply

    def _ask(self, messages: Messages, readable: Callable[[str], bool], again: str) -> Reply | None:
        """One question, and once more where the reply cannot be read."""
        client = self._client
        import openai

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
                if not isinstance(text, str):
                    raise TypeError("a reply that is no text")
                used = _tokens(answer)
            except openai.APIError as error:
                self.tally.miss(type(error).__name__)
                return None
            except (AttributeError, IndexError, TypeError, ValueError):
                self.tally.miss("no chat completion")
                return None
            tokens.update(used)
            self.tally.spend(used)
            if not model.startswith(self.config.model):
                self.tally.miss(f"answered by '{model}'")
                return None
            if readable(text):
                return Reply(text, model, dict(tokens) or None, yes_probability(answer))
            if not last:
                self.tally.count("asked_again")
                said = {"role": "assistant", "content": text}
                messages = [*messages, said, {"role": "user", "content": again}]
        self.tally.miss("unreadable")
        return None

    def _key(self, messages: Messages) -> str:
        """The hash of the model and all that it is told, pictures included."""
        told = json.dumps([self.config.model, messages], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


class Judge:
    """Judges cases by one rubric."""

    def __init__(self, config: JudgeConfig, rubric: Rubric) -> None:
        self.endpoint, self.rubric = Endpoint(config), rubric

    def __call__(self, cases: Sequence[Case]) -> list[Verdict | None]:
        """A verdict for each case, in order; None where it is missing."""
        criteria = list(self.rubric.criteria)
        label = "Prompt" if self.rubric is DRAWING else "Instruction"
        min_side = self.endpoint.config.min_side
        questions = [
            [
                {"role": "system", "content": self.rubric.instructions()},
                user_message(
                    f"{label}: {case.text}", [picture_part(png(p, min_side)) for p in case.pictures]
                ),
            ]
            for case in cases
        ]
        readers = [lambda text: read_verdict(text, criteria) is not None] * len(questions)
        replies = self.endpoint.ask_each(questions, readers, ASK_AGAIN)
        verdicts: list[Verdict | None] = []
        for reply in replies:
            scores = None if reply is None else read_verdict(reply.text, criteria)
            verdicts.append(Verdict(scores, reply) if scores and reply else None)
        return verdicts


def _kept(path: Path) -> Reply | None:
    """A reply that was kept; None where there is none, or half a file, or another thing."""
    try:
        reply = Reply(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    values, shapes = (
        (reply.text, reply.model, reply.tokens, reply.yes),
        (str, str, dict | None, float | None),
    )
    return reply if all(map(isinstance, values, shapes)) else None


def yes_probability(answer: Any) -> float | None:
    """p(yes) / (p(yes) + p(no)) of an answer's first token; None where neither is among the likely ones."""
    try:
        likely = answer.choices[0].logprobs.content[0].top_logprobs
        found = [(token.token.strip().lower(), math.exp(token.logprob)) for token in likely]
    except (AttributeError, IndexError, TypeError):
        return None
    yes, no = (sum(p for word, p in found if word == said) for said in ("yes", "no"))
    return yes / (yes + no) if yes + no else None


def _tokens(answer: Any) -> dict[str, int]:
    """What an answer says it took; {} where it does not."""
    usage = getattr(answer, "usage", None)
    counts = {name: getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion")}
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def rubric_named(name: str) -> Rubric:
    """A rubric by its task. Raises InputError for another name."""
    rubrics = {"drawing": DRAWING, "editing": EDITING}
    if name not in rubrics:
        raise InputError(f"there is no rubric '{name}'; there are {', '.join(rubrics)}")
    return rubrics[name]
