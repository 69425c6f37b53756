"""Checkpoints of a run: safetensors only, written whole or not at all.

A checkpoint is a directory `step_N` holding the trained parameters and the optimiser's state. It is
written under another name and renamed when complete, so a kill leaves the previous one.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from arm.errors import WeightsError
from arm.models.weights import (
    load_parameters,
    load_tensors,
    read_json,
    save_tensors,
    trained,
    write_json,
)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}/{key}": value for i, values in state.items() for key, value in values.items()}


def save(
    run_dir: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    origin: Mapping[str, str] | None = None,
    keep: int = 2,
) -> None:
    """Writes checkpoint `step` and removes all but the newest `keep`. `origin`: see `resume`."""
    final = run_dir / f"step_{step:08d}"
    temporary = run_dir / f".writing_{step:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    save_tensors(trained(module), temporary / "model.safetensors")
    save_tensors(_optimizer_tensors(optimizer), temporary / "optimizer.safetensors")
    write_json({"step": step, "origin": dict(origin or {})}, temporary / "state.json")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in sorted(run_dir.glob("step_*"))[:-keep]:
        shutil.rmtree(old)


def newest(run_dir: Path) -> Path | None:
    found = sorted(run_dir.glob("step_*"))
    return found[-1] if found else None


def resume(
    run_dir: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    origin: Mapping[str, str] | None = None,
) -> int:
    """Restores the newest checkpoint and returns its step, 0 where there is none.

    origin: hashes by name of what the run stands on. Raises WeightsError for a damaged checkpoint,
    naming it, and for one whose origin is another.
    """
    path = newest(run_dir)
    if path is None:
        return 0
    state = read_json(path / "state.json")
    for name, value in (origin or {}).items():
        if state.get("origin", {}).get(name) != value:
            raise WeightsError(
                f"{path} stands on another {name} than the one that is there now; bring it back "
                "or name another `out`"
            )
    load_parameters(
        trained(module), load_tensors(path / "model.safetensors"), path / "model.safetensors"
    )
    tensors = load_tensors(path / "optimizer.safetensors")
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/")
        found.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": found, "param_groups": groups})
    return state["step"]
