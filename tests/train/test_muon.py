"""Muon: the orthogonalised step, and agreement of its other half with torch's AdamW."""

import torch

from arm.train.muon import Muon, orthogonalize


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
    assert torch.allclose(weight, torch.eye(4, 6) - step)


def test_other_parameters_move_as_by_adamw():
    torch.manual_seed(2)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    a = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01, betas=(0.9, 0.95))
    b = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        ours.grad = theirs.grad = torch.randn(5)
        a.step()
        b.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


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
