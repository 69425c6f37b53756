"""Weight files: safetensors only, written whole or not at all, read with one clear line on damage."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from arm.errors import WeightsError
from arm.files import atomic_write, disk_errors
from arm.files import write_json as write_json  # beside `read_json`


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one process holds it; one that is shared out (a DTensor) is gathered, by all."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(parameter: Tensor, value: Tensor) -> None:
    """Copies a whole tensor of the same shape into a parameter, or, where the parameter is shared out,
    this process's part of it; sends nothing. Converts dtype and device.
    """
    if not isinstance(parameter, DTensor):
        parameter.copy_(value)
        return
    part = distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
    parameter.to_local().copy_(part.to_local())


def save_tensors(
    tensors: Mapping[str, Tensor],
    path: Path,
    dtype: torch.dtype | None = None,
    write: bool = True,
) -> None:
    """Writes a safetensors file by way of a temporary name; `dtype` converts floating tensors. Raises
    OSError where the disk does not take it.

    Tensors that are shared out are gathered one by one, so all processes must call this; of them one
    should `write`.
    """

    def ready(tensor: Tensor) -> Tensor:
        tensor = whole(tensor.detach())
        if not write:
            return tensor.new_empty(0)
        tensor = tensor.cpu()
        return (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).contiguous()

    data = {name: ready(tensor) for name, tensor in tensors.items()}
    if not write:
        return
    with atomic_write(path) as temporary:
        with disk_errors(path):
            save_file(data, temporary, {"format": "pt"})  # transformers asks for the format


def weights_hash(*directories: Path) -> str:
    """SHA-256 over the weight files below each directory, in order of their names."""
    digest = hashlib.sha256()
    for directory in directories:
        for path in sorted(directory.rglob("*.safetensors")):
            add_file(digest, path)
    return digest.hexdigest()


def add_file(digest: Any, path: Path) -> None:
    """Adds a file's bytes to a hash. Raises WeightsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            while block := file.read(2**24):  # a file of 5 GB is never held whole
                digest.update(block)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> WeightsError:
    """What a user is told of a file of weights or settings that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"weights are missing: {path} does not exist")
    if isinstance(error, PermissionError):
        return WeightsError(f"{path} may not be read by you; ask its owner for `chmod a+r`")
    return WeightsError(f"{path} cannot be read ({error.strerror or error}); it must be a file")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file whose tensors are read one by one: `keys()`, `get_tensor(name)`.

    Raises WeightsError where it is missing or damaged, or may not be read.
    """
    try:
        # Of a file that may not be read safetensors itself says that it is not there.
        path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); restore it or train it again"
        ) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file. Raises WeightsError where it is missing or damaged."""
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def load_parameters(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copies tensors into the parameters `own` of the same names and shapes.

    Raises WeightsError that names the first missing, unknown or ill-shaped one.
    """
    for name in sorted(own.keys() - tensors.keys()):
        raise WeightsError(f"{source} lacks the tensor {name}")
    for name, tensor in tensors.items():
        if name not in own:
            raise WeightsError(f"{source} holds the tensor {name}, which the model does not have")
        if own[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, the model needs {tuple(own[name].shape)}"
            raise WeightsError(f"{source}: {name} has shape {shapes}")
    for name, tensor in tensors.items():
        assign(own[name], tensor)


def read_json(path: Path) -> Any:
    """Reads JSON. Raises WeightsError where the file is missing, may not be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not valid JSON ({error})") from None
