"""The loop's logging: a JSON-lines file always, W&B where a project is named."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arm.errors import DataError
from arm.train.runtime import Log, Loop, Optim, batches, to_device


def test_scalars_go_to_a_file_and_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = Log(tmp_path, "run", 10, 0)
    log.write(5, {"loss": 0.5})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5, "loss": 0.5}
    assert "run 5/10 loss 0.5" in capsys.readouterr().out


def test_lines_after_the_resumed_step_are_dropped(tmp_path: Path):
    for start, steps in ((0, (1, 2, 3)), (2, (3,))):
        log = Log(tmp_path, "run", 3, start)
        for step in steps:
            log.write(step, {"loss": float(step)})
        log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_wandb_takes_part_where_a_project_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    run = SimpleNamespace(
        log=lambda values, step: seen.append((values, step)), finish=lambda: seen.append("finished")
    )
    fake = SimpleNamespace(init=lambda **options: seen.append(options["name"]) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    Log(tmp_path, "quiet", 1, 0).close()
    assert seen == []
    monkeypatch.setenv("WANDB_PROJECT", "arm")
    log = Log(tmp_path, "run", 1, 0)
    log.write(1, {"loss": 2.0})
    log.close()
    assert seen == ["run", ({"loss": 2.0}, 1), "finished"]


def test_wandb_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_PROJECT", "arm")
    Log(tmp_path, "run", 1, 0).close()
    assert "not installed" in capsys.readouterr().out


@pytest.mark.parametrize("field", ["steps", "log_every", "save_every"])
def test_a_loop_of_nothing_is_refused(field: str):
    with pytest.raises(ValueError, match="at least 1"):
        Loop(**{"steps": 5, field: 0})


def test_negative_workers_are_refused():
    with pytest.raises(ValueError, match="workers must not be negative"):
        Loop(steps=1, workers=-1)


@dataclass(frozen=True)
class Pair:
    numbers: torch.Tensor
    name: str


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_order_of_their_steps(workers: int):
    made = list(batches(lambda step: Pair(torch.full((3,), step), f"{step}"), 4, 11, workers))
    assert [pair.name for pair in made] == [str(step) for step in range(4, 11)]
    assert [pair.numbers.tolist() for pair in made] == [[step] * 3 for step in range(4, 11)]


def test_tensors_of_a_dataclass_move():
    pair = to_device(Pair(torch.zeros(2), "x"), torch.device("meta"))
    assert pair.numbers.device.type == "meta" and pair.name == "x"
    assert to_device(torch.zeros(2), torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_error_comes_from_a_worker_as_it_was(workers: int):
    def make(step: int) -> torch.Tensor:
        raise DataError("x.jsonl:1: no record")

    with pytest.raises(DataError) as caught:
        list(batches(make, 0, 2, workers))
    assert str(caught.value) == "x.jsonl:1: no record"


def test_a_line_that_a_full_disk_cut_is_dropped(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    Log(tmp_path, "run", 3, 2).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'


@pytest.mark.parametrize(
    "field",
    [
        {"lr": -1.0}, {"lr": float("nan")}, {"clip": 0.0}, {"warmup": -1}, {"betas": (0.9, 1.0)},
        {"ema": 1.0},
    ],
)  # fmt: skip
def test_an_optimiser_that_cannot_learn_is_refused(field: dict[str, Any]):
    with pytest.raises(ValueError, match="must"):
        Optim(**{"lr": 1e-3, **field})


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must not be negative"):
        Loop(steps=1, seed=-1)
