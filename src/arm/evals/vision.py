"""Vision models of transformers that look at pictures for a benchmark: opened whole or not at all."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arm.errors import WeightsError
from arm.models.pretrained import first_line, frozen, locate, read_config
from arm.models.weights import weight_files


def model_type(source: str) -> tuple[Path, str]:
    """The directory of a source (one of ours or a hub id's copy), and the model_type of its
    config.json. Raises WeightsError where there is none.
    """
    directory = locate(source)
    return directory, str(read_config(directory).get("model_type"))


def open_model(loader: Any, directory: Path) -> Any:
    """A frozen fp32 model, on the GPU where there is one. Raises WeightsError where the file is damaged
    or lacks a parameter, which transformers would fill with noise.
    """
    weight_files(directory)
    model, found = open_part(
        loader, directory, dtype=torch.float32, output_loading_info=True,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    parameters = {name for name, _ in model.named_parameters()}
    lacking = {*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])}
    for name in sorted(lacking & parameters):
        raise WeightsError(f"{directory} has no {name} that fits {loader.__name__}")
    return frozen(model).to("cuda" if torch.cuda.is_available() else "cpu")


def open_part(loader: Any, directory: Path, **options: Any) -> Any:
    """`loader.from_pretrained`, with any failure as one line (WeightsError)."""
    try:
        return loader.from_pretrained(str(directory), local_files_only=True, **options)
    except Exception as error:  # many types, one meaning: these files are no such part
        raise WeightsError(
            f"{directory} cannot be loaded as {loader.__name__}: {first_line(error)}"
        ) from None


def weights_key(model: nn.Module) -> str:
    """SHA-256 over names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
