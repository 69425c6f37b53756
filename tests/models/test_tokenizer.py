"""The quantiser over its whole codebook, and its gradient.

Both kinds of SigLIP tower against transformers' own processors and models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arm.data.images import to_float
from arm.errors import WeightsError
from arm.models.tokenizer import (
    FSQ,
    FixedSizeEncoder,
    NaFlexEncoder,
    VisualTokenizer,
    vision_encoder,
)
from checkpoints import PATCH, WIDTH, fixed_size_towers, naflex_towers
from closeness import assert_close_fp32
from tiny import seeded


@pytest.mark.parametrize("bits", [1, 12, 16])
def test_codes_and_signs_are_one_to_one(bits: int):
    fsq = FSQ(bits)
    codes = torch.arange(2**bits)
    signs = fsq.to_signs(codes)
    assert fsq.num_codes == 2**bits and signs.shape == (2**bits, bits)
    assert ((signs == 1) | (signs == -1)).all()
    assert torch.equal(fsq.to_codes(signs), codes)  # so no two codes share their signs
    assert (signs.sum(0) == 0).all()  # each bit is set in half of them


def test_bits_by_hand():
    fsq = FSQ(4)
    assert fsq.to_signs(torch.tensor([6])).tolist() == [[-1, 1, 1, -1]]
    assert fsq.to_codes(torch.tensor([[1.0, -1.0, -1.0, 1.0]])).tolist() == [9]


def test_leading_dimensions_stay():
    fsq = FSQ(5)
    codes = torch.randint(32, (2, 3, 4), generator=seeded())
    assert fsq.to_signs(codes).shape == (2, 3, 4, 5)
    assert torch.equal(fsq.to_codes(fsq.to_signs(codes)), codes)


def test_forward_gives_signs_of_the_latent():
    latent = torch.tensor([[-30.0, -0.5, -1e-6, 0.0, 1e-6, 0.5, 30.0]])
    signs = FSQ(7)(latent)
    assert_close_fp32(signs, torch.tensor([[-1.0, -1, -1, -1, 1, 1, 1]]))
    latent = torch.randn(50, 8, generator=seeded(), dtype=torch.float64) * 3
    fsq = FSQ(8)
    assert fsq(latent).dtype == torch.float64
    assert torch.equal(fsq(latent).sign(), latent.sign())
    assert fsq(latent).abs().sub(1).abs().max() < 1e-12
    assert torch.equal(fsq.to_codes(fsq(latent)), fsq.to_codes(latent))


def test_the_gradient_is_that_of_tanh():
    latent = torch.tensor([[-2.0, -0.1, 0.0, 0.7, 9.0]], requires_grad=True)
    upstream = torch.tensor([[1.0, -2.0, 3.0, 0.5, 1.0]])
    (FSQ(5)(latent) * upstream).sum().backward()
    assert latent.grad is not None
    expected = upstream * (1 - latent.detach().tanh().square())
    assert_close_fp32(latent.grad, expected)
    assert latent.grad[0, 4].item() < 1e-6  # far values stop moving


@pytest.mark.parametrize("bits", [-1, 0, 31])
def test_bits_that_make_no_codebook(bits: int):
    with pytest.raises(ValueError, match=rf"bits must be in 1\.\.30, not {bits}"):
        FSQ(bits)


def test_the_powers_are_not_saved():
    assert FSQ(12).state_dict() == {}


GRIDS = [(4, 4), (3, 5), (8, 2), (5, 5)]


def pictures(grid: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, grid[0] * PATCH, grid[1] * PATCH, 3), dtype=np.uint8)


@pytest.mark.parametrize("grid", GRIDS)
@torch.no_grad()
def test_naflex_equals_transformers(grid):
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    model, images = naflex_towers(), pictures(grid)
    processor = Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=grid[0] * grid[1] + 3)
    # its own resizing enlarges a picture up to the patches it may have; ours has its size already
    inputs = processor(images=list(images), return_tensors="pt", do_resize=False)
    assert inputs["spatial_shapes"].tolist() == [list(grid)] * 2
    theirs = model.vision_model(**inputs)
    encoder = vision_encoder(model.vision_model)
    assert isinstance(encoder, NaFlexEncoder) and (encoder.patch, encoder.width) == (PATCH, WIDTH)
    ours = encoder.features(to_float(images))
    n = grid[0] * grid[1]
    assert_close_fp32(ours, theirs.last_hidden_state[:, :n])
    assert_close_fp32(encoder.pool(ours), theirs.pooler_output)


@pytest.mark.parametrize("grid", GRIDS)
@torch.no_grad()
def test_fixed_size_equals_transformers(grid):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    model, images = fixed_size_towers(), pictures(grid)
    processor = SiglipImageProcessorPil(size={"height": images.shape[1], "width": images.shape[2]})
    inputs = processor(images=list(images), return_tensors="pt")
    theirs = model.vision_model(**inputs, interpolate_pos_encoding=True)
    encoder = vision_encoder(model.vision_model)
    assert isinstance(encoder, FixedSizeEncoder)
    ours = encoder.features(to_float(images))
    assert_close_fp32(ours, theirs.last_hidden_state)
    assert_close_fp32(encoder.pool(ours), theirs.pooler_output)


@pytest.mark.parametrize("towers", [fixed_size_towers, naflex_towers])
@torch.no_grad()
def test_a_batch_is_its_pictures(towers):
    encoder = vision_encoder(towers().vision_model)
    images = to_float(pictures((3, 5)))
    alone = torch.cat([encoder.features(image[None]) for image in images])
    assert_close_fp32(encoder.features(images), alone)
    assert (alone[0] - alone[1]).abs().max() > 1e-2


@pytest.mark.parametrize("towers", [fixed_size_towers, naflex_towers])
def test_bf16_towers_take_and_give_fp32(towers):
    encoder, exact = (vision_encoder(towers().vision_model) for _ in range(2))
    encoder.to(torch.bfloat16)
    images = to_float(pictures((4, 3)))
    ours, wanted = encoder.features(images), exact.features(images)
    assert ours.dtype == encoder.pool(ours).dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(ours, wanted, dim=-1).min() > 0.99


@pytest.mark.parametrize("towers", [fixed_size_towers, naflex_towers])
def test_the_visual_tokenizer_stands_on_either(towers):
    from arm.models.dit import DiTConfig
    from arm.models.tokenizer import TokenizerConfig

    torch.manual_seed(0)
    config = TokenizerConfig(
        code_bits=5, width=16, num_blocks=1, num_heads=2, pixel=DiTConfig(16, 1, 2)
    )
    tokenizer = VisualTokenizer(config, towers().vision_model)
    codes = tokenizer.encode(to_float(pictures((3, 5))))
    assert codes.shape == (2, 3, 5) and codes.unique().numel() > 1 and codes.max() < 32
    z_q = tokenizer.dequantize(codes)
    assert z_q.shape == (2, 15, WIDTH) and tokenizer.pool(z_q).shape == (2, WIDTH)
    assert not any(name.startswith("encoder.") for name in tokenizer.own())
    # the loss on the pooled z_q reaches z_q through the frozen head
    tokenizer.pool(z_q).sum().backward()
    gradient = tokenizer.deprojector.leave.weight.grad
    assert gradient is not None and gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "width 16 is no multiple of four times num_heads 5"),
        ({"num_heads": 0}, "width, num_blocks, num_heads and mlp_ratio must be positive"),
        (
            {"pixel": {"width": 18, "num_blocks": 1, "num_heads": 2}},
            r"pixel\.width 18 is no multiple",
        ),
        ({"code_bits": 31}, r"code_bits must be in 1\.\.30, not 31"),
        ({"mlp_ratio": float("inf")}, "must be positive"),
        ({"mlp_ratio": "four"}, "mlp_ratio='four': expected float"),
    ],
)
def test_settings_changed_by_hand(tmp_path: Path, change: dict[str, Any], message: str):
    from arm.models.dit import DiTConfig
    from arm.models.tokenizer import TokenizerConfig

    model = fixed_size_towers().vision_model
    VisualTokenizer(TokenizerConfig(5, 16, 1, 2, DiTConfig(16, 1, 2)), model).save(tmp_path)
    path = tmp_path / "visual_tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=rf"visual_tokenizer\.json: .*{message}") as error:
        VisualTokenizer.load(tmp_path, model)
    assert "\n" not in str(error.value)
