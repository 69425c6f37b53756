"""Two processes that share every batch end where one process ends."""

from pathlib import Path

import pytest
import torch

from arm.errors import ConfigError
from arm.models.weights import load_tensors
from arm.train import parallel
from conftest import TinyChain
from launch import losses, run, tiny_lm


def test_two_processes_equal_one(chain: TinyChain, tmp_path: Path):
    run(*tiny_lm(chain, tmp_path / "one", 6, "samples=12"))
    # Four steps by two processes, and the rest by one that resumes from their checkpoint.
    run(*tiny_lm(chain, tmp_path / "two", 4, "samples=12"), processes=2)
    run(*tiny_lm(chain, tmp_path / "two", 6, "samples=12"))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 6
    assert two == pytest.approx(one, abs=1e-4)
    a, b = (load_tensors(tmp_path / x / "model/model.safetensors") for x in ("one", "two"))
    assert a.keys() == b.keys()
    # bf16 files: one unit in the last place of a weight of 0.05 is 2.4e-4.
    assert max(float((a[k].float() - b[k].float()).abs().max()) for k in a) < 1e-3


def test_one_process_needs_no_group():
    batch = torch.arange(6)
    assert parallel.is_main()
    assert parallel.shard_batch(batch) is batch
    assert parallel.all_reduce_mean(batch) is batch


def test_shares_split_the_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(parallel.shard_batch(torch.arange(7)).tolist())
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    with pytest.raises(ConfigError, match="a batch of 2 rows for 3 processes"):
        parallel.shard_batch(torch.arange(2))
