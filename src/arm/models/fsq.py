"""Finite scalar quantisation with two levels a dimension (ARM section 1; FSQ, arXiv 2309.15505).

Each latent dimension becomes its sign, so `bits` dimensions make 2**bits codes with no codebook to
learn. Bit i of a code is 1 where dimension i is +1.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class FSQ(nn.Module):
    """Quantiser of (..., bits) latents. Gradients pass straight through the sign."""

    powers: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 30:
            raise ValueError(f"bits must be in 1..30, not {bits}")
        self.bits = bits
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    @property
    def num_codes(self) -> int:
        return 2**self.bits

    def forward(self, latent: Float[Tensor, "*n bits"]) -> Float[Tensor, "*n bits"]:
        """Signs in {-1, +1}; the gradient is that of tanh, so that far values stop moving."""
        bounded = torch.tanh(latent)
        signs = torch.where(latent > 0, 1.0, -1.0).to(latent.dtype)
        return bounded + (signs - bounded).detach()

    def to_codes(self, signs: Float[Tensor, "*n bits"]) -> Int[Tensor, "*n"]:
        """Signs -> integers in [0, 2**bits)."""
        return ((signs > 0).long() * self.powers).sum(-1)

    def to_signs(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*n bits"]:
        """Integers in [0, 2**bits) -> signs. The inverse of `to_codes`."""
        return ((codes[..., None] & self.powers) > 0).float() * 2 - 1
