"""Two processes that share every batch end where one process ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arm.errors import ConfigError
from arm.models.weights import load_tensors
from arm.train import parallel
from conftest import TinyChain


def _train(chain: TinyChain, out: Path, processes: int, steps: int) -> None:
    start = [sys.executable, "-m", "arm"]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        start += [f"--nproc-per-node={processes}", "-m", "arm"]
    sizes = "hidden_size=32 intermediate_size=32 num_layers=1 num_heads=2 num_kv_heads=1"
    subprocess.run(
        [*start, "train", "lm:micro_pt", f"out={out}", "samples=12", "loop.bf16=false",
         f"loop.steps={steps}", "loop.log_every=1", "loop.save_every=2",
         *(f"backbone.{size}" for size in sizes.split()),
         f'shards=["{chain.root}/codes"]', f"text_tokenizer={chain.root}/standins/siglip"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True,
    )  # fmt: skip


def _losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(chain: TinyChain, tmp_path: Path):
    _train(chain, tmp_path / "one", 1, 6)
    # Four steps by two processes, and the rest by one that resumes from their checkpoint.
    _train(chain, tmp_path / "two", 2, 4)
    _train(chain, tmp_path / "two", 1, 6)
    one, two = _losses(tmp_path / "one"), _losses(tmp_path / "two")
    assert len(one) == 6
    assert two == pytest.approx(one, abs=1e-4)
    a, b = (load_tensors(tmp_path / x / "model/model.safetensors") for x in ("one", "two"))
    assert a.keys() == b.keys()
    # bf16 files: one unit in the last place of a weight of 0.05 is 2.4e-4.
    assert max(float((a[k].float() - b[k].float()).abs().max()) for k in a) < 1e-3


def test_one_process_needs_no_group():
    batch = torch.arange(6)
    assert parallel.is_main()
    assert parallel.share(batch) is batch
    assert parallel.mean(batch) is batch


def test_shares_split_the_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(parallel.share(torch.arange(7)).tolist())
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    with pytest.raises(ConfigError, match="a batch of 2 rows for 3 processes"):
        parallel.share(torch.arange(2))
