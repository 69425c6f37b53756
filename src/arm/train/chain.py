"""Runs a list of runs one after another: all stages of a model by one command.

A stage that has finished with the same configuration is skipped unless an earlier stage has run since; a stage
that was stopped resumes. Under torchrun, stages whose module sets SHARED run in all processes, the others in the
main one alone.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.config import dump, load_run, to_json, with_defaults
from arm.errors import ConfigError
from arm.files import read_json
from arm.train import parallel


@dataclass(frozen=True)
class Stages:
    """runs: names of runs, in order. out: a folder that records the configuration of each finished stage."""

    out: Path
    runs: tuple[str, ...]


def start(config: Any) -> None:
    """Executes a run: calls `main(config)` of the module that defines the class of `config`. Raises
    ConfigError where its `out` cannot be a folder.
    """
    out = Path(getattr(config, "out", "."))
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(
            f"out={out} cannot be created: {existing} is a file; choose another `out`"
        )
    importlib.import_module(type(config).__module__).main(config)


def main(stages: Stages) -> None:
    """Runs the stages that are not finished, in order."""
    parallel.init_processes()
    stages.out.mkdir(parents=True, exist_ok=True)
    marks = [stages.out / f"{name.replace(':', '_')}.done.json" for name in stages.runs]
    for place, (name, mark) in enumerate(zip(stages.runs, marks, strict=True)):
        config = load_run(name)
        done = mark.is_file() and with_defaults(read_json(mark), config) == to_json(config)
        parallel.barrier()  # no process writes before all have read
        if parallel.is_main():
            print(f"{name}: {'done before' if done else 'started'}", flush=True)
            for stale in [] if done else marks[place:]:  # later stages run again, after a kill too
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
