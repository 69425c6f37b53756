"""Rectified flow (ARM sections 1 and 2): path, targets and Euler sampler.

x_t = t * x1 + (1 - t) * x0 with noise x0 at t = 0 and data x1 at t = 1; velocity = x1 - x0.
A network may predict the velocity or x1; the two are one map apart (`velocity_from_x1`).
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


def _over(t_B: Tensor, x: Tensor) -> Tensor:
    return t_B.view(-1, *[1] * (x.dim() - 1))


def interpolate(
    x0: Float[Tensor, "b ..."], x1: Float[Tensor, "b ..."], t_B: Float[Tensor, " b"]
) -> Float[Tensor, "b ..."]:
    """The point x_t of the straight path, t in [0, 1] for each sample."""
    t = _over(t_B, x1)
    return t * x1 + (1 - t) * x0


def velocity_from_x1(x1_hat: Tensor, x_t: Tensor, t_B: Tensor) -> Tensor:
    """(x1 - x_t) / (1 - t): the velocity that leads from x_t to x1. t must be below 1."""
    return (x1_hat - x_t) / (1 - _over(t_B, x_t))


def sample_timesteps(
    batch: int, power: float, highest: float, generator: torch.Generator | None = None
) -> Float[Tensor, " b"]:
    """t = highest * u**power with u ~ U[0, 1]. (1, 1) is the paper's uniform draw.

    A power of 2 and a highest value below 1 stay near the noise, where the condition and not the
    noisy picture must give the answer.
    """
    return highest * torch.rand(batch, generator=generator) ** power


def euler(
    velocity: Callable[[Tensor, Tensor], Tensor],
    noise: Float[Tensor, "b ..."],
    num_steps: int,
) -> Float[Tensor, "b ..."]:
    """Integrates dx/dt = velocity(x, t_B) from noise (t = 0) to data (t = 1) in equal steps.

    Raises ValueError for fewer than 1 step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    times = torch.linspace(0, 1, num_steps + 1).tolist()
    x = noise
    for now, after in pairwise(times):
        t_B = torch.full((x.shape[0],), now, dtype=x.dtype, device=x.device)
        x = x + (after - now) * velocity(x, t_B)
    return x
