"""Optimizers (AdamW, Muon), the learning rate's schedule, and the moving average of the weights.

Muon (arXiv 2502.16982) moves matrices along their orthogonalised momentum. torch.optim.Muon always runs the
Newton-Schulz iteration in bf16, which is about fifty times slower than fp32 on a CPU without bf16
instructions; this one uses bf16 only on request. Updates are scaled by 0.2 * sqrt(max(rows, columns)), so
that AdamW's learning rates and schedules carry over.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from arm.models.weights import full_tensor, trained

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial whose iteration drives every singular value into about [0.7, 1.2]."""


def orthogonalize(matrix: Float[Tensor, "m n"], steps: int = 5) -> Float[Tensor, "m n"]:
    """Approximates the nearest semi-orthogonal matrix by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Parameter groups with `muon=True` (matrices only) take Muon's step, the others AdamW's.

    bf16: orthogonalise in bf16; parameters and momentum keep their dtype.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
        bf16: bool = False,
    ) -> None:
        self.bf16 = bf16
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": 0.0,
            "momentum": momentum,
            "muon": False,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = self._muon if group["muon"] else self._adam
                parameter.sub_(update(parameter, group), alpha=group["lr"])

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
        ahead = momentum * group["momentum"] + parameter.grad
        if self.bf16:
            ahead = ahead.bfloat16()
        if isinstance(ahead, DTensor):  # the iteration needs the full matrix
            part = (ahead.device_mesh, ahead.placements)
            update = distribute_tensor(orthogonalize(full_tensor(ahead)), *part, src_data_rank=None)
        else:
            update = orthogonalize(ahead)
        return update.to(parameter.dtype) * (0.2 * max(parameter.shape) ** 0.5)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())
        first, second = group["betas"]
        gradient = parameter.grad
        assert gradient is not None
        state["step"] += 1
        steps = float(state["step"])
        average = state["exp_avg"].lerp_(gradient, 1 - first) / (1 - first**steps)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second) / (1 - second**steps)
        return average / (square.sqrt() + 1e-8)


@dataclass(frozen=True)
class Optim:
    """AdamW or Muon; linear warm-up over `warmup` steps, then cosine decay to `floor` times the peak rate `lr`.

    clip: largest norm of the gradient. muon: Muon for the matrices that a stage passes to `make_optimizer`.
    ema: decay of a moving average of the weights, which replaces the weights at the end of the run; 0 is none.
    """

    lr: float
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    floor: float = 0.02
    muon: bool = False
    ema: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and min(self.lr, self.floor, self.weight_decay) >= 0):
            raise ValueError("lr, floor and weight_decay must be numbers from 0 up")
        if self.warmup < 0 or not self.clip > 0:
            raise ValueError("warmup must not be negative, and clip must be above 0")
        if not all(0 <= share < 1 for share in (*self.betas, self.ema)):
            raise ValueError("betas and ema must be from 0 up and below 1")


def learning_rate(optim: Optim, step: int, steps: int) -> float:
    """The rate of update `step` of `steps`: linear warm-up, then cosine decay to `floor` * peak at the end."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    progress = (step - optim.warmup) / max(1, steps - optim.warmup)
    return optim.lr * (
        optim.floor + (1 - optim.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    )


def block_matrices(module: nn.Module) -> list[Tensor]:
    """The trained matrices inside a network's repeated blocks, which Muon is made for. Embeddings, heads and
    the projections into and out of a network are not among them.
    """
    members = (
        block for part in module.modules() if isinstance(part, nn.ModuleList) for block in part
    )
    inside = {id(p) for block in members for p in block.parameters()}
    return [p for p in trained(module).values() if p.dim() == 2 and id(p) in inside]


def make_optimizer(
    module: nn.Module, optim: Optim, muon: Iterable[Tensor] = (), bf16: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of a module's trained parameters: AdamW, or with `optim.muon` Muon, which gives the
    matrices among the parameters `muon` Muon's step and all others AdamW's. Only matrices decay.

    bf16: Muon multiplies in bf16.
    """
    chosen = {id(p) for p in muon}
    parameters = trained(module).values()
    for_muon = [p for p in parameters if id(p) in chosen]
    matrices = [p for p in parameters if id(p) not in chosen and p.dim() >= 2]
    vectors = [p for p in parameters if id(p) not in chosen and p.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": for_muon, "weight_decay": optim.weight_decay},
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if optim.muon:
        groups[0]["muon"] = True
        muon_groups = [g for g in groups if g["params"]]
        return Muon(muon_groups, lr=optim.lr, betas=optim.betas, bf16=bf16)
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)


# Exponential moving average of the weights


@torch.no_grad()
def init_ema(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The initial moving average: a copy of each parameter, of sharded parameters of each shard."""
    return {name: p.detach().clone() for name, p in parameters.items()}


@torch.no_grad()
def update_ema(
    averages: Mapping[str, Tensor], parameters: Mapping[str, Tensor], decay: float
) -> None:
    """Sets average = decay * average + (1 - decay) * parameter, in place."""
    for name, average in averages.items():
        average.lerp_(parameters[name].detach(), 1 - decay)
