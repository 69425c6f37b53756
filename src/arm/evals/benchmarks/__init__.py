"""Published benchmarks, each in the file that reads, scores and describes it.

A verdict that could not be had is None: it enters no mean and is counted, never guessed. To add a
benchmark, write its file and add its `BENCHMARKS` to the list below.
"""

from pathlib import Path

from arm.errors import DataError, InputError, did_you_mean
from arm.evals.benchmarks import (
    choices,
    dsg,
    editing,
    geneval,
    mmbench,
    mmmu,
    short_answers,
    wise,
    yesno,
)
from arm.evals.benchmarks.base import Benchmark, Item, Result

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *wise.BENCHMARKS,
        *dsg.BENCHMARKS,
        *editing.BENCHMARKS,
        *geneval.BENCHMARKS,
        *yesno.BENCHMARKS,
        *mmmu.BENCHMARKS,
        *mmbench.BENCHMARKS,
        *choices.BENCHMARKS,
        *short_answers.BENCHMARKS,
    )
}
"""All benchmarks by name, in the order of `arm eval list`."""

__all__ = ["BENCHMARKS", "Benchmark", "Item", "Result", "find_benchmark", "load_items"]


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name. Raises InputError for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(
            f"there is no benchmark '{name}'; there are {', '.join(BENCHMARKS)}."
            f"{did_you_mean(name, BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def load_items(benchmark: Benchmark, data: Path) -> list[Item]:
    """All items of a benchmark. Raises DataError where its files are missing or damaged."""
    try:
        return benchmark.load(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the files of {benchmark.name} in {data} are damaged or of another version ({error!r})"
        ) from None
