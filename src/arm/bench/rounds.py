"""Timing variants of one piece of work side by side.

Every round runs every variant once, so a machine that grows slower or busier slows all of them alike,
and what a variant gains is its ratio to the first within a round. Medians over the rounds, with the
quartiles. Before the rounds each variant runs once to warm up, where its result is compared with the
first's, and once more to see its memory.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from arm.bench.machine import peak_bytes_of, wait_for

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
