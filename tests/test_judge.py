"""The judge's client against a real HTTP server that is good, slow, wrong, rate-limiting and dead."""

import base64
import io
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.judge import DRAWING, EDITING, Case, Judge, JudgeConfig, JudgeError, read_verdict
from judge_server import GOOD, Server, good, judge_server

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8) for _ in range(8)]
CASES = [Case(f"a red star number {i}", (p,)) for i, p in enumerate(PICTURES)]
GOOD_SCORES = {"objects": 0.8, "attributes": 1.0, "relations": 0.5}


def judge(server: Server, rubric=DRAWING, **options) -> Judge:
    options = {"retries": 3, "timeout_s": 10.0, "min_side": 16, **options}
    return Judge(JudgeConfig(server.url, "judge-1", **options), rubric)


def test_verdicts_and_what_is_sent():
    with judge_server() as server:
        found = judge(server)(CASES[:1])
        assert found[0] is not None and found[0].scores == GOOD_SCORES
        assert judge(server, EDITING)([Case("remove the star", tuple(PICTURES[:2]))])[0] is not None
    drawing, editing = server.bodies
    assert drawing["model"] == "judge-1" and drawing["temperature"] == 0
    assert "a red star number 0" in drawing["messages"][1]["content"][0]["text"]
    assert len(editing["messages"][1]["content"]) == 3
    url = drawing["messages"][1]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    sent = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    assert sent.shape == (16, 24, 3)
    assert np.array_equal(sent[::2, ::2], PICTURES[0])  # every pixel as it was


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"objects": 8, "attributes": 10, "relations": 5}', GOOD_SCORES),
        ('Sure!\n```json\n{"relations": 5, "objects": 8.0, "attributes": 10}\n```', GOOD_SCORES),
        ('{"objects": 1} no: {"objects": 8, "attributes": 10, "relations": 5, "why": ""}', GOOD_SCORES),
        ('{"objects": 8, "attributes": 10}', None),
        ('{"objects": 11, "attributes": 10, "relations": 5}', None),
        ('{"objects": true, "attributes": 10, "relations": 5}', None),
        ('{"objects": "8", "attributes": 10, "relations": 5}', None),
        ('{"objects": NaN, "attributes": 10, "relations": 5}', None),
        ("The picture is lovely, 9/10.", None),
        ("", None),
    ],
)  # fmt: skip
def test_reading_a_verdict(reply: str, expected: dict[str, float] | None):
    assert read_verdict(reply, list(DRAWING.criteria)) == expected


def test_an_unreadable_reply_is_asked_about_once():
    with judge_server(lambda body, n: "hm" if n == 0 else good(body)) as server:
        asking = judge(server)
        assert asking(CASES[:1])[0] is not None
    assert len(server.bodies) == 2
    assert [m["role"] for m in server.bodies[1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert asking.endpoint.tally.counts["asked_again"] == 1


def test_rubbish_is_missing_and_never_zero():
    with judge_server(lambda body, n: "banana") as server:
        asking = judge(server)
        assert asking(CASES[:3]) == [None] * 3
    assert len(server.bodies) == 6
    assert asking.endpoint.tally.missing == {"unreadable": 3}


def test_a_rate_limit_is_waited_for():
    limited = (429, {"Retry-After": "0.3"})
    with judge_server(lambda body, n: limited if n < 2 else good(body)) as server:
        begun = time.monotonic()
        assert judge(server)(CASES[:1])[0] is not None
        assert time.monotonic() - begun > 0.3
    assert len(server.bodies) == 3


def test_an_endless_rate_limit_is_missing():
    with judge_server(lambda body, n: (429, {"Retry-After": "0.01"})) as server:
        asking = judge(server, retries=2)
        assert asking(CASES[:1]) == [None]
    assert len(server.bodies) == 3
    assert asking.endpoint.tally.missing == {"RateLimitError": 1}


def test_a_slow_answer_is_missing_and_costs_the_others_nothing():
    def slow_for_one(body, n):
        return 3.0 if "number 0" in body["messages"][1]["content"][0]["text"] else good(body)

    with judge_server(slow_for_one) as server:
        asking = judge(server, timeout_s=0.5, retries=0)
        found = asking(CASES[:4])
    assert found[0] is None and all(v is not None for v in found[1:])
    assert asking.endpoint.tally.missing == {"APITimeoutError": 1}


def test_a_server_error_and_a_hang_up_are_retried():
    with judge_server(lambda body, n: [(500, {}), None, good(body)][min(n, 2)]) as server:
        assert judge(server)(CASES[:1])[0] is not None
    assert len(server.bodies) == 3


def test_a_dead_endpoint_is_one_line():
    with judge_server() as server:
        pass
    asking = judge(server, retries=0)
    with pytest.raises(JudgeError, match=r"the judge at http://127.* does not answer; start it"):
        asking.endpoint.check()
    assert asking(CASES[:2]) == [None, None]
    assert asking.endpoint.tally.missing == {"APIConnectionError": 2}


def test_a_wrong_model_or_key_is_one_line():
    with judge_server(model="other") as server:
        with pytest.raises(JudgeError, match="has no model 'judge-1'; it has other"):
            judge(server).endpoint.check()
        # An endpoint that answers with another model than was pinned gives no verdict.
        asking = judge(server)
        assert asking(CASES[:1]) == [None]
        assert asking.endpoint.tally.missing == {"answered by 'other'": 1}
    with judge_server(key="secret") as server:
        with pytest.raises(JudgeError, match=r"refuses the key in \$ARM_JUDGE_KEY"):
            judge(server).endpoint.check()


def test_a_key_is_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ARM_JUDGE_KEY", "secret")
    with judge_server(key="secret") as server:
        judge(server).endpoint.check()


def test_concurrency_is_capped():
    with judge_server(lambda body, n: 0.1) as server:
        assert None not in judge(server, concurrency=3)(CASES)
    assert server.most_active == 3


def test_nothing_is_paid_twice(tmp_path: Path):
    with judge_server() as server:
        first = judge(server, cache=tmp_path)(CASES[:3])
        again = judge(server, cache=tmp_path)
        assert again(CASES[:4])[:3] == first
        assert len(server.bodies) == 4
        assert again.endpoint.tally.counts["cached"] == 3
        # Another picture, text, rubric or model is another question.
        judge(server, cache=tmp_path)([Case(CASES[0].text, (PICTURES[5],))])
        judge(server, cache=tmp_path)([Case("a ring", (PICTURES[0],))])
        assert len(server.bodies) == 6
        file = next(tmp_path.rglob("*.json"))
        file.write_text(file.read_text()[:20])
        assert None not in judge(server, cache=tmp_path)(CASES[:4])
        assert len(server.bodies) <= 7


def test_what_is_missing_is_not_cached(tmp_path: Path):
    with judge_server(lambda body, n: "hm" if n < 2 else good(body)) as server:
        assert judge(server, cache=tmp_path)(CASES[:1]) == [None]
        assert judge(server, cache=tmp_path)(CASES[:1])[0] is not None
    assert json.loads(next(tmp_path.rglob("*.json")).read_text())["text"] == GOOD["drawing"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"url": "localhost:1"}, "url must begin"), ({"concurrency": 0}, "must be positive"),
     ({"retries": -1}, "not be negative")],
)  # fmt: skip
def test_bad_settings(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        JudgeConfig(**{"url": "http://x/v1", "model": "m", **options})


def test_tokens_are_counted_and_kept(tmp_path: Path):
    """With those of a question that had to be asked twice; a file from before has none."""
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    with judge_server(lambda body, n: "hm" if n == 0 else good(body), usage=usage) as server:
        asking = judge(server, cache=tmp_path)
        found = asking(CASES[:1])[0]
        assert found is not None and found.reply.tokens == {"prompt": 200, "completion": 14}
        assert asking.endpoint.tally.tokens == {"prompt": 200, "completion": 14}
        again = judge(server, cache=tmp_path)
        kept = again(CASES[:1])[0]
        assert kept is not None and kept.reply == found.reply and not again.endpoint.tally.tokens
        (path,) = tmp_path.glob("*/*.json")
        path.write_text(json.dumps({"text": found.reply.text, "model": "judge-1"}))
        old = judge(server, cache=tmp_path)(CASES[:1])[0]
        assert old is not None and old.reply.tokens is None
    assert len(server.bodies) == 2


def test_the_same_question_is_asked_once(tmp_path: Path):
    """Among many that are asked together too, where no reply is kept yet."""
    with judge_server() as server:
        for cache in (None, tmp_path):
            found = judge(server, cache=cache)([CASES[0], CASES[1], CASES[0]])
            assert found[0] == found[2] and None not in found
        assert len(server.bodies) == 2 + 2


@pytest.mark.parametrize(
    "text",
    ["null", "[]", '{"text": 5, "model": 3}', '{"text": "hm", "model": "judge-1"}', "\x00",
     '{"text": "hm", "model": "judge-1", "tokens": 7}'],
)  # fmt: skip
def test_what_was_kept_must_be_readable(tmp_path: Path, text: str):
    with judge_server() as server:
        judge(server, cache=tmp_path)(CASES[:1])
        (path,) = tmp_path.glob("*/*.json")
        path.write_text(text)
        assert None not in judge(server, cache=tmp_path)(CASES[:1])
        assert len(server.bodies) == 2


def test_the_probability_of_yes(tmp_path: Path):
    """By hand: .6 + .1 for yes, .2 for no; kept with the reply, asked for only where it is wanted."""
    first = {"Yes": math.log(0.6), " yes": math.log(0.1), "No": math.log(0.2), "so": math.log(0.05)}
    with judge_server(logprobs=first) as server:
        for _ in range(2):
            found = judge(server, cache=tmp_path, logprobs=True)(CASES[:1])[0]
            assert found is not None and found.reply.yes == pytest.approx(0.7 / 0.9)
        assert len(server.bodies) == 1 and server.bodies[0]["top_logprobs"] == 10
        plain = judge(server)(CASES[:1])[0]
        assert plain is not None and plain.reply.yes is None and "logprobs" not in server.bodies[1]
    with judge_server(logprobs={"{": 0.0}) as server:
        neither = judge(server, logprobs=True)(CASES[:1])[0]
        assert neither is not None and neither.reply.yes is None
