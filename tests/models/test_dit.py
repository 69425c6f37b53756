"""Patches by hand, and the pixel DiT on several grids."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.models.dit import DiTConfig, PixelDiT, patchify, timestep_embedding, unpatchify
from closeness import assert_close_fp32
from tiny import seeded


def test_patch_order_by_hand():
    """A picture of 2 x 4 pixels, 3 channels (hundreds), as two patches of 2 x 2."""
    one = torch.arange(8).view(2, 4)  # 0 1 2 3 / 4 5 6 7
    image = torch.stack([one, one + 100, one + 200])[None].float()
    patches = patchify(image, 2)
    left = [0, 100, 200, 1, 101, 201, 4, 104, 204, 5, 105, 205]  # pixels row-major, channels last
    assert patches[0, 0].tolist() == left
    assert patches[0, 1].tolist() == [value + 2 for value in left]
    assert torch.equal(unpatchify(patches, (1, 2), 2), image)


def test_patches_are_row_major():
    image = torch.arange(6).view(1, 1, 2, 3).float()
    assert patchify(image, 1)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_unpatchify_is_the_inverse(batch: int, height: int, width: int, patch: int):
    images = torch.randn(batch, 3, height * patch, width * patch, generator=seeded())
    patches = patchify(images, patch)
    assert patches.shape == (batch, height * width, 3 * patch * patch)
    assert torch.equal(unpatchify(patches, (height, width), patch), images)


def test_timestep_embedding_by_hand():
    embedded = timestep_embedding(torch.tensor([0.0, 0.001]), 4)
    # frequencies 1 and 1/100: angles 0, 0 and then 1, 0.01
    expected = [[1, 1, 0, 0], [0.5403023, 0.99995, 0.8414710, 0.0099998]]
    assert_close_fp32(embedded, torch.tensor(expected))


def dit(num_blocks: int = 2) -> PixelDiT:
    torch.manual_seed(0)
    return PixelDiT(DiTConfig(width=16, num_blocks=num_blocks, num_heads=2), 6, patch=4).eval()


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 5), (6, 1)])
@torch.no_grad()
def test_one_model_serves_every_grid(grid: tuple[int, int]):
    height, width = grid
    x = torch.randn(2, 3, height * 4, width * 4, generator=seeded())
    z_q = torch.randn(2, height * width, 6, generator=seeded(1))
    out = dit()(x, torch.tensor([0.1, 0.8]), z_q)
    assert out.shape == x.shape and out.isfinite().all()


@torch.no_grad()
def test_samples_of_a_batch_do_not_mix():
    model = dit()
    for name, parameter in model.named_parameters():
        if "modulation" in name:  # adaLN-zero blocks do nothing until they are trained
            parameter.normal_(0.0, 0.5, generator=seeded())
    x = torch.randn(3, 3, 8, 12, generator=seeded())
    t, z_q = torch.tensor([0.0, 0.4, 0.9]), torch.randn(3, 6, 6, generator=seeded(1))
    together = model(x, t, z_q)
    for i in range(3):
        alone = model(x[i : i + 1], t[i : i + 1], z_q[i : i + 1])
        assert_close_fp32(together[i : i + 1], alone)
    assert (model(x, t + 0.05, z_q) - together).abs().max() > 1e-3  # the timestep matters


@torch.no_grad()
def test_the_condition_of_a_token_reaches_its_own_patch():
    """Without blocks a patch of the output depends on its own code alone."""
    model = dit(num_blocks=0)
    x, z_q = torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 6)
    changed = z_q.clone()
    changed[0, 2] = 1.0  # the lower left token
    moved = (model(x, torch.zeros(1), changed) - model(x, torch.zeros(1), z_q)).abs().sum(
        (0, 1)
    ) > 0
    assert moved[4:, :4].all() and not moved[:4].any() and not moved[:, 4:].any()


@torch.no_grad()
def test_velocity_leads_to_the_estimate():
    model = dit()
    x, z_q, t = (
        torch.randn(2, 3, 8, 8, generator=seeded()),
        torch.zeros(2, 4, 6),
        torch.tensor([0.0, 0.5]),
    )
    velocity = model.velocity(x, t, z_q)
    reached = x + (1 - t)[:, None, None, None] * velocity
    assert_close_fp32(reached, model(x, t, z_q))
