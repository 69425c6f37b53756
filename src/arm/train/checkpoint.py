"""Checkpoints of a run, in safetensors files only.

    step_00000200/*.safetensors     model.NAME, optimizer.NAME.KEY and, with a moving average, ema.NAME
    step_00000200/state.json        the step, hashes of what the run depends on, and the size of every file

A single process writes one file. The processes of a sharded model each write their shards, while training goes
on (torch.distributed.checkpoint); the names are the same, so a run resumes on any number of processes. A
checkpoint is written under a temporary name and renamed when complete, so a kill leaves the previous one intact.
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
from arm.files import read_json, write_json
from arm.models.weights import save_tensors, trained
from arm.train import parallel
from arm.train.sharding import is_sharded

KEEP = 2
"""Number of newest checkpoints that are kept."""


@dataclass(frozen=True, eq=False)
class Writing:
    """A checkpoint that is being written. `written()`: whether this process's part is complete; `finish()`
    returns when the whole is complete and has its final name. All processes call them together.
    """

    written: Callable[[], bool]
    finish: Callable[[], None]


def tensors_of(
    module: nn.Module, optimizer: torch.optim.Optimizer, ema: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors that training changes, by their names in a checkpoint."""
    named = trained(module)
    tensors = {f"model.{name}": p.detach() for name, p in named.items()}
    for name, p in named.items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state[p].items()}
    return tensors | {f"ema.{name}": value for name, value in ema.items()}


def save(
    run_dir: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    origin: Mapping[str, str] | None = None,
    ema: Mapping[str, Tensor] | None = None,
) -> Writing:
    """Begins to write checkpoint `step`. All processes call it, and finish what it returns before they save
    again; a model that is not sharded is written before this returns.

    origin: see `resume`. Raises TrainingError, perhaps only in `finish`, where the disk is full or not
    writable; older checkpoints stay.
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
        with _write_errors(step):
            save_tensors(tensors, temporary / "state.safetensors")

    def finish() -> None:
        if pending is not None:
            with _write_errors(step):
                pending.result()
        parallel.barrier()
        if parallel.is_main():
            with _write_errors(step):
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


class _write_errors:
    """Raises a TrainingError of one line for any failure to write a checkpoint."""

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
                "intact: make room and start again"
            ) from None


def newest(run_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run; None where there is none."""
    checkpoints = sorted(run_dir.glob("step_*"))
    return checkpoints[-1] if checkpoints else None


def _state(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint's state.json. Raises WeightsError where it is damaged."""
    state = read_json(path / "state.json")
    if isinstance(state, dict) and isinstance(state.get("step"), int):
        if all(isinstance(state.get(key, {}), dict) for key in ("origin", "files")):
            return state
    raise WeightsError(
        f"{path / 'state.json'} is damaged; remove {path} to resume from the checkpoint before it"
    )


def _check_files(path: Path, files: Mapping[str, int]) -> None:
    """Raises WeightsError where a file of a checkpoint is missing or its size is not the recorded one."""
    for name, size in files.items():
        file = path / name
        there = file.stat().st_size if file.is_file() else 0
        if there != size:
            raise WeightsError(
                f"{file} is damaged ({there} of {size} bytes); remove {path} to resume from the "
                "checkpoint before it"
            )


def _shapes(path: Path, reader: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a checkpoint, by name."""
    try:
        metadata = reader.read_metadata().state_dict_metadata
    except (SafetensorError, OSError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a complete safetensors checkpoint ({error}); remove it to resume from the "
            "one before"
        ) from None
    return {name: tuple(data.size) for name, data in metadata.items()}


def _check_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, Tensor]
) -> None:
    """Raises WeightsError where names and shapes in a checkpoint are not those of the run's tensors `own`."""
    for name in sorted(own.keys() - shapes.keys()):
        raise WeightsError(f"{path} lacks the tensor {name}: it belongs to another run")
    for name in sorted(n for n in shapes if n.startswith(("model.", "ema.")) and n not in own):
        raise WeightsError(f"{path} holds the tensor {name}, which this run does not train")
    for name, tensor in own.items():
        if shapes[name] != tuple(tensor.shape):
            raise WeightsError(
                f"{path}: {name} has shape {shapes[name]}, this run needs {tuple(tensor.shape)}"
            )


def resume(
    run_dir: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    origin: Mapping[str, str] | None = None,
    ema: Mapping[str, Tensor] | None = None,
) -> int:
    """Restores the newest checkpoint and returns its step, 0 where there is none.

    origin: hashes, by name, of the weights and data that the run depends on. Raises WeightsError that names
    the checkpoint where it is damaged, belongs to another model, or was made with another origin.
    """
    # All processes resume from what the main one sees: a shared folder may not show the same everywhere.
    path = parallel.broadcast_from_main(lambda: newest(run_dir))
    if path is None:
        return 0
    state = _state(path)
    for name, value in (origin or {}).items():
        if state.get("origin", {}).get(name, value) != value:
            raise WeightsError(
                f"{path} was trained with another {name} than the present one; restore it or "
                "choose another `out`"
            )
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    _check_files(path, state.get("files", {}))
    reader = HuggingFaceStorageReader(str(path))
    shapes = _shapes(path, reader)
    named = trained(module)
    tensors = {f"model.{name}": p.detach() for name, p in named.items()}
    tensors |= {f"ema.{name}": value for name, value in (ema or {}).items()}
    _check_tensors(path, shapes, tensors)
    states: dict[str, dict[str, Tensor]] = {}
    for key, shape in shapes.items():
        if key.startswith("optimizer."):
            name, _, part = key.removeprefix("optimizer.").rpartition(".")
            if name not in named:
                raise WeightsError(f"{path} holds {key}, which this run does not train")
            p = named[name].detach()
            like_parameter = shape == tuple(p.shape) and part != "step"
            empty = torch.zeros_like(p) if like_parameter else torch.zeros(shape, device=p.device)
            states.setdefault(name, {})[part] = tensors[key] = empty
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # in a single process
        load(tensors, storage_reader=reader, no_dist=not is_sharded(module))
    for name, values in states.items():
        optimizer.state[named[name]] = values
    return state["step"]
