"""The machine that is measured: what it is, and what memory is free and taken."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from arm.train.measure import LiveStorages


def wait_for(device: torch.device) -> None:
    """Returns when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes_of(
    run: Callable[[], object], alive: Callable[[], object], device: torch.device
) -> float:
    """The most bytes of tensors at a time during a call: CUDA's own figure on a GPU; on a CPU the
    storages that the call makes and those of `alive`.
    """
    if device.type == "cuda":
        wait_for(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        wait_for(device)
        return torch.cuda.max_memory_allocated(device)
    with LiveStorages() as storages:
        storages.see(alive())
        run()
    return max(storages.peak, storages.now)


def free_bytes(device: torch.device) -> float:
    """Memory that a run may take; infinite where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return 1024.0 * int(kilobytes)
    except (OSError, ValueError):
        return float("inf")


def described(device: torch.device) -> dict[str, Any]:
    """What a reader of the figures needs to know of the machine, as JSON types."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "cores": usable,
        "threads": torch.get_num_threads(),
        "load": None if load is None else round(load, 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
