"""What a device can do: plain products of large square matrices, beside which a training step is seen."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from arm.bench.rounds import Variant

SIDE_CPU, SIDE_GPU = 2048, 8192
"""Of the matrices, large enough to fill the device."""
ON_GPU = 20
"""Products a call there, or launching them would weigh."""


def matrix_products(device: torch.device, side: int = 0) -> Variant:
    """bf16 on a GPU, fp32 on a CPU. side: 0 takes the device's own. The matrices are there while it runs
    alone, so that they count to no other variant's memory.
    """
    on_gpu = device.type == "cuda"
    n, times = side or (SIDE_GPU if on_gpu else SIDE_CPU), ON_GPU if on_gpu else 1
    dtype = torch.bfloat16 if on_gpu else torch.float32
    matrices: list[Tensor] = []

    @contextmanager
    def within() -> Iterator[None]:
        matrices.extend(torch.randn(n, n, device=device, dtype=dtype) for _ in range(3))
        yield
        matrices.clear()

    def run() -> None:
        a, b, out = matrices
        for _ in range(times):
            torch.mm(a, b, out=out)

    name = f"matrices of {n:,} x {n:,} in {'bf16' if on_gpu else 'fp32'}"
    return Variant(name, float(times), run, flops=2.0 * n**3 * times, within=within)
