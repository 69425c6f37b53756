"""How close two fp32 results must be that differ only in the order of their sums.

Processors add in different orders (SSE, AVX2, AVX-512, one thread or two), so the last bits of fp32 differ between
machines. A sum of n products has a relative error of about n * 6e-8 of its largest terms; the
models of the tests sum at most a few hundred, several layers deep, which stays below 1e-4.
"""

import torch
from torch import Tensor

FP32_TOLERANCE = 1e-4
"""Relative to the largest magnitude of the expected values."""


def assert_close_fp32(actual: Tensor, expected: Tensor) -> None:
    """Asserts equal shapes and types, and equal values up to `FP32_TOLERANCE` of the largest expected one.

    NaN never passes, and infinities must stand in the same places.
    """
    finite = expected[expected.isfinite()]
    scale = float(finite.detach().abs().max()) if finite.numel() else 0.0
    torch.testing.assert_close(
        actual, expected, rtol=FP32_TOLERANCE, atol=FP32_TOLERANCE * max(scale, 0.1)
    )
