"""A chain passes over what is done and runs unshared stages once, however many processes there are."""

import os
import subprocess
import sys
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
