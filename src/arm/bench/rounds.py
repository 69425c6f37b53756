"""The machine that is measured: what it is, and what memory is free and taken.

Timing variants of one piece of work side by side.

Every round runs every variant once, so a machine that grows slower or busier slows all of them alike,
and what a variant gains is its ratio to the first within a round. Medians over the rounds, with the
quartiles. Before the rounds each variant runs once to warm up, where its result is compared with the
first's, and once more to see its memory.


What a device can do: plain products of large square matrices, beside which a training step is seen."""

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
        storages.track(alive())
        run()
    return max(storages.peak, storages.live_bytes)


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


Clock = Callable[[], float]
Tick = Callable[[str], object]
"""Is told the name of each variant after each of its calls."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to do a piece of work.

    run: does it once and returns its result. amount: tokens or pictures of a call. flops: the model's of
    a call, 0 where nobody counts them. within: what holds while it runs, entered outside of the time.
    alive: gives the values whose bytes are taken before a call begins. sees_memory: whether a call's
    tensors can be followed on a CPU. kind: its result must be that of the first variant of its kind.
    left_out: why it is not run, "" where it is.
    """

    name: str
    amount: float = 0.0
    run: Callable[[], Any] = lambda: None
    flops: float = 0.0
    within: Callable[[], AbstractContextManager[object]] = nullcontext
    alive: Callable[[], object] = tuple
    sees_memory: bool = True
    kind: str = ""
    left_out: str = ""


@dataclass(frozen=True, eq=False)
class Trial:
    """Variants that do the same work. unit: of their amounts. differ(first, other): what tells two results
    of a kind apart, "" where nothing does. yardstick: what each variant's FLOPs a second are a share of.
    """

    title: str
    unit: str
    variants: tuple[Variant, ...]
    differ: Callable[[Any, Any], str]
    yardstick: Variant | None = None

    def calls(self, repeats: int) -> int:
        """How often `measure` ticks where nothing is left out on the way."""
        running = sum(not variant.left_out for variant in self.variants)
        return running * (repeats + 2) + (repeats + 1 if self.yardstick and running else 0)


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Quartiles by linear interpolation, numpy's and statistics' "inclusive"."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


@dataclass(frozen=True)
class Row:
    """What was found of one variant. seconds: of each round. peak_bytes: None where it cannot be seen."""

    name: str
    amount: float
    flops: float = 0.0
    seconds: tuple[float, ...] = ()
    peak_bytes: float | None = None
    left_out: str = ""

    @property
    def rate(self) -> float:
        """Tokens or pictures a second, by the median."""
        return self.amount / spread(self.seconds).median


def speed_ratio(row: Row, first: Row) -> Spread:
    """How many times as fast as `first` a variant makes its tokens or pictures, round by round."""
    pairs = zip(row.seconds, first.seconds, strict=True)
    return spread([(row.amount / mine) / (first.amount / its) for mine, its in pairs])


def flops_share(row: Row, yardstick: Row) -> Spread:
    """A variant's FLOPs a second over the yardstick's, round by round."""
    pairs = zip(row.seconds, yardstick.seconds, strict=True)
    return spread([(row.flops / mine) / (yardstick.flops / its) for mine, its in pairs])


@dataclass(frozen=True)
class Table:
    """A measured trial. The first row is what ratios are of; None where it was left out."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    yardstick: Row | None

    def ratio(self, row: Row) -> Spread | None:
        first = self.rows[0]
        return speed_ratio(row, first) if row.seconds and first.seconds else None

    def share(self, row: Row) -> Spread | None:
        if self.yardstick is None or not row.seconds or not row.flops:
            return None
        return flops_share(row, self.yardstick)


def measure(
    trial: Trial, repeats: int, device: torch.device, clock: Clock, tick: Tick = lambda _: None
) -> Table:
    """Runs a trial. A variant whose result differs, or that the device has no memory for, is left out."""
    rows = {v.name: Row(v.name, v.amount, v.flops, (), None, v.left_out) for v in trial.variants}
    first: dict[str, Any] = {}
    for variant in trial.variants:
        if not variant.left_out:
            peak, why = _tried(variant, trial.differ, first, device, tick)
            rows[variant.name] = replace(rows[variant.name], peak_bytes=peak, left_out=why)
    running = [variant for variant in trial.variants if not rows[variant.name].left_out]
    yardstick = trial.yardstick if running else None
    if yardstick is not None:
        with yardstick.within():
            yardstick.run()
        tick(yardstick.name)
        running = [yardstick, *running]

    seconds: dict[str, list[float]] = {variant.name: [] for variant in running}
    for _ in range(repeats):
        for variant in running:
            with variant.within():
                wait_for(device)
                begun = clock()
                variant.run()
                wait_for(device)
                seconds[variant.name].append(clock() - begun)
            tick(variant.name)
    timed = [replace(row, seconds=tuple(seconds.get(row.name, ()))) for row in rows.values()]
    check = None
    if yardstick is not None:
        found = tuple(seconds[yardstick.name])
        check = Row(yardstick.name, yardstick.amount, yardstick.flops, found)
    return Table(trial.title, trial.unit, tuple(timed), check)


def _tried(
    variant: Variant,
    differ: Callable[[Any, Any], str],
    first: dict[str, Any],
    device: torch.device,
    tick: Tick,
) -> tuple[float | None, str]:
    """Warms a variant up: the bytes at its fullest, and why it is left out. `first` takes in the result
    of the first variant of each kind.
    """
    try:
        with variant.within():
            result = variant.run()
            tick(variant.name)
            why = differ(first.setdefault(variant.kind, result), result)
            if why:
                return None, why
            visible = variant.sees_memory or device.type == "cuda"
            peak = peak_bytes_of(variant.run, variant.alive, device) if visible else None
            tick(variant.name)
    except torch.OutOfMemoryError:
        pass
    else:
        return peak, ""
    torch.cuda.empty_cache()  # here, since the error held on to the call's tensors
    return None, "the device has no memory for it"


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
