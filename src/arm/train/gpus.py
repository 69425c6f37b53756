"""What one GPU can do, by NVIDIA's data sheets: dense bf16 products, and memory.

Where a sheet prints the rate with sparsity, half of it stands here.
"""

from dataclasses import dataclass

from arm.errors import InputError, did_you_mean


@dataclass(frozen=True)
class GPU:
    """name: as the command line takes it; flops: dense bf16, a second; memory: bytes (1 GB = 10^9)."""

    name: str
    flops: float
    memory: float
    source: str


GPUS = (
    GPU("a100", 312e12, 80e9, "A100 Tensor Core GPU data sheet, SXM 80 GB"),
    GPU("a100-40", 312e12, 40e9, "A100 Tensor Core GPU data sheet, 40 GB"),
    GPU("h100", 989e12, 80e9, "H100 Tensor Core GPU data sheet, SXM (1,979 TFLOP/s with sparsity)"),
    GPU("h100-pcie", 756e12, 80e9, "H100 PCIe product brief (1,513 TFLOP/s with sparsity)"),
    GPU("h200", 989e12, 141e9, "H200 Tensor Core GPU data sheet, SXM (1,979 with sparsity)"),
    GPU("b200", 2250e12, 180e9, "DGX B200 data sheet, one of eight (36 PFLOP/s with sparsity)"),
    GPU("l40s", 362e12, 48e9, "L40S data sheet (733 TFLOP/s with sparsity)"),
    GPU("l4", 121e12, 24e9, "L4 data sheet (242 TFLOP/s with sparsity)"),
)


def gpu_named(name: str) -> GPU:
    """Raises InputError for a GPU that is not in the table."""
    for gpu in GPUS:
        if gpu.name == name.lower():
            return gpu
    names = [gpu.name for gpu in GPUS]
    hint = did_you_mean(name, names)
    raise InputError(f"there is no GPU '{name}' in the table.{hint} GPUs: {', '.join(names)}.")
