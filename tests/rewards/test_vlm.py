"""A judge's verdict as a reward."""

from pathlib import Path

import numpy as np
import pytest

from arm.judge import JudgeConfig
from arm.rewards.base import Attempt
from arm.rewards.vlm import JudgeReward
from judge_server import good, judge_server

GREY = np.full((8, 8, 3), 128, dtype=np.uint8)


def test_components_and_missing_ones():
    def answer(body, _):
        return "?" if "odd" in body["messages"][1]["content"][0]["text"] else good(body)

    with judge_server(answer) as server:
        config = JudgeConfig(server.url, "judge-1", retries=0)
        drawn = JudgeReward(config, "drawing")([Attempt("a star", GREY), Attempt("odd", GREY)])
        edited = JudgeReward(config, "editing")([Attempt("remove it", GREY, GREY)])
    assert drawn == [{"objects": 0.8, "attributes": 1.0, "relations": 0.5}, None]
    assert edited == [{"instruction": 0.9, "preservation": 1.0, "quality": 0.4}]
    assert len(server.bodies[-1]["messages"][1]["content"]) == 3
    with pytest.raises(ValueError, match="beside its source"):
        JudgeReward(config, "editing")([Attempt("remove it", GREY)])


def test_a_step_that_waits_asks_for_what_it_lacks(tmp_path: Path):
    """Each call finds out anew whether the judge is there, and asks again for what could not be read."""
    state = {"dead": True}

    def answer(body, n):
        if n == 1:
            return "hm"
        return None if state["dead"] and n > 2 else "hm" if n == 2 else good(body)

    attempts = [Attempt(f"star {n}", GREY) for n in range(6)]
    with judge_server(answer) as server:
        config = JudgeConfig(
            server.url, "judge-1", retries=0, concurrency=1, give_up=2, cache=tmp_path
        )
        reward = JudgeReward(config, "drawing")
        found = reward(attempts)
        # One verdict, one that cannot be read twice over, two failures, and two that are not asked.
        assert [r is not None for r in found] == [True, *[False] * 5] and len(server.bodies) == 5
        assert [r is None for r in reward(attempts[1:])] == [True] * 5 and len(server.bodies) == 7
        state["dead"] = False
        assert None not in reward(attempts[1:]) and len(server.bodies) == 7 + 5
        assert reward(attempts[:1]) == found[:1] and len(server.bodies) == 12
