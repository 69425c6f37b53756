"""The loop's logging: a JSON-lines file always, W&B where a project is named."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arm.errors import DataError
from arm.train import standins, tokenizer
from arm.train.optim import Optim
from arm.train.training import Loop, Training, batches, to_device
from conftest import TinyChain
from tiny_stages import stages


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


def test_an_evaluation_that_was_killed_is_made_up_for(tmp_path: Path):
    module, evaluated = nn.Linear(2, 1), []

    def evaluate() -> dict[str, float]:
        evaluated.append(1)
        if len(evaluated) == 2:
            raise KeyboardInterrupt
        return {"score": 1.0}

    def train() -> None:
        settings = Loop(steps=4, log_every=1, save_every=2)
        with Training(
            settings, module, out=tmp_path, loop=settings, optim=Optim(lr=0.1)
        ) as training:
            training.evaluate_if_due(evaluate, 2, before_training=True)
            for _, batch in training.batches(lambda step: torch.ones(3, 2)):
                training.update({"loss": module(batch).mean()})
                training.save_if_due()
                training.evaluate_if_due(evaluate, 2, before_training=True)

    with pytest.raises(KeyboardInterrupt):
        train()
    train()
    train()  # what is there is not evaluated again
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "score" in line] == [0, 2, 4] and len(evaluated) == 4


@pytest.mark.parametrize("stage", ["standins", "tokenizer"])
def test_what_is_compiled_is_what_a_step_calls(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
):
    """torch.compile of a module is of its `forward`, which the trainers of these stages do not have."""
    compiled: set[nn.Module] = set()
    called: set[nn.Module] = set()

    def compile(module: nn.Module, **options: Any) -> None:
        compiled.add(module)
        module.register_forward_hook(lambda module, *_: called.add(module))

    monkeypatch.setattr(nn.Module, "compile", compile)
    loop = Loop(steps=1, compile=True)
    if stage == "standins":
        run = replace(stages(tmp_path)[stage], towers_loop=loop, vae_loop=loop)
        standins.main(run)
    else:
        run = stages(chain.root)[stage]
        tokenizer.main(replace(run, out=tmp_path / "tokenizer", loop=loop, eval_every=0))
    assert len(compiled) >= 5 and called == compiled


def test_a_seed_that_no_generator_takes_is_refused():
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match="seed must be from 0 to 4294967295"):
            Loop(steps=1, seed=seed)
