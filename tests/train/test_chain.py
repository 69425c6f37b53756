"""A chain passes over what is done and runs unshared stages once, however many processes there are."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(out: Path, processes: int = 1, **environment: str) -> str:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.run(
        [*start, "arm", "train", "tests.chain_run:both"],
        env={
            **os.environ, "CHAIN_OUT": str(out), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
            **environment,
        },
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_each_stage_runs_once(tmp_path: Path, processes: int):
    said = run(tmp_path, processes)
    assert said.count("tests.chain_run:first: started") == 1
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert lines == ["first 0 of 1", "second 0 of 1"]
    # Done stages are passed over; one whose configuration has changed runs again.
    said = run(tmp_path, processes, CHAIN_TEXT="other")
    assert "tests.chain_run:first: done before" in said
    assert (tmp_path / "lines.txt").read_text().splitlines() == [*lines, "other 0 of 1"]


def begin(root: Path, processes: int) -> subprocess.Popen[str]:
    """The whole tiny chain, below `root`."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.Popen(
        [*start, "arm", "train", "tests.tiny_stages:chain"],
        env={
            **os.environ, "TINY_ROOT": str(root), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def losses(root: Path) -> dict[str, list[float]]:
    """Every loss of every stage, by the path of its log."""
    return {
        str(path.parent.relative_to(root)): [
            line["loss"]
            for line in map(json.loads, path.read_text().splitlines())
            if "loss" in line
        ]
        for path in sorted(root.rglob("metrics.jsonl"))
    }


@pytest.mark.slow
def test_two_processes_train_the_whole_chain(tmp_path: Path):
    """All stages by two processes, killed in the last training and finished by one, equal one's."""
    one, two = tmp_path / "one", tmp_path / "two"
    said, _ = (alone := begin(one, 1)).communicate()
    assert alone.returncode == 0, said
    killed = begin(two, 2)
    while not (two / "lm/step_00000001").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    said, _ = (rest := begin(two, 1)).communicate()
    assert rest.returncode == 0 and "tests.tiny_stages:encode_run: done before" in said, said
    expected, found = losses(one), losses(two)
    assert expected.keys() == found.keys() and len(expected) == 6
    for name, values in expected.items():
        assert len(values) == 3
        assert found[name] == pytest.approx(values, abs=1e-4), name
    assert (two / "model/arm.json").is_file()
