"""Stages that leave a line behind, for tests of the chain in processes of their own."""

import os
from dataclasses import dataclass
from pathlib import Path

from arm.errors import TrainingError
from arm.train import parallel
from arm.train.chain import Stages


@dataclass(frozen=True)
class Line:
    out: Path
    text: str


def main(run: Line) -> None:
    if run.text == os.environ.get("CHAIN_FAILS"):
        raise TrainingError("stopped")
    run.out.mkdir(parents=True, exist_ok=True)
    with (run.out / "lines.txt").open("a") as file:
        file.write(f"{run.text} {parallel.rank()} of {parallel.world_size()}\n")


def _line(text: str) -> Line:
    return Line(Path(os.environ["CHAIN_OUT"]), text)


def first() -> Line:
    return _line(os.environ.get("CHAIN_FIRST", "first"))


def second() -> Line:
    return _line(os.environ.get("CHAIN_TEXT", "second"))


def both() -> Stages:
    return Stages(
        Path(os.environ["CHAIN_OUT"]), ("tests.chain_run:first", "tests.chain_run:second")
    )
