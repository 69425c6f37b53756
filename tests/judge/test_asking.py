"""What a judge is asked for, and what its endpoint refuses of that."""

from threading import Barrier
from typing import Any

import pytest

from arm.evals.benchmarks import BENCHMARKS
from arm.judge import JudgeConfig, Question
from arm.judge.asking import Asking, Negotiation, in_words
from arm.judge.endpoint import Endpoint
from judge_server import judge_server

TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "max_tokens is deprecated, use max_completion_tokens",
    "body -> max_tokens: Extra inputs are not permitted",
    "Unrecognized request argument supplied: max_tokens",
)
TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
    "`temperature` is deprecated for this model.",
    "invalid temperature: only 1 is allowed for this model",
    "`temperature` must be strictly positive",
    "judge-1 does not support parameters: ['temperature']",
)
THINKING = (
    "Unrecognized request argument supplied: chat_template_kwargs",
    'Unknown name "chat_template_kwargs": Cannot find field.',
)
OTHER = (
    "max_tokens is too large: 500. This model supports at most 400 completion tokens, whereas you provided 500.",
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the messages, "
    "500 in max_tokens). Please reduce the length.",
    "'max_tokens' must be less than or equal to 256",
    "Unsupported image type",
    "the prompt is unsafe",
    "temperature sensors in the picture",
)


class Refusal(Exception):
    def __init__(self, message: str, status_code: int = 400, **details: Any) -> None:
        super().__init__(message)
        self.status_code, self.body = status_code, {"message": message}
        self.param, self.code = details.get("param"), details.get("code")


def learned(message: str, **details: Any) -> tuple[bool, Asking, list[str]]:
    said: list[str] = []
    negotiation = Negotiation(Asking(500, thinking=False, logprobs=True), said.append)
    return negotiation.learn(Refusal(message, **details), negotiation.now), negotiation.now, said


@pytest.mark.parametrize("message", TOKENS)
def test_another_field_for_tokens(message: str):
    again, now, said = learned(message)
    assert (
        again and now.fields()["max_completion_tokens"] == 500 and "max_tokens" not in now.fields()
    )
    assert len(said) == 1 and said[0].endswith(
        "): it is asked with max_completion_tokens from here on"
    )


@pytest.mark.parametrize("message", TEMPERATURE)
def test_no_temperature(message: str):
    again, now, _ = learned(message)
    assert again and now.temperature is None and "temperature" not in now.fields()
    assert now.fields()["max_tokens"] == 500


@pytest.mark.parametrize("message", THINKING)
def test_no_switch_for_thinking(message: str):
    again, now, _ = learned(message)
    assert again and now.thinking is None and "extra_body" not in now.fields()


@pytest.mark.parametrize("message", OTHER)
def test_refusals_of_other_things(message: str):
    again, now, said = learned(message)
    assert not again and now == Asking(500, thinking=False, logprobs=True) and said == []


def test_the_endpoint_names_the_field_apart_from_its_words():
    again, now, _ = learned("Not available.", param="logprobs", code="unsupported_parameter")
    assert again and not now.logprobs
    assert not learned("Not available.", param="model", code="unsupported_parameter")[0]
    assert not learned(TOKENS[0], status_code=500)[0]


def test_a_field_that_was_named_is_kept():
    negotiation = Negotiation(Asking(tokens_field="max_tokens"))
    assert not negotiation.learn(Refusal(TOKENS[0]), negotiation.now)


def refuses_both(body: dict[str, Any], _: int) -> Any:
    if "max_tokens" in body:
        return 400, {}, TOKENS[0]
    if "temperature" in body:
        return 400, {}, TEMPERATURE[0]
    return "yes"


def test_it_is_learned_and_said_once_by_many_threads():
    start = Barrier(4, timeout=10)

    def answer(body: dict[str, Any], number: int) -> Any:
        if number < 4:
            start.wait()
        return refuses_both(body, number)

    said: list[str] = []
    with judge_server(answer) as server:
        config = JudgeConfig(server.url, "judge-1", retries=0, concurrency=4, give_up=1)
        endpoint = Endpoint(config, said.append)
        questions = [Question(f"question {n}", lambda text: True) for n in range(12)]
        replies = endpoint.ask_each(questions, "again")
    assert [reply.text for reply in replies if reply is not None] == ["yes"] * 12
    assert [line.partition(" (")[0] for line in said] == [
        "the judge refuses max_tokens", "the judge refuses temperature",
    ]  # fmt: skip
    assert endpoint.tally.missing == {}
    assert endpoint.negotiation.report() == {
        "max_tokens": 256, "tokens_field": "max_completion_tokens", "temperature": None, "thinking": None,
        "logprobs": False, "refused": {"max_tokens": TOKENS[0], "temperature": TEMPERATURE[0]},
    }  # fmt: skip


def test_an_endpoint_that_refuses_everything_is_left():
    with judge_server(
        lambda body, n: (400, {}, " and ".join(body) + " are not supported")
    ) as server:
        endpoint = Endpoint(JudgeConfig(server.url, "judge-1", retries=0), lambda line: None)
        assert endpoint.ask_each([Question("well?", lambda text: True)], "again") == [None]
        assert len(server.bodies) <= 6


def test_benchmarks_ask_as_their_authors_do():
    asked = {
        name: BENCHMARKS[name].asking for name in ("wise", "wise-verified", "gedit", "imgedit")
    }
    assert asked == {
        "wise": Asking(2000, temperature=0.0), "wise-verified": Asking(500, temperature=0.0, thinking=False),
        "gedit": Asking(1400, temperature=None), "imgedit": Asking(2000, temperature=None),
    }  # fmt: skip
    fields = asked["wise-verified"].fields()
    assert fields == {
        "max_tokens": 500, "temperature": 0.0,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
    }  # fmt: skip
    words = in_words(Negotiation(asked["wise-verified"]).report())
    assert words == "The judge was asked for at most 500 tokens at temperature 0, without thinking."


def test_another_way_of_asking_is_another_question():
    question = Question("well?", lambda text: True)
    ways = (
        Asking(),
        Asking(temperature=None),
        Asking(temperature=1.0),
        Asking(thinking=False),
        Asking(thinking=True),
    )
    keys = {question.key("m", 1, way) for way in ways}
    assert len(keys) == 5
    # A whole reply is the same whatever longer one was allowed.
    assert question.key("m", 1, Asking(900, "max_completion_tokens")) in keys
