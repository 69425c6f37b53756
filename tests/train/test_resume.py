"""A run that is stopped and called again ends in the same bits as one that never stopped."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arm.errors import ConfigError, TrainingError, WeightsError
from arm.models.weights import load_tensors
from arm.train import checkpoint, lm, next_token, tokenizer
from arm.train.training import Loop
from conftest import TinyChain
from launch import begin, command, environment, run, tiny_lm


class Stopped(Exception):
    pass


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= {f"{path.name}/{k}": v for k, v in load_tensors(path).items()}
    return found


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_lm_resumes_bit_equal(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
):
    run = replace(chain.lm_run, loop=Loop(steps=5, log_every=1, save_every=2))  # pyright: ignore[reportArgumentType]
    lm.main(replace(run, out=tmp_path / "whole"))

    original, calls = next_token.next_token_losses, 0

    def stops(*arguments):
        nonlocal calls
        calls += 1
        if calls > stop_at:
            raise Stopped
        return original(*arguments)

    monkeypatch.setattr(next_token, "next_token_losses", stops)
    with pytest.raises(Stopped):
        lm.main(replace(run, out=tmp_path / "stopped"))
    monkeypatch.setattr(next_token, "next_token_losses", original)
    lm.main(replace(run, out=tmp_path / "stopped"))
    assert _same(_weights(tmp_path / "whole/model"), _weights(tmp_path / "stopped/model"))


def test_tokenizer_resumes_bit_equal(chain: TinyChain, tmp_path: Path):
    run = replace(chain.tokenizer_run, loop=Loop(steps=4, log_every=1, save_every=2), eval_every=0)  # pyright: ignore[reportArgumentType]
    tokenizer.main(replace(run, out=tmp_path / "whole"))
    trainer, *_ = tokenizer.build(run)
    # A run of which only the checkpoint of step 2 is left.
    (tmp_path / "half").mkdir()
    os.rename(tmp_path / "whole/step_00000002", tmp_path / "half/step_00000002")
    tokenizer.main(replace(run, out=tmp_path / "half"))
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "half"))
    assert trainer.tokenizer.patch == 8


@pytest.mark.slow
def test_sigkill_at_any_moment(chain: TinyChain, tmp_path: Path):
    """`arm train` killed with SIGKILL after its second checkpoint, then called again."""

    def train(out: Path) -> list[str]:
        return tiny_lm(chain, out, 12, "samples=4", "loop.save_every=1")

    run(*train(tmp_path / "whole"))
    killed = begin(*train(tmp_path / "killed"))
    while not list((tmp_path / "killed").glob("step_0000000[2-9]")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed/model").exists()
    run(*train(tmp_path / "killed"))
    assert _same(_weights(tmp_path / "whole/model"), _weights(tmp_path / "killed/model"))


def test_a_damaged_checkpoint_is_named(chain: TinyChain, tmp_path: Path):
    run = replace(chain.lm_run, out=tmp_path, loop=Loop(steps=2, log_every=1, save_every=1))  # pyright: ignore[reportArgumentType]
    lm.main(run)
    path = tmp_path / "step_00000002/state.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(
        WeightsError, match=r"state\.safetensors is damaged .* bytes\); remove .*0002"
    ):
        lm.main(run)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(
        WeightsError, match=r"step_00000002 is not a complete safetensors checkpoint"
    ):
        lm.main(run)
    assert (tmp_path / "step_00000001/state.safetensors").is_file()


@pytest.mark.parametrize("text", ["[1]", "{}", '{"step": 1, "files": [1]}', '{"step": "two"}'])
def test_a_damaged_state_is_named(tmp_path: Path, text: str):
    module, optimizer = torch.nn.Linear(2, 1), torch.optim.SGD([torch.zeros(1)])
    checkpoint.save(tmp_path, 1, module, optimizer).finish()
    assert checkpoint.resume(tmp_path, module, optimizer) == 1
    (tmp_path / "step_00000001/state.json").write_text(text)
    with pytest.raises(
        WeightsError, match=r"state\.json is damaged; remove .*step_00000001 to resume"
    ):
        checkpoint.resume(tmp_path, module, optimizer)


def test_a_full_disk_leaves_the_checkpoint_before(chain: TinyChain, tmp_path: Path):
    """Files may not grow beyond 200 kB, as on a disk that is full; then they may, and the run ends."""
    resource = pytest.importorskip("resource", reason="file-size limits are POSIX's")

    def start(limit: int, steps: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*tiny_lm(chain, tmp_path, steps, "samples=4", "loop.save_every=1")),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1)),
            env=environment(), check=False, capture_output=True, text=True,
        )  # fmt: skip

    assert start(resource.RLIM_INFINITY, 1).returncode == 0
    full = start(200_000, 2)
    assert full.returncode == 2
    assert "checkpoint 2 cannot be written (" in full.stderr and "Traceback" not in full.stderr
    assert checkpoint.newest(tmp_path) == tmp_path / "step_00000001"
    assert start(resource.RLIM_INFINITY, 2).returncode == 0


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path):
    (tmp_path / ".writing_00000009").mkdir()
    assert checkpoint.newest(tmp_path) is None


def test_a_run_directory_belongs_to_one_run(chain: TinyChain, tmp_path: Path):
    run = replace(chain.lm_run, out=tmp_path, loop=Loop(steps=1, log_every=1, save_every=1))  # pyright: ignore[reportArgumentType]
    lm.main(run)
    with pytest.raises(ConfigError, match=r"trained with samples=4, now it is 5"):
        lm.main(replace(run, samples=5))
    lm.main(replace(run, loop=Loop(steps=2, log_every=1, save_every=1)))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    with pytest.raises(WeightsError, match="was trained with Vocab"):
        lm.main(replace(run, out=tmp_path / "b", init_from=tmp_path / "model", code_bits=14))


def test_a_loss_that_is_not_finite_stops_the_run(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = replace(chain.lm_run, out=tmp_path, loop=Loop(steps=2, log_every=1, save_every=1))  # pyright: ignore[reportArgumentType]
    nothing = {"loss": torch.tensor(float("nan"))}
    monkeypatch.setattr(next_token, "next_token_losses", lambda *a: nothing)
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        lm.main(run)
