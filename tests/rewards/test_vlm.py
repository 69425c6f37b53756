"""A judge's verdict as a reward."""

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
