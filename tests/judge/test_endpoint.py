"""The judge's client against a real HTTP server that is good, slow, wrong, rate-limiting and dead."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from arm.judge import DRAWING, Case, Exhibit, Judge, JudgeConfig, JudgeError, Question
from judge_server import GOOD, Server, good, judge_server

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8) for _ in range(8)]
CASES = [Case(f"a red star number {i}", (p,)) for i, p in enumerate(PICTURES)]


def judge(server: Server, **options) -> Judge:
    options = {"retries": 3, "timeout_s": 10.0, "min_side": 16, **options}
    return Judge(JudgeConfig(server.url, "judge-1", **options), DRAWING)


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
    assert asking.endpoint.tally.missing == {"RateLimitError: as told": 1}


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
        assert asking.endpoint.tally.missing == {
            "answered by 'other', not 'judge-1'; if that is its name for the judge, add "
            "--judge-answers-as 'other'": 1
        }  # fmt: skip
    with judge_server(key="secret") as server:
        with pytest.raises(JudgeError, match=r"refuses the key in \$ARM_JUDGE_KEY"):
            judge(server).endpoint.check()


def test_an_endpoint_may_have_a_name_of_its_own_for_the_model(tmp_path: Path):
    """An alias is asked for, a version answers; another version than was named does not count."""
    with judge_server(model="models/vision-2") as server:
        found = judge(server, answers_as="models/vision", cache=tmp_path)(CASES[:1])[0]
        assert found is not None and found.reply.model == "models/vision-2"
        assert server.bodies[0]["model"] == "judge-1"
        assert judge(server, answers_as="models/vision-3")(CASES[:1]) == [None]
        # What is kept is the pinned model's, whatever the endpoint calls it.
        assert judge(server, cache=tmp_path)(CASES[:1]) == [found] and len(server.bodies) == 2


def test_a_cut_answer_is_missing_and_asked_for_by_the_next_run(tmp_path: Path):
    reason = "the judge's answer was cut at 20 tokens, --judge-max-tokens allows more"
    with judge_server(lambda body, n: "The picture", finish_reason="length") as server:
        asking = judge(server, cache=tmp_path, max_tokens=20, concurrency=1, give_up=3)
        assert asking(CASES) == [None] * 8 and not list(tmp_path.rglob("*.json"))
        # Each is asked once more; the same thrice in a row is of the setting.
        assert len(server.bodies) == 6 and server.bodies[0]["max_tokens"] == 20
        assert asking.endpoint.tally.missing == {
            reason: 3,
            f"not asked, 3 questions in a row met '{reason}'; the next run asks them alone": 5,
        }
        # A cut reply is missing even where it has a verdict already: it might have taken it back.
        server.answer = good
        assert judge(server, cache=tmp_path, max_tokens=20)(CASES[:1]) == [None]
        server.finish_reason = "stop"
        assert None not in judge(server, cache=tmp_path, max_tokens=40)(CASES)
        assert len(server.bodies) == 6 + 2 + 8


def test_one_refusal_of_every_question_ends_a_call():
    """An answer after one refusal; then three questions in a row meet the same words."""
    words = "Unsupported picture: 'png' is not supported with this model."

    def refuses(body, n):
        return good(body) if n == 1 else (400, {}, f"{words}\nMore of it.")

    with judge_server(refuses) as server:
        asking = judge(server, concurrency=1, give_up=3)
        assert sum(v is not None for v in asking(CASES)) == 1 and len(server.bodies) == 5
        refusal = f"BadRequestError: {words}"
        assert asking.endpoint.tally.missing == {
            refusal: 4,
            f"not asked, 3 questions in a row met '{refusal}'; the next run asks them alone": 3,
        }


def test_endpoints_that_word_each_failure_anew_are_told_in_few_lines():
    with judge_server(lambda body, n: (400, {}, f"request {n}: " + "too long " * 90)) as server:
        asking = judge(server, concurrency=1, give_up=3)
        cases = [Case(f"a moon number {i}", (PICTURES[0],)) for i in range(12)]
        assert asking(cases) == [None] * 12 and len(server.bodies) == 12
    missing = asking.endpoint.tally.missing
    assert len(missing) == 9 and missing["BadRequestError"] == 4
    assert max(map(len, missing)) <= 220


@pytest.mark.parametrize("body", [b"", b"too much of it\n<html>", b'["odd"]', b'{"detail": "odd"}'])
def test_a_refusal_in_another_form_is_one_line(body: bytes):
    with judge_server(lambda *_: (413, {}, body)) as server:
        asking = judge(server)
        assert asking(CASES[:1]) == [None]
    (why,) = asking.endpoint.tally.missing
    assert why.startswith("APIStatusError: ") and "\n" not in why
    assert not body or ("odd" in why or why.endswith(": too much of it"))


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


def test_what_could_not_be_had_is_not_kept(tmp_path: Path):
    with judge_server(lambda body, n: (500, {}) if n < 1 else good(body)) as server:
        assert judge(server, cache=tmp_path, retries=0)(CASES[:1]) == [None]
        assert judge(server, cache=tmp_path)(CASES[:1])[0] is not None
    assert json.loads(next(tmp_path.rglob("*.json")).read_text())["text"] == GOOD["drawing"]


def test_what_cannot_be_read_is_paid_once(tmp_path: Path):
    """Two requests, the second after it was said that the first could not be read; none by the next run,
    unless it is to ask again.
    """
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    with judge_server(lambda body, n: "hm" if n < 2 else good(body), usage=usage) as server:
        first = judge(server, cache=tmp_path)
        assert first(CASES[:1]) == [None] and len(server.bodies) == 2
        (path,) = tmp_path.rglob("*.json")
        kept = json.loads(path.read_text())
        assert kept["unreadable"] and kept["tokens"] == {"prompt": 200, "completion": 14}
        again = judge(server, cache=tmp_path)
        assert again(CASES[:1]) == [None] and len(server.bodies) == 2
        assert again.endpoint.tally.missing == {
            "unreadable when asked before, not asked again": 1
        }  # fmt: skip
        found = judge(server, cache=tmp_path, ask_again=True)(CASES[:1])[0]
        assert found is not None and len(server.bodies) == 3
        # Now it is kept as a readable one.
        assert judge(server, cache=tmp_path, ask_again=True)(CASES[:1]) == [found]
        assert len(server.bodies) == 3
        # A rule that reads more than it did finds its score in what was kept.
        path.write_text(json.dumps({**kept, "text": GOOD["drawing"]}))
        assert judge(server, cache=tmp_path)(CASES[:1])[0] is not None and len(server.bodies) == 3


def test_a_judge_that_dies_is_not_asked_for_every_question(tmp_path: Path):
    """Two answers, then nobody: after three failures in a row the other three are not asked. One request at
    a time, so that the count is exact.
    """
    state = {"dead": True}

    def dies(body, n):
        return None if state["dead"] and n >= 2 else good(body)

    with judge_server(dies) as server:
        asking = judge(server, cache=tmp_path, retries=0, concurrency=1, give_up=3)
        found = asking(CASES)
        assert [v is not None for v in found] == [True] * 2 + [False] * 6
        assert len(server.bodies) == 2 + 3
        assert asking.endpoint.tally.missing == {
            "APIConnectionError": 3,
            "not asked, the judge stopped answering after 2 questions; the next run asks them alone": 3,
        }  # fmt: skip
        # Each call starts afresh, with what was answered kept: it tries thrice more.
        assert asking(CASES) == found and len(server.bodies) == 5 + 3
        state["dead"] = False
        assert None not in asking(CASES) and len(server.bodies) == 8 + 6


def test_timeouts_in_a_row_end_a_call_and_others_do_not():
    with judge_server(lambda body, n: 3.0) as server:
        asking = judge(server, timeout_s=0.2, retries=0, concurrency=1, give_up=2)
        assert asking(CASES[:5]) == [None] * 5 and len(server.bodies) == 2
    # An answer between two failures, or a refusal of one question, is no outage.
    with judge_server(lambda body, n: good(body) if n % 2 else None) as server:
        asking = judge(server, retries=0, concurrency=1, give_up=2)
        assert sum(v is not None for v in asking(CASES)) == 4 and len(server.bodies) == 8
    with judge_server(lambda body, n: (400, {}, f"not question {n}")) as server:
        asking = judge(server, retries=0, concurrency=1, give_up=2)
        assert asking(CASES) == [None] * 8 and len(server.bodies) == 8
    # Rubbish is an answer: it is paid for, kept, and says that somebody is there.
    with judge_server(lambda body, n: "banana") as server:
        assert judge(server, concurrency=1, give_up=2)(CASES[:4]) == [None] * 4
        assert len(server.bodies) == 8


def test_batches_of_one_work_share_what_they_know_of_the_judge():
    with judge_server(lambda body, n: None) as server:
        endpoint = judge(server, retries=0, concurrency=1, give_up=3).endpoint
        outage = endpoint.outage()
        for n in range(4):
            asked = [Question(f"{n} {k}", lambda reply: True) for k in range(2)]
            assert endpoint.ask_each(asked, "again", outage) == [None] * 2
        assert len(server.bodies) == 3


def test_what_is_settled_is_known_without_asking_or_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def question(words: str) -> Question:
        return Question(words, lambda reply: reply == "yes", (Exhibit(PICTURES[0]),))

    with judge_server(lambda body, n: "yes" if "fine" in str(body) else "hm") as server:
        endpoint = judge(server, cache=tmp_path).endpoint
        endpoint.ask_each([question("fine"), question("odd")], "again")
        paid = len(server.bodies)
        monkeypatch.setattr("arm.judge.question.png", None)
        assert endpoint.is_settled(question("fine")) and endpoint.is_settled(question("odd"))
        assert not endpoint.is_settled(question("new"))
        again = judge(server, cache=tmp_path, ask_again=True).endpoint
        assert again.is_settled(question("fine")) and not again.is_settled(question("odd"))
        assert len(server.bodies) == paid == 3
        other = judge(server, cache=tmp_path, min_side=32).endpoint
        assert not other.is_settled(question("fine"))  # it would see another picture


@pytest.mark.parametrize(
    ("options", "message"),
    [({"url": "localhost:1"}, "url must begin"), ({"concurrency": 0}, "must be positive"),
     ({"give_up": 0}, "must be positive"),
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
     '{"text": "hm", "model": "judge-1", "tokens": 7}',
     '{"text": "hm", "model": "judge-1", "unreadable": "yes"}'],
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
