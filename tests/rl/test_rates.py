"""The sweep of rates under a KL budget."""

from pathlib import Path

import pytest

import rl_run
from arm.files import read_json
from arm.rl import rates
from arm.rl.rates import RatesRun
from arm.train.training import Loop
from conftest import TinyChain


def test_a_rate_that_drifts_too_far_is_out(
    chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    base = rl_run.world(
        str(chain.model), tmp_path, loop=Loop(steps=9, seed=3, log_every=1), watch_size=1
    )
    run = RatesRun(tmp_path, base, rates=(1e-5, 0.3), steps=3, kl_budget=0.02)
    rates.main(run)
    found = read_json(tmp_path / "table.json")
    assert found["best"] == "1e-05"
    assert [found["table"][r]["inside"] for r in ("1e-05", "0.3")] == ["yes", "no"]
    assert found["table"]["1e-05"]["steps"] == 3 > found["table"]["0.3"]["steps"]
    # Nobody scored what the rate that was stopped had become.
    assert ["vqa" in found["table"][r] for r in ("1e-05", "0.3")] == [True, False]
    assert "best inside the budget: 1e-05" in capsys.readouterr().out


def test_the_best_rate_by_hand():
    row = {"inside": "yes", "reward_after": 0.4}
    table = {
        "1": row,
        "2": {**row, "reward_after": 0.6},
        "3": {"inside": "no", "reward_after": 0.9},
    }
    assert rates.best(table) == "2"
    assert rates.best({"3": table["3"]}) is None
    lines = [
        {"loss": 0.0, "drawing/reward": r, "drawing/kl": k} for r, k in ((0.2, 0.0), (0.4, 0.1))
    ]
    found = rates.summary(lines, over=False)
    assert (found["reward_before"], found["reward_after"], found["kl"]) == (0.2, 0.4, 0.1)
    with pytest.raises(ValueError, match="positive"):
        RatesRun(Path(), rl_run.world("m", Path()), (0.0,), 1, 1.0)
