"""Rotary angles on a grid, and the transformer block."""

import pytest
import torch

from arm.models.blocks import Block, GridTransformer, grid_angles, grid_sines, rotate
from closeness import assert_close_fp32
from tiny import seeded


def test_grid_angles_by_hand():
    """head_dim 8: two frequencies, 1 and 100 ** -1/2 = 0.1, for rows and then for columns."""
    angles = grid_angles(2, 3, 8)
    expected = [
        [0, 0.0, 0, 0.0], [0, 0.0, 1, 0.1], [0, 0.0, 2, 0.2],
        [1, 0.1, 0, 0.0], [1, 0.1, 1, 0.1], [1, 0.1, 2, 0.2],
    ]  # fmt: skip
    assert_close_fp32(angles, torch.tensor(expected))


def test_angles_of_a_part_of_a_grid_are_those_of_the_whole():
    whole = grid_angles(5, 7, 16).view(5, 7, -1)
    assert torch.equal(grid_angles(3, 2, 16).view(3, 2, -1), whole[:3, :2])


def test_grid_sines_by_hand():
    """dim 4: one frequency, 1; the sines of row and column, each with its cosine behind it."""
    sin, cos = float(torch.tensor(1.0).sin()), float(torch.tensor(1.0).cos())
    expected = [[0, 1, 0, 1], [0, 1, sin, cos], [sin, cos, 0, 1], [sin, cos, sin, cos]]
    assert_close_fp32(grid_sines(2, 2, 4), torch.tensor(expected))
    wide = grid_sines(7, 9, 32)
    assert wide.shape == (63, 32) and len({tuple(row) for row in wide.tolist()}) == 63


@pytest.mark.parametrize("head_dim", [2, 6, 10])
def test_head_dimensions_that_do_not_split(head_dim: int):
    with pytest.raises(ValueError, match=f"multiple of 4 for a 2-D grid, not {head_dim}"):
        grid_angles(2, 2, head_dim)


def test_rotation_by_hand():
    x = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    quarter = torch.tensor([[torch.pi / 2, 0.0]])  # the pair (1, 3) turns, the pair (2, 4) stays
    assert_close_fp32(rotate(x, quarter), torch.tensor([[[[-3.0, 2.0, 1.0, 4.0]]]]))


def test_rotation_keeps_lengths():
    x = torch.randn(2, 3, 6, 8, generator=seeded())
    assert_close_fp32(rotate(x, grid_angles(2, 3, 8)).norm(dim=-1), x.norm(dim=-1))


def test_dot_products_depend_on_the_offset_alone():
    """The same query at every token, the same key at every token of a 4 x 5 grid."""
    height, width = 4, 5
    q, k = torch.randn(2, 1, 1, 1, 16, generator=seeded(), dtype=torch.float64)
    angles = grid_angles(height, width, 16).double()
    q_NF = rotate(q.expand(1, 1, 20, 16), angles)[0, 0]
    k_NF = rotate(k.expand(1, 1, 20, 16), angles)[0, 0]
    scores = (q_NF @ k_NF.T).view(height, width, height, width)
    found: dict[tuple[int, int], float] = {}
    for r in range(height):
        for c in range(width):
            for r2 in range(height):
                for c2 in range(width):
                    score = scores[r, c, r2, c2].item()
                    offset = (r2 - r, c2 - c)
                    assert found.setdefault(offset, score) == pytest.approx(score, abs=1e-4)
    # distinct offsets give distinct scores, so the position is not lost
    assert len({round(score, 4) for score in found.values()}) == len(found) == 7 * 9


def test_a_conditioned_block_is_the_identity_at_first():
    torch.manual_seed(0)
    block = Block(16, 2, 2.0, conditioned=True)
    x, angles = torch.randn(2, 6, 16, generator=seeded()), grid_angles(2, 3, 8)
    condition = torch.randn(2, 16, generator=seeded(1))
    assert torch.equal(block(x, angles, condition), x)
    # ... and learns: its modulation has a gradient, though it is zero
    block(x, angles, condition).square().sum().backward()
    assert block.modulation is not None and block.modulation.weight.grad is not None
    assert block.modulation.weight.grad.abs().max() > 0


@torch.no_grad()
def test_adaln_by_hand():
    """Gate, scale and shift set by the bias alone, against the formula of DiT."""
    torch.manual_seed(0)
    block = Block(8, 2, 2.0, conditioned=True)
    assert block.modulation is not None
    values = (0.3, -0.5, 2.0, -0.2, 0.7, 0.1)  # shift, scale, gate; twice
    block.modulation.bias.copy_(torch.tensor(values).repeat_interleave(8))
    x, angles = torch.randn(1, 4, 8, generator=seeded()), grid_angles(2, 2, 4)

    def norm(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, keepdim=True, unbiased=False) + 1e-5
        ).sqrt()

    y = x + 2.0 * block.attend(norm(x) * 0.5 + 0.3, angles)
    y = y + 0.1 * block.mlp(norm(y) * 1.7 - 0.2)
    assert_close_fp32(block(x, angles, torch.zeros(1, 8)), y)


@torch.no_grad()
def test_attention_by_hand():
    """One head, against softmax(q k / sqrt d) v written out."""
    torch.manual_seed(0)
    block = Block(8, 1, 2.0)
    x, angles = torch.randn(1, 4, 8, generator=seeded()), grid_angles(2, 2, 8)
    q, k, v = (x @ block.qkv.weight.T + block.qkv.bias).chunk(3, -1)
    q, k = rotate(q[:, None], angles)[:, 0], rotate(k[:, None], angles)[:, 0]
    weights = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)
    expected = (weights @ v) @ block.out.weight.T + block.out.bias
    assert_close_fp32(block.attend(x, angles), expected)


def test_width_and_heads_must_fit():
    with pytest.raises(ValueError, match="width 10 is not a multiple of num_heads 4"):
        Block(10, 4, 2.0)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 2)])
@torch.no_grad()
def test_grid_transformer_serves_every_grid(grid: tuple[int, int]):
    torch.manual_seed(0)
    model = GridTransformer(5, 7, width=16, num_blocks=2, num_heads=2, mlp_ratio=2.0)
    x = torch.randn(2, grid[0] * grid[1], 5, generator=seeded())
    out = model(x, grid)
    assert out.shape == (2, grid[0] * grid[1], 7) and out.isfinite().all()
    assert_close_fp32(model(x[1:], grid), out[1:])
