"""Several runs one after the other: a whole model by one command.

A stage that has finished with the same configuration is passed over unless one before it has run since; one
that was stopped resumes.
Under torchrun the stages whose module says SHARED run on all processes, the others on the first.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.config import dump, load_run, to_json, with_defaults
from arm.errors import ConfigError
from arm.models.weights import read_json
from arm.train import parallel


@dataclass(frozen=True)
class Stages:
    """Names of runs, in order. `out` holds a mark for each that has finished."""

    out: Path
    runs: tuple[str, ...]


def start(config: Any) -> None:
    """Calls the `main` that stands beside the class of a run's configuration. Raises ConfigError where
    its `out` cannot be a folder.
    """
    out = Path(getattr(config, "out", "."))
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"out={out} cannot be made: {there} is a file; name another `out`")
    importlib.import_module(type(config).__module__).main(config)


def main(stages: Stages) -> None:
    parallel.init_processes()
    stages.out.mkdir(parents=True, exist_ok=True)
    marks = [stages.out / f"{name.replace(':', '_')}.done.json" for name in stages.runs]
    for place, (name, mark) in enumerate(zip(stages.runs, marks, strict=True)):
        config = load_run(name)
        done = mark.is_file() and with_defaults(read_json(mark), config) == to_json(config)
        parallel.barrier()  # all have looked before the first one writes
        if parallel.is_main():
            print(f"{name}: {'done before' if done else 'started'}", flush=True)
            for stale in [] if done else marks[place:]:  # also after a kill they run once more
                stale.unlink(missing_ok=True)
        if done:
            continue
        if getattr(importlib.import_module(type(config).__module__), "SHARED", False):
            start(config)
        elif parallel.is_main():
            with parallel.single_process():
                start(config)
        parallel.barrier()
        if parallel.is_main():
            dump(config, mark)
