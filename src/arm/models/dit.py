"""The pixel DiT (ARM section 1, L_pix): a diffusion transformer on patches, conditioned on z_q.

One token a patch, the same grid as the codes, so the condition of a token is added to it. The
network predicts x1; `velocity` turns that into the flow's velocity.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arm.models import flow
from arm.models.blocks import Block, grid_angles


@dataclass(frozen=True)
class DiTConfig:
    width: int
    num_blocks: int
    num_heads: int
    mlp_ratio: float = 4.0


def patchify(images_B3HW: Float[Tensor, "b c h w"], patch: int) -> Float[Tensor, "b n p"]:
    """Pictures -> row-major patches of patch * patch * C values."""
    B, C, H, W = images_B3HW.shape
    x = images_B3HW.view(B, C, H // patch, patch, W // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(B, (H // patch) * (W // patch), -1)


def unpatchify(
    patches_BNP: Float[Tensor, "b n p"], grid: tuple[int, int], patch: int
) -> Float[Tensor, "b c h w"]:
    """The inverse of `patchify`."""
    B = patches_BNP.shape[0]
    x = patches_BNP.view(B, *grid, patch, patch, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(B, -1, grid[0] * patch, grid[1] * patch)


def timestep_embedding(t_B: Float[Tensor, " b"], dim: int) -> Float[Tensor, "b d"]:
    """Sines and cosines of 1000 t, as in DiT."""
    frequencies = torch.exp(
        -math.log(10_000.0) * torch.arange(dim // 2, device=t_B.device) / (dim // 2)
    )
    angles = 1000 * t_B[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).to(t_B.dtype)


class PixelDiT(nn.Module):
    """Predicts the clean patches from noisy ones, the timestep and z_q."""

    def __init__(self, config: DiTConfig, condition_dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.head_dim = config.width // config.num_heads
        self.enter = nn.Linear(3 * patch * patch, config.width)
        self.condition = nn.Linear(condition_dim, config.width)
        self.time = nn.Sequential(
            nn.Linear(config.width, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.mlp_ratio, conditioned=True)
            for _ in range(config.num_blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, 3 * patch * patch)

    def forward(
        self,
        x_B3HW: Float[Tensor, "b 3 h w"],
        t_B: Float[Tensor, " b"],
        z_q_BND: Float[Tensor, "b n d"],
    ) -> Float[Tensor, "b 3 h w"]:
        """The estimate of x1, a picture in about [-1, 1]."""
        grid = (x_B3HW.shape[2] // self.patch, x_B3HW.shape[3] // self.patch)
        angles = grid_angles(*grid, self.head_dim).to(x_B3HW)
        time_BD = self.time(timestep_embedding(t_B, self.enter.out_features))
        x_BND = self.enter(patchify(x_B3HW, self.patch)) + self.condition(z_q_BND)
        for block in self.blocks:
            x_BND = block(x_BND, angles, time_BD)
        return unpatchify(self.leave(self.norm(x_BND)), grid, self.patch)

    def velocity(self, x_B3HW: Tensor, t_B: Tensor, z_q_BND: Tensor) -> Tensor:
        return flow.velocity_from_x1(self(x_B3HW, t_B, z_q_BND), x_B3HW, t_B)
