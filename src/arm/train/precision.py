"""bf16 matrix products, applied to a network from outside.

Every nn.Linear multiplies in bf16 and returns fp32; parameters, norms, attention, losses and the
optimiser stay in fp32. On processors with bf16 units (AVX512-BF16, AMX) a product takes less than half of the time;
on others bf16 is emulated and many times slower than fp32: ask `has_bf16_units` first.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def has_bf16_units() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class _Bf16Linear(nn.Linear):
    """An nn.Linear that multiplies in bf16; takes over a layer's class, never made by itself."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.bfloat16()
        return F.linear(input.bfloat16(), self.weight.bfloat16(), bias).to(input.dtype)


def multiply_in_bf16(module: nn.Module) -> nn.Module:
    """Turns the linear layers of `module` to bf16 products, and returns it.

    Names, parameters and checkpoints stay as they are. Subclasses of nn.Linear are left alone.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Bf16Linear
    return module
