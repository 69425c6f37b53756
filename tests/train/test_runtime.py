"""The loop's logging: a JSON-lines file always, W&B where a project is named."""

from dataclasses import dataclass

import pytest
import torch

from arm.errors import DataError
from arm.train.runtime import Loop, batches, to_device


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


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must not be negative"):
        Loop(steps=1, seed=-1)
