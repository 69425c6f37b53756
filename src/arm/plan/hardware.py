"""GPUs by their data sheets, clusters of them, and what a process needs of its host's memory.

GPU rates are for dense bf16 products. Where a data sheet states the rate with sparsity, half of it is used.
"""

from dataclasses import dataclass

from arm.errors import InputError, did_you_mean


@dataclass(frozen=True)
class GPU:
    """One model of GPU."""

    name: str
    """As the command line takes it."""
    flops: float
    """Dense bf16 FLOPs per second."""
    memory: float
    """Bytes; data sheets use 1 GB = 10^9."""
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
    """The GPU of this name, in any case. Raises InputError if there is none."""
    for gpu in GPUS:
        if gpu.name == name.lower():
            return gpu
    names = [gpu.name for gpu in GPUS]
    hint = did_you_mean(name, names)
    raise InputError(f"there is no GPU '{name}' in the table.{hint} GPUs: {', '.join(names)}.")


@dataclass(frozen=True)
class Cluster:
    """`count` GPUs with one process each. Raises ValueError for a count or utilisation out of range."""

    gpu: GPU
    count: int = 1
    mfu: float = 0.4
    """Model FLOPs utilisation: the share of the GPU's peak rate that the model's FLOPs reach."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.mfu <= 1:
            raise ValueError("there must be a GPU, and a utilisation above 0 and at most 1")


PREFETCHED_BATCHES = 2
"""Batches that each worker of a PyTorch DataLoader prepares ahead (`prefetch_factor`), by default."""


@dataclass(frozen=True)
class HostMemory:
    """Bytes of host memory that one process needs beside the programs themselves."""

    batch: float
    """One batch of this process."""
    workers: int
    """Data workers of this process (`loop.workers`)."""
    loading: float = 0.0
    """Weights in host memory while a model is loaded: fp32, whole unless the model is sharded."""
    checkpoint: float = 0.0
    """Copy of this process's part of a checkpoint while it is written."""
    prefetched: int = PREFETCHED_BATCHES
    """Batches that each worker prepares ahead."""

    @property
    def shm(self) -> float:
        """Bytes in /dev/shm: workers hand batches over in shared memory, and prepare some ahead."""
        return self.workers * self.prefetched * self.batch

    @property
    def total(self) -> float:
        """Loading ends before the workers start, so the larger of the two counts."""
        return max(self.loading, self.batch + self.shm + self.checkpoint)
