"""Several runs one after the other: a whole model by one command.

A stage that has finished is passed over, one that was stopped resumes.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.config import dump, load_run


@dataclass(frozen=True)
class Chain:
    """Names of runs, in order. `out` holds a mark for each that has finished."""

    out: Path
    runs: tuple[str, ...]


def start(config: Any) -> None:
    """Calls the `main` that stands beside the class of a run's configuration."""
    importlib.import_module(type(config).__module__).main(config)


def main(chain: Chain) -> None:
    chain.out.mkdir(parents=True, exist_ok=True)
    for name in chain.runs:
        mark = chain.out / f"{name.replace(':', '_')}.done.json"
        if mark.is_file():
            print(f"{name}: done before", flush=True)
            continue
        config = load_run(name)
        print(f"{name}: started", flush=True)
        start(config)
        dump(config, mark)
