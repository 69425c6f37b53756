"""`arm` in processes of its own, as a user starts it: alone, or several under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import TinyChain

TESTS = Path(__file__).parent
SIZES = "hidden_size=32 intermediate_size=48 num_layers=2 num_heads=2 num_kv_heads=1"


def torchrun(processes: int) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", f"--nproc-per-node={processes}"),
    ]


def command(*arguments: str, processes: int = 1) -> list[str]:
    start = torchrun(processes) if processes > 1 else [sys.executable]
    return [*start, "-m", "arm", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This one, in which the runs of the tests can be named too, and one thread a process."""
    path = os.pathsep.join(str(folder) for folder in (TESTS.parent / "src", TESTS.parent, TESTS))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def run(*arguments: str, processes: int = 1, **more: str) -> str:
    """What `arm` with these arguments says; a test fails with all of it where it does not end well."""
    ended = subprocess.run(
        command(*arguments, processes=processes), env=environment(**more), check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def begin(*arguments: str, processes: int = 1, **more: str) -> subprocess.Popen[str]:
    """The same without waiting; in a group of processes of its own, to be killed as one."""
    return subprocess.Popen(
        command(*arguments, processes=processes), env=environment(**more), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def tiny_lm(chain: TinyChain, out: Path, steps: int, *overrides: str) -> list[str]:
    """Arguments that train a backbone small enough for a test, in fp32, on the chain's codes."""
    return [
        "train", "lm:micro_pt", f"out={out}", f"loop.steps={steps}", "loop.bf16=false",
        "loop.log_every=1", "loop.save_every=2", *(f"backbone.{size}" for size in SIZES.split()),
        f'shards=["{chain.root}/codes"]', f"text_tokenizer={chain.root}/standins/siglip",
        *overrides,
    ]  # fmt: skip


def logged(out: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in logged(out) if "loss" in line]
