"""A chain passes over what is done and runs unshared stages once, however many processes there are."""

import os
import signal
import time
from pathlib import Path

import pytest

import chain_run
from arm.errors import TrainingError
from arm.train import chain
from launch import begin, losses, run


@pytest.mark.parametrize("processes", [1, 2])
def test_each_stage_runs_once(tmp_path: Path, processes: int):
    both = ("train", "tests.chain_run:both")
    said = run(*both, processes=processes, CHAIN_OUT=str(tmp_path))
    assert said.count("tests.chain_run:first: started") == 1
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert lines == ["first 0 of 1", "second 0 of 1"]
    # Done stages are passed over; one whose configuration has changed runs again.
    said = run(*both, processes=processes, CHAIN_OUT=str(tmp_path), CHAIN_TEXT="other")
    assert "tests.chain_run:first: done before" in said
    assert (tmp_path / "lines.txt").read_text().splitlines() == [*lines, "other 0 of 1"]
    # What stands on a stage that ran again is not done any more.
    run(*both, processes=processes, CHAIN_OUT=str(tmp_path), CHAIN_FIRST="new", CHAIN_TEXT="other")
    assert (tmp_path / "lines.txt").read_text().splitlines()[3:] == ["new 0 of 1", "other 0 of 1"]


def test_what_stands_on_a_stage_that_ran_again_does_too_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CHAIN_OUT", str(tmp_path))
    chain.main(chain_run.both())
    monkeypatch.setenv("CHAIN_FIRST", "new")
    monkeypatch.setenv("CHAIN_FAILS", "second")
    with pytest.raises(TrainingError, match="stopped"):
        chain.main(chain_run.both())
    monkeypatch.delenv("CHAIN_FAILS")
    chain.main(chain_run.both())
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["first", "second", "new", "second"]


def losses_of_all(root: Path) -> dict[str, list[float]]:
    """Every loss of every stage, by the path of its log."""
    logs = sorted(root.rglob("metrics.jsonl"))
    return {str(log.parent.relative_to(root)): losses(log.parent) for log in logs}


@pytest.mark.slow
def test_two_processes_train_the_whole_chain(tmp_path: Path):
    """All stages by two processes, killed in the last training and finished by one, equal one's."""
    one, two = tmp_path / "one", tmp_path / "two"
    chain = ("train", "tests.tiny_stages:chain")
    run(*chain, TINY_ROOT=str(one))
    killed = begin(*chain, processes=2, TINY_ROOT=str(two))
    while not (two / "lm/step_00000001").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    said = run(*chain, TINY_ROOT=str(two))
    assert "tests.tiny_stages:encode_run: done before" in said, said
    expected, found = losses_of_all(one), losses_of_all(two)
    assert expected.keys() == found.keys() and len(expected) == 6
    for name, values in expected.items():
        assert len(values) == 3
        assert found[name] == pytest.approx(values, abs=1e-4), name
    assert (two / "model/arm.json").is_file()
