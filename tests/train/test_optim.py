"""The schedule by hand, and which parameters are trained how.

Muon: the orthogonalised step, and agreement of its other half with torch's AdamW."""

from typing import Any

import pytest
import torch
from torch import nn

from arm.train.optim import (
    Muon,
    Optim,
    block_matrices,
    init_ema,
    learning_rate,
    make_optimizer,
    orthogonalize,
    update_ema,
)
from closeness import assert_close_fp32


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
    optimizer = make_optimizer(
        network, Optim(lr=1e-3, weight_decay=0.1, muon=muon), block_matrices(network)
    )
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


def test_orthogonalize_makes_singular_values_nearly_one():
    torch.manual_seed(0)
    for shape in ((16, 48), (48, 16), (32, 32)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert values.min() > 0.5 and values.max() < 1.3


def test_orthogonalize_keeps_directions():
    torch.manual_seed(1)
    u, _ = torch.linalg.qr(torch.randn(8, 8))
    v, _ = torch.linalg.qr(torch.randn(8, 8))
    matrix = u @ torch.diag(torch.linspace(1, 3, 8)) @ v.T
    aligned = u.T @ orthogonalize(matrix) @ v
    off_diagonal = aligned - torch.diag(aligned.diagonal())
    assert off_diagonal.abs().max() < 1e-4


def test_first_muon_step_by_hand():
    weight = torch.nn.Parameter(torch.eye(4, 6))
    weight.grad = torch.eye(4, 6)
    Muon([{"params": [weight], "muon": True}], lr=0.1, betas=(0.9, 0.95)).step()
    step = 0.1 * 0.2 * 6**0.5 * orthogonalize(torch.eye(4, 6))
    assert_close_fp32(weight, torch.eye(4, 6) - step)


def test_other_parameters_move_as_by_adamw():
    torch.manual_seed(2)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    a = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01, betas=(0.9, 0.95))
    b = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        ours.grad = theirs.grad = torch.randn(5)
        a.step()
        b.step()
    assert_close_fp32(ours, theirs)


def test_bf16_rounds_the_direction_alone():
    torch.manual_seed(3)
    gradient = torch.randn(16, 24)
    steps = []
    for bf16 in (False, True):
        weight = torch.nn.Parameter(torch.zeros(16, 24))
        weight.grad = gradient.clone()
        groups = [{"params": [weight], "muon": True}]
        optimizer = Muon(groups, lr=0.1, betas=(0.9, 0.95), bf16=bf16)
        optimizer.step()
        assert weight.dtype == torch.float32
        assert torch.equal(optimizer.state[weight]["momentum"], gradient)
        steps.append(weight.detach())
    assert not torch.equal(*steps)
    assert torch.nn.functional.cosine_similarity(*(s.flatten() for s in steps), dim=0) > 0.999


def test_moving_averages_by_hand():
    p = {"w": nn.Parameter(torch.tensor([0.0, 4.0]))}
    average = init_ema(p)
    with torch.no_grad():
        p["w"].copy_(torch.tensor([2.0, 8.0]))
    update_ema(average, p, 0.75)
    assert average["w"].tolist() == [0.5, 5.0]
