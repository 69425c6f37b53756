"""bf16 products from outside: which layers change, what stays fp32, how far the result moves."""

import pytest
import torch
from torch import nn

from arm.train.precision import multiply_in_bf16


class Special(nn.Linear):
    """A subclass with a forward pass of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


def test_linear_layers_multiply_in_bf16_and_return_fp32():
    torch.manual_seed(0)
    layer = nn.Linear(64, 8)
    x = torch.randn(16, 64, requires_grad=True)
    exact = layer(x)
    names = list(layer.state_dict())
    multiply_in_bf16(layer)
    rounded = layer(x)
    assert rounded.dtype == torch.float32 and list(layer.state_dict()) == names
    assert torch.equal(rounded, rounded.bfloat16().float())  # what bf16 products can hold
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)
    rounded.square().sum().backward()
    assert layer.weight.dtype == torch.float32
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    assert x.grad is not None and x.grad.dtype == torch.float32


@pytest.mark.parametrize("bias", [True, False])
def test_nested_layers_change_and_other_modules_do_not(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=bias), nn.Sequential(nn.LayerNorm(8), Special(8, 8)))
    x = torch.randn(3, 8)
    inner = model[1](x)
    assert multiply_in_bf16(model) is model
    assert type(model[0]) is not nn.Linear and isinstance(model[0], nn.Linear)
    assert torch.equal(model[1](x), inner)
    assert model[0](x).shape == (3, 8)
