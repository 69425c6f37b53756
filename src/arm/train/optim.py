"""The optimiser of a run and the schedule of its learning rate."""

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from arm.models.weights import trained
from arm.train.muon import Muon


@dataclass(frozen=True)
class Optim:
    """AdamW (or Muon, see `train/muon.py`), linear warm-up, cosine decay to `floor` times the peak.

    ema: decay of a moving average of the weights, which the run then ends with; 0 is none.
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
            raise ValueError("warmup must not be negative, and clip above 0")
        if not all(0 <= share < 1 for share in (*self.betas, self.ema)):
            raise ValueError("betas and ema must be from 0 up and below 1")


def learning_rate(optim: Optim, step: int, steps: int) -> float:
    """Warm-up over `warmup` steps, then cosine from the peak to `floor` * peak at `steps`."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    progress = (step - optim.warmup) / max(1, steps - optim.warmup)
    return optim.lr * (
        optim.floor + (1 - optim.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    )


def optimizer_for(module: nn.Module, optim: Optim, bf16: bool = False) -> torch.optim.Optimizer:
    """AdamW over the trained parameters, or Muon for the matrices inside blocks and AdamW for the rest.

    bf16: Muon's matrix products in bf16. Only matrices decay. Embeddings, heads and maps in and out
    of a network stay with AdamW.
    """
    named = trained(module)
    inside = {
        name for name, p in named.items() if p.dim() == 2 and re.search(r"(blocks|layers)\.", name)
    }
    matrices = [p for name, p in named.items() if p.dim() >= 2 and name not in inside]
    vectors = [p for p in named.values() if p.dim() < 2]
    blocks = [named[name] for name in named if name in inside]
    groups: list[dict[str, Any]] = [
        {"params": blocks, "weight_decay": optim.weight_decay},
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if optim.muon:
        groups[0]["muon"] = True
        muon_groups = [g for g in groups if g["params"]]
        return Muon(muon_groups, lr=optim.lr, betas=optim.betas, bf16=bf16)
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)
