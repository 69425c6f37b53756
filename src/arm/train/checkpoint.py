"""Checkpoints of a run: safetensors only, written whole or not at all.

    step_00000200/*.safetensors     model.NAME, optimizer.NAME.KEY and, with averaging, ema.NAME
    step_00000200/state.json        the step, what the run stands on, and the size of every file

One process writes one file; processes that share a model each write their part, while training goes
on (torch.distributed.checkpoint). The names are the same, so a run resumes on any number of processes. A
checkpoint is written under another name and renamed when complete, so a kill leaves the previous one.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from arm.errors import TrainingError, WeightsError
from arm.models.weights import read_json, save_tensors, trained, write_json
from arm.train import parallel
from arm.train.sharding import is_sharded

KEEP = 2
"""Checkpoints that stay."""


@dataclass(frozen=True, eq=False)
class Writing:
    """A checkpoint that is being written. `written`: whether this process's part is; `finish` returns when
    the whole is complete and has its name. All processes call each together.
    """

    written: Callable[[], bool]
    finish: Callable[[], None]


def tensors_of(
    module: nn.Module, optimizer: torch.optim.Optimizer, ema: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Everything that training changes, by its name in a checkpoint."""
    named = trained(module)
    found = {f"model.{name}": p.detach() for name, p in named.items()}
    for name, p in named.items():
        found |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state[p].items()}
    return found | {f"ema.{name}": value for name, value in ema.items()}


def save(
    run_dir: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    origin: Mapping[str, str] | None = None,
    ema: Mapping[str, Tensor] | None = None,
) -> Writing:
    """Begins checkpoint `step`; all processes call it, and finish what it returns before they save again.

    `origin`: see `resume`. A model that is not shared out is written before this returns. Raises
    TrainingError (perhaps only at the end) where the disk does not take it; older ones stay.
    """
    temporary = run_dir / f".writing_{step:08d}"
    tensors = tensors_of(module, optimizer, ema or {})
    pending: Any = None
    if parallel.is_main():
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    if is_sharded(module):
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import async_save

        parallel.barrier()
        writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        group = parallel.checkpoint_group()
        pending = async_save(tensors, storage_writer=writer, process_group=group)
    elif parallel.is_main():
        with _told(step):
            save_tensors(tensors, temporary / "state.safetensors")

    def finish() -> None:
        if pending is not None:
            with _told(step):
                pending.result()
        parallel.barrier()
        if parallel.is_main():
            with _told(step):
                files = {path.name: path.stat().st_size for path in temporary.iterdir()}
                state = {"step": step, "origin": dict(origin or {}), "files": files}
                write_json(state, temporary / "state.json")
                final = run_dir / f"step_{step:08d}"
                shutil.rmtree(final, ignore_errors=True)
                os.replace(temporary, final)
            for old in sorted(run_dir.glob("step_*"))[:-KEEP]:
                shutil.rmtree(old)
        parallel.barrier()

    return Writing(lambda: pending is None or pending.done(), finish)


class _told:
    """Turns the failures of writing into one clear line."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from torch.distributed.checkpoint.api import CheckpointException

        if isinstance(error, CheckpointException):
            error = next(iter(error.failures.values()))[0]
        if isinstance(error, OSError | SafetensorError):
            reason = error.strerror if isinstance(error, OSError) else None
            raise TrainingError(
                f"checkpoint {self.step} cannot be written ({reason or error}); the one before is "
                "whole: make room and start again"
            ) from None


def newest(run_dir: Path) -> Path | None:
    found = sorted(run_dir.glob("step_*"))
    return found[-1] if found else None


def _state(path: Path) -> dict[str, Any]:
    """A checkpoint's state.json. Raises WeightsError where it is damaged."""
    state = read_json(path / "state.json")
    if isinstance(state, dict) and isinstance(state.get("step"), int):
        if all(isinstance(state.get(key, {}), dict) for key in ("origin", "files")):
            return state
    raise WeightsError(
        f"{path / 'state.json'} is damaged; remove {path} to resume from the checkpoint before it"
    )


def _whole(path: Path, files: Mapping[str, int]) -> None:
    """Raises WeightsError where a file of a checkpoint is missing or has another size than written."""
    for name, size in files.items():
        file = path / name
        there = file.stat().st_size if file.is_file() else 0
        if there != size:
            raise WeightsError(
                f"{file} is damaged ({there} of {size} bytes); remove {path} to resume from the "
                "checkpoint before it"
            )


def _sizes(path: Path, reader: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of everything in a checkpoint."""
    try:
        found = reader.read_metadata().state_dict_metadata
    except (SafetensorError, OSError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors checkpoint ({error}); remove it to resume from the "
            "one before"
        ) from None
    return {name: tuple(data.size) for name, data in found.items()}


def _check(path: Path, sizes: Mapping[str, tuple[int, ...]], own: Mapping[str, Tensor]) -> None:
    for name in sorted(own.keys() - sizes.keys()):
        raise WeightsError(f"{path} lacks the tensor {name}: it is of another run")
    for name in sorted(n for n in sizes if n.startswith(("model.", "ema.")) and n not in own):
        raise WeightsError(f"{path} holds the tensor {name}, which this run does not train")
    for name, tensor in own.items():
        if sizes[name] != tuple(tensor.shape):
            raise WeightsError(
                f"{path}: {name} has shape {sizes[name]}, this run needs {tuple(tensor.shape)}"
            )


def resume(
    run_dir: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    origin: Mapping[str, str] | None = None,
    ema: Mapping[str, Tensor] | None = None,
) -> int:
    """Restores the newest checkpoint and returns its step, 0 where there is none.

    origin: hashes by name of what the run stands on. Raises WeightsError for a damaged checkpoint,
    naming it, for one of another model, and for one whose origin is another.
    """
    path = parallel.broadcast_from_main(
        lambda: newest(run_dir)
    )  # machines may see a shared folder differently
    if path is None:
        return 0
    state = _state(path)
    for name, value in (origin or {}).items():
        if state.get("origin", {}).get(name, value) != value:
            raise WeightsError(
                f"{path} stands on another {name} than the one that is there now; bring it back "
                "or name another `out`"
            )
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    _whole(path, state.get("files", {}))
    reader = HuggingFaceStorageReader(str(path))
    sizes = _sizes(path, reader)
    named = trained(module)
    wanted = {f"model.{name}": p.detach() for name, p in named.items()}
    wanted |= {f"ema.{name}": value for name, value in (ema or {}).items()}
    _check(path, sizes, wanted)
    states: dict[str, dict[str, Tensor]] = {}
    for key, size in sizes.items():
        if key.startswith("optimizer."):
            name, _, part = key.removeprefix("optimizer.").rpartition(".")
            if name not in named:
                raise WeightsError(f"{path} holds {key}, which this run does not train")
            p = named[name].detach()
            alike = size == tuple(p.shape) and part != "step"
            empty = torch.zeros_like(p) if alike else torch.zeros(size, device=p.device)
            states.setdefault(name, {})[part] = wanted[key] = empty
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process: so it is
        load(wanted, storage_reader=reader, no_dist=not is_sharded(module))
    for name, values in states.items():
        optimizer.state[named[name]] = values
    return state["step"]
