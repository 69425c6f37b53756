"""The schedule by hand, and which parameters are trained how."""

from typing import Any

import pytest
import torch
from torch import nn

from arm.train.muon import Muon
from arm.train.optim import Optim, learning_rate, optimizer_for


def test_learning_rate_by_hand():
    optim = Optim(lr=1.0, warmup=10, floor=0.1)
    assert learning_rate(optim, 0, 110) == pytest.approx(0.1)
    assert learning_rate(optim, 9, 110) == pytest.approx(1.0)
    assert learning_rate(optim, 10, 110) == pytest.approx(1.0)
    assert learning_rate(optim, 60, 110) == pytest.approx(0.55)
    assert learning_rate(optim, 110, 110) == pytest.approx(0.1)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def groups(optimizer: torch.optim.Optimizer) -> list[tuple[list[nn.Parameter], float, bool]]:
    return [(g["params"], g["weight_decay"], g.get("muon", False)) for g in optimizer.param_groups]


@pytest.mark.parametrize("muon", [False, True])
def test_only_matrices_decay_and_only_blocks_are_for_muon(muon: bool):
    network = Network()
    optimizer = optimizer_for(network, Optim(lr=1e-3, weight_decay=0.1, muon=muon))
    assert isinstance(optimizer, Muon if muon else torch.optim.AdamW)
    block = network.blocks[0]
    (inside, *first), (outside, *second), (vectors, *third) = groups(optimizer)
    assert inside == [block.weight] and first == [0.1, muon]
    assert outside == [network.embed.weight] and second == [0.1, False]
    assert vectors == [block.bias] and third == [0.0, False]


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
