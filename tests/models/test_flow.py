"""The straight path, its velocity and the sampler, on numbers worked out by hand."""

import pytest
import torch
from torch import Tensor

from arm.models.flow import euler, interpolate, sample_timesteps, velocity_from_x1
from closeness import assert_close_fp32
from tiny import seeded

X0 = torch.tensor([[1.0, -2.0], [0.0, 4.0], [8.0, 8.0]])
X1 = torch.tensor([[3.0, 2.0], [-1.0, 0.0], [6.0, 9.0]])


def test_the_path_by_hand():
    x_t = interpolate(X0, X1, torch.tensor([0.0, 0.5, 1.0]))
    assert x_t.tolist() == [[1, -2], [-0.5, 2], [6, 9]]  # noise, the middle, data


def test_the_timestep_belongs_to_the_sample_in_any_shape():
    x0, x1 = torch.zeros(2, 3, 4, 5), torch.ones(2, 3, 4, 5)
    x_t = interpolate(x0, x1, torch.tensor([0.25, 0.75]))
    assert (x_t[0] == 0.25).all() and (x_t[1] == 0.75).all()


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_velocity_from_x1_is_the_velocity_of_the_path(t: float):
    t_B = torch.full((3,), t)
    velocity = velocity_from_x1(X1, interpolate(X0, X1, t_B), t_B)
    assert_close_fp32(velocity, X1 - X0)


def test_velocity_from_x1_by_hand():
    velocity = velocity_from_x1(torch.tensor([[5.0]]), torch.tensor([[2.0]]), torch.tensor([0.4]))
    assert velocity.item() == pytest.approx(5.0)  # 3 in the 0.6 that are left


@pytest.mark.parametrize("num_steps", [1, 7])
def test_euler_with_the_exact_velocity_reaches_the_data(num_steps: int):
    asked: list[float] = []

    def velocity(x: Tensor, t_B: Tensor) -> Tensor:
        assert t_B.shape == (3,) and (t_B == t_B[0]).all()
        asked.append(t_B[0].item())
        return X1 - X0

    assert_close_fp32(euler(velocity, X0, num_steps), X1)
    assert len(asked) == num_steps and asked[0] == 0 and max(asked) < 1
    assert asked == sorted(asked)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_euler_with_an_x1_predictor_reaches_the_data(num_steps: int):
    reached = euler(lambda x, t_B: velocity_from_x1(X1, x, t_B), X0, num_steps)
    assert_close_fp32(reached, X1)


def test_times_by_hand():
    asked: list[float] = []

    def velocity(x: Tensor, t_B: Tensor) -> Tensor:
        asked.append(t_B[0].item())
        return x

    euler(velocity, X0, 4)
    assert asked == pytest.approx([0, 0.25, 0.5, 0.75])


def test_euler_by_hand():
    # x' = x in two steps: 1 -> 1.5 -> 2.25
    assert euler(lambda x, _: x, torch.ones(1, 1), 2).item() == 2.25


@pytest.mark.parametrize("num_steps", [0, -3])
def test_no_steps(num_steps: int):
    with pytest.raises(ValueError, match=f"at least 1, not {num_steps}"):
        euler(lambda x, _: x, X0, num_steps)


def test_timesteps():
    even = sample_timesteps(20_000, 1.0, 1.0, seeded())
    assert even.shape == (20_000,) and even.min() >= 0 and even.max() < 1
    assert abs(even.mean().item() - 1 / 2) < 0.01
    low = sample_timesteps(20_000, 2.0, 0.9, seeded())
    assert_close_fp32(low, 0.9 * even.square())
    assert low.max() <= 0.9
    assert abs(low.mean().item() - 0.9 / 3) < 0.01  # the mean of u squared is a third
