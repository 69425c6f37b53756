"""Each loss against numbers worked out by hand."""

from math import exp, log, sqrt

import pytest
import torch

from arm.losses import (
    caption_cross_entropy,
    cosine_distance,
    sigmoid_contrastive,
    sign_agreement,
    token_cross_entropy,
    x1_flow,
)
from arm.models.flow import interpolate, velocity_from_x1
from closeness import assert_close_fp32
from tiny import seeded

# Logits whose softmax is known: log of probabilities.
LOGITS = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.9, 0.05, 0.05]]).log()


def test_token_cross_entropy_is_the_weighted_sum():
    targets, weights = torch.tensor([0, 2, 1]), torch.tensor([1.0, 0.5, 0.0])
    loss = token_cross_entropy(LOGITS, targets, weights)
    assert loss.item() == pytest.approx(-log(0.5) - 0.5 * log(0.7))


def test_sign_agreement_by_hand():
    latent = torch.tensor([[[2.0, -1.0], [3.0, 3.0]]])
    twin = torch.tensor([[[0.5, 0.25], [9.0, -9.0]]])
    shared = torch.tensor([[True, False]])
    # p(+) at 0.5 is sigmoid(1), p(-) at 0.25 is sigmoid(-0.5); the second token has no say.
    wanted = (log(1 + exp(-1.0)) + log(1 + exp(0.5))) / 2
    assert sign_agreement(latent, twin, shared).item() == pytest.approx(wanted)
    assert sign_agreement(latent, twin, ~shared).item() == pytest.approx((0 + 18) / 2, abs=1e-4)
    assert sign_agreement(latent, twin, torch.zeros(1, 2, dtype=torch.bool)).item() == 0


def test_token_cross_entropy_of_nothing_is_zero():
    loss = token_cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert loss.item() == 0


def test_token_cross_entropy_ignores_what_has_no_weight():
    logits = LOGITS.clone().requires_grad_()
    weights = torch.tensor([1.0, 0.0, 0.0])
    token_cross_entropy(logits, torch.tensor([0, 2, 1]), weights).backward()
    assert logits.grad is not None
    assert_close_fp32(logits.grad[0], torch.tensor([-0.5, 0.25, 0.25]))  # p - target
    assert (logits.grad[1:] == 0).all()


def test_x1_flow_by_hand():
    x1 = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    x1_hat = torch.tensor([[1.0, 3.0], [1.0, 2.0]])  # mean squared errors 5 and 0.5
    t_B = torch.tensor([0.5, 0.0])
    assert x1_flow(x1_hat, x1, t_B, velocity_weighting=False).item() == 2.75
    # the first is weighted by 1 / 0.5^2 = 4
    assert x1_flow(x1_hat, x1, t_B, velocity_weighting=True).item() == (20 + 0.5) / 2


def test_velocity_weighting_is_the_error_of_the_velocity():
    x0, x1, x1_hat = (torch.randn(5, 3, 4, 4, generator=seeded(i)) for i in range(3))
    t_B = torch.rand(5, generator=seeded(3)) * 0.9
    x_t = interpolate(x0, x1, t_B)
    velocity_hat = velocity_from_x1(x1_hat, x_t, t_B)
    expected = (velocity_hat - (x1 - x0)).square().mean()
    found = x1_flow(x1_hat, x1, t_B, velocity_weighting=True)
    assert_close_fp32(found, expected)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


IMAGES = torch.tensor([[2.0, 0.0], [0.0, 3.0]])  # normalised: (1, 0), (0, 1)
TEXTS = torch.tensor([[1.0, 1.0], [0.0, 0.5]])  # normalised: (r, r), (0, 1) with r = 1 / sqrt 2
SCALE, BIAS = torch.tensor(log(10.0)), torch.tensor(-4.0)


def test_sigmoid_contrastive_by_formula():
    r = 1 / sqrt(2)
    cosines = [[r, 0.0], [r, 1.0]]
    loss = 0.0
    for i in range(2):
        for j in range(2):
            sign = 1 if i == j else -1
            loss -= log(sigmoid(sign * (10 * cosines[i][j] - 4)))
    same = torch.eye(2, dtype=torch.bool)
    found = sigmoid_contrastive(IMAGES, TEXTS, same, SCALE, BIAS)
    assert found.item() == pytest.approx(loss / 2, rel=1e-4)


def test_duplicates_are_positives():
    """Two pictures of one caption: all four pairs are true, and none pushes apart."""
    r = 1 / sqrt(2)
    texts = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    found = sigmoid_contrastive(IMAGES, texts, torch.ones(2, 2, dtype=torch.bool), SCALE, BIAS)
    assert found.item() == pytest.approx(-4 * log(sigmoid(10 * r - 4)) / 2, rel=1e-4)


def test_sigmoid_contrastive_ignores_lengths():
    same = torch.eye(2, dtype=torch.bool)
    longer = sigmoid_contrastive(7 * IMAGES, 0.1 * TEXTS, same, SCALE, BIAS)
    assert_close_fp32(longer, sigmoid_contrastive(IMAGES, TEXTS, same, SCALE, BIAS))


def test_cosine_distance_by_hand():
    a = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [3.0, 4.0]]])
    b = torch.tensor([[[5.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [4.0, 3.0]]])
    # equal 0, opposite 2, orthogonal 1, and 1 - 24/25
    assert cosine_distance(a, b).item() == pytest.approx((0 + 2 + 1 + 0.04) / 4)


def test_caption_cross_entropy_is_the_mean_over_the_mask():
    logits = torch.stack([LOGITS, LOGITS.flip(0)])
    ids = torch.tensor([[0, 2, 1], [0, 1, 0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = -(log(0.5) + log(0.7) + log(0.9)) / 3
    assert caption_cross_entropy(logits, ids, mask).item() == pytest.approx(expected)


def test_caption_cross_entropy_without_words_is_zero():
    mask = torch.zeros(1, 3, dtype=torch.bool)
    assert caption_cross_entropy(LOGITS[None], torch.zeros(1, 3).long(), mask).item() == 0
