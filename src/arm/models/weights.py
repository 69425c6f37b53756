"""Weight files: safetensors only, written atomically, checked before a model is built.

The headers of safetensors files give every tensor's name, shape and type without reading its values. They
bound the sizes that a configuration may ask for: a file that holds 300 tensors has no 10**9 layers.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from arm.errors import WeightsError, shown
from arm.files import atomic_write, disk_errors, read_json, unreadable

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16
}  # fmt: skip
"""Types that weights may be stored in, by safetensors' names."""

STEMS = ("model", "diffusion_pytorch_model")
"""File names of weights, without suffix, in transformers and in diffusers."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")

COUNT_KEY = re.compile(r"(^|_)(layers|blocks|depth)(_per_block)?$")
SIZE_KEY = re.compile(r"(^|_)(size|dim|width|heads|channels|bits|side|codes|ratio)$")
NOT_A_SIZE = ("max_window_layers",)
SMALL = 2**16
"""Sizes up to this one are never refused: a key like `sample_size` need not be in proportion to the weights."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file, without its values."""

    file: Path
    name: str
    """The tensor's name in the file."""
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self) -> Tensor:
        """The tensor's values. Raises WeightsError for NaN and infinite ones, and a damaged file."""
        with opened(self.file) as file:
            value = file.get_tensor(self.name)
        raise_unless_finite(value, self.name, self.file)
        return value


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor (DTensor), gathered by all processes; any other tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(parameter: Tensor, value: Tensor) -> None:
    """Copies a whole tensor into a parameter of the same shape, converting dtype and device.

    Of a sharded parameter (DTensor) only this process's shard is filled; nothing is sent.
    """
    if not isinstance(parameter, DTensor):
        parameter.copy_(value)
        return
    part = distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
    parameter.to_local().copy_(part.to_local())


# Writing


def save_tensors(
    tensors: Mapping[str, Tensor],
    path: Path,
    dtype: torch.dtype | None = None,
    write: bool = True,
) -> None:
    """Writes a safetensors file atomically; `dtype` converts floating-point tensors.

    Sharded tensors are gathered one by one, so all processes must call this, and one of them with
    `write`. Raises OSError where the disk refuses it.
    """

    def ready(tensor: Tensor) -> Tensor:
        tensor = full_tensor(tensor.detach())
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


# Reading


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a safetensors file whose tensors are read one by one: `keys()`, `get_tensor(name)`.

    Raises WeightsError where it is missing, damaged or unreadable.
    """
    try:
        # For a file without read permission safetensors itself reports that it does not exist.
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
    """All tensors of a safetensors file. Raises WeightsError where it is missing or damaged."""
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model in the layout of transformers or diffusers, each complete.

    Raises WeightsError for a directory without any (naming pickles, which are never loaded), for a missing
    shard, and for a truncated file.
    """
    files: list[Path] = []
    for stem in STEMS:
        single, index = (
            directory / f"{stem}.safetensors",
            directory / f"{stem}.safetensors.index.json",
        )
        if single.is_file():
            files = [single]
        elif index.is_file():
            files = [directory / name for name in shard_names(index)]
    for file in files:
        if not file.is_file():
            raise WeightsError(
                f"weights are missing: {file} does not exist, but the index names it"
            )
    if not files:
        entries = sorted(directory.iterdir()) if directory.is_dir() else []
        pickles = [path.name for path in entries if path.suffix in PICKLES]
        if pickles:
            raise WeightsError(
                f"{directory} holds only {pickles[0]}, which may run code when it is opened; "
                "save the model with safe_serialization=True, arm loads safetensors alone"
            )
        names = " or ".join(f"{stem}.safetensors" for stem in STEMS)
        raise WeightsError(f"weights are missing: {directory} has no {names}")
    for file in files:
        with opened(file):
            pass
    return files


def shard_names(index: Path) -> list[str]:
    """The file names in a shard index. Raises WeightsError where it has none, or one in another folder."""
    data = read_json(index)
    names = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise WeightsError(f"{index} has no weight_map, which names the files of the weights")
    for name in names.values():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(
                f"{index} names '{shown(name)}'; shards are safetensors files beside the index"
            )
    return sorted(set(names.values()))


def stored_tensors(files: Sequence[Path], ignore: tuple[str, ...] = ()) -> dict[str, StoredTensor]:
    """The headers of all tensors in safetensors files, by name, but for names that end in one of `ignore`.

    Raises WeightsError for a damaged file and for a tensor of a type that no weight has: integers,
    booleans, fp8.
    """
    tensors = {}
    for path in files:
        with opened(path) as file:
            for name in file.keys():
                if ignore and name.endswith(ignore):
                    continue
                header = file.get_slice(name)
                stored = header.get_dtype()
                if stored not in DTYPES:
                    raise WeightsError(
                        f"{path}: {shown(name)} is stored in {stored}; fp8 and other 8-bit weights and "
                        f"integers are not supported, weights are {', '.join(DTYPES)}"
                    )
                shape = tuple(header.get_shape())
                tensors[name] = StoredTensor(path, name, shape, DTYPES[stored])
    return tensors


def weights_hash(*directories: Path) -> str:
    """SHA-256 over the safetensors files below each directory, in order of their names."""
    return files_hash(
        path for directory in directories for path in sorted(directory.rglob("*.safetensors"))
    )


def files_hash(paths: Iterator[Path] | Sequence[Path]) -> str:
    """SHA-256 over the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
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


# Checks


def raise_unless_finite(value: Tensor, name: str, source: Path) -> None:
    """Raises WeightsError where a tensor holds NaN or infinity."""
    if not bool(value.isfinite().all()):
        raise WeightsError(
            f"{source}: {shown(name)} holds NaN or infinite values; take an earlier checkpoint"
        )


def check_sizes(config: Any, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    """Compares the sizes in a configuration with the headers of its weight files, before a model is built.

    config: JSON, searched for keys such as `num_layers` and `hidden_size` at any depth. Every layer has a
    tensor of its own, and no side of a tensor exceeds the number of values. Raises WeightsError for the
    first size that is larger, which would take unbounded time or memory to build.
    """
    values = max(SMALL, sum(math.prod(tensor.shape) for tensor in tensors.values()))
    pending = [config]
    while pending:
        entry = pending.pop()
        if isinstance(entry, list | tuple):
            pending += entry
        if not isinstance(entry, dict):
            continue
        pending += entry.values()
        for key, value in entry.items():
            if key in NOT_A_SIZE:
                continue
            for number in value if isinstance(value, list | tuple) else [value]:
                if isinstance(number, bool) or not isinstance(number, int | float):
                    continue
                if COUNT_KEY.search(str(key)) and number > len(tensors):
                    raise WeightsError(
                        f"{path}: {key} is {number:g}, but the weights hold {len(tensors)} tensors"
                    )
                if SIZE_KEY.search(str(key)) and number > values:
                    raise WeightsError(
                        f"{path}: {key} is {number:g}, more than the weights hold values"
                    )


def check_shapes(
    parameters: Mapping[str, Tensor], tensors: Mapping[str, StoredTensor], source: Path
) -> None:
    """Compares the parameters of a model, which may be on the meta device, with what is stored.

    Raises WeightsError that names the first missing, unknown or ill-shaped tensor.
    """
    for name, parameter in parameters.items():
        if name not in tensors:
            raise WeightsError(
                f"{source} lacks the tensor {name} of shape {tuple(parameter.shape)}"
            )
    for name, tensor in tensors.items():
        if name not in parameters:
            raise WeightsError(
                f"{tensor.file} holds the tensor {shown(tensor.name)}, which the model does not have"
            )
        expected = tuple(parameters[name].shape)
        if tensor.shape != expected:
            raise WeightsError(
                f"{tensor.file}: {tensor.name} has shape {tensor.shape}, the model needs {expected}"
            )


def load_parameters(
    parameters: Mapping[str, Tensor], tensors: Mapping[str, StoredTensor], source: Path
) -> None:
    """Reads stored tensors, one at a time, into the parameters of the same names and shapes.

    Raises WeightsError as `check_shapes` and for NaN and infinite values.
    """
    check_shapes(parameters, tensors, source)
    for name, parameter in parameters.items():
        assign(parameter, tensors[name].read())
