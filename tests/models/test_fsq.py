"""The quantiser over its whole codebook, and its gradient."""

import pytest
import torch

from arm.models.fsq import FSQ
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
    torch.testing.assert_close(signs, torch.tensor([[-1.0, -1, -1, -1, 1, 1, 1]]))
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
    torch.testing.assert_close(latent.grad, expected)
    assert latent.grad[0, 4].item() < 1e-6  # far values stop moving


@pytest.mark.parametrize("bits", [-1, 0, 31])
def test_bits_that_make_no_codebook(bits: int):
    with pytest.raises(ValueError, match=rf"bits must be in 1\.\.30, not {bits}"):
        FSQ(bits)


def test_the_powers_are_not_saved():
    assert FSQ(12).state_dict() == {}
