"""Transformer blocks on a grid of tokens, shared by the tokenizer and the pixel DiT.

B batch, N tokens of a grid in row-major order, D width, H heads, F features of a head.
Positions are axial rotary angles, so one set of weights serves every grid.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def grid_angles(height: int, width: int, head_dim: int, theta: float = 100.0) -> Tensor:
    """Rotary angles of every token of a grid, (N, head_dim / 2): half for rows, half for columns."""
    if head_dim % 4:
        raise ValueError(f"head_dim must be a multiple of 4 for a 2-D grid, not {head_dim}")
    frequencies = theta ** -(torch.arange(head_dim // 4) / (head_dim // 4))
    rows = torch.arange(height)[:, None, None] * frequencies
    cols = torch.arange(width)[None, :, None] * frequencies
    shape = (height, width, head_dim // 4)
    return torch.cat([rows.expand(shape), cols.expand(shape)], -1).reshape(height * width, -1)


def grid_sines(height: int, width: int, dim: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of every token's row and column, (N, dim); dim must be a multiple of 4."""
    frequencies = 30.0 ** -(torch.arange(dim // 4) / (dim // 4))
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = torch.stack([rows, cols], -1).reshape(-1, 2, 1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1)


def rotate(x_BHNF: Tensor, angles_NF: Tensor) -> Tensor:
    """Rotates the first half of the features against the second by the angles."""
    cos, sin = angles_NF.cos(), angles_NF.sin()
    a, b = x_BHNF.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Block(nn.Module):
    """Pre-norm self-attention and MLP; with `conditioned`, adaLN-zero by a vector (DiT, 2212.09748)."""

    def __init__(
        self, width: int, num_heads: int, mlp_ratio: float, conditioned: bool = False
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, elementwise_affine=not conditioned)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=not conditioned)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width)
        )
        self.modulation = nn.Linear(width, 6 * width) if conditioned else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def attend(self, x_BND: Tensor, angles_NF: Tensor) -> Tensor:
        B, N, D = x_BND.shape
        q, k, v = self.qkv(x_BND).view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, angles_NF), rotate(k, angles_NF), v)
        return self.out(mixed.transpose(1, 2).reshape(B, N, D))

    def forward(
        self,
        x_BND: Float[Tensor, "b n d"],
        angles_NF: Float[Tensor, "n f"],
        condition_BD: Float[Tensor, "b d"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        if self.modulation is None or condition_BD is None:
            x_BND = x_BND + self.attend(self.norm1(x_BND), angles_NF)
            return x_BND + self.mlp(self.norm2(x_BND))
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition_BD))[
            :, None
        ].chunk(6, -1)
        x_BND = x_BND + gate1 * self.attend(self.norm1(x_BND) * (1 + scale1) + shift1, angles_NF)
        return x_BND + gate2 * self.mlp(self.norm2(x_BND) * (1 + scale2) + shift2)


class GridTransformer(nn.Module):
    """Linear map in, blocks, norm, linear map out, over the tokens of one grid."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        width: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.head_dim = width // num_heads
        self.enter = nn.Linear(in_dim, width)
        self.blocks = nn.ModuleList(Block(width, num_heads, mlp_ratio) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, out_dim)

    def forward(
        self, x_BNI: Float[Tensor, "b n i"], grid: tuple[int, int]
    ) -> Float[Tensor, "b n o"]:
        """`grid` is (height, width) in tokens, n = height * width."""
        angles_NF = grid_angles(*grid, self.head_dim).to(x_BNI)
        x_BND = self.enter(x_BNI)
        for block in self.blocks:
            x_BND = block(x_BND, angles_NF)
        return self.leave(self.norm(x_BND))
