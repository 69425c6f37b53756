"""Where a pretrained part lies, and whether its files are whole, before any library opens them.

A source is a local directory, a hub id ("google/siglip2-so400m-patch16-512"), or either with the
sub-folder that diffusers' pipelines keep a part in ("black-forest-labs/FLUX.1-dev:vae"). Weights are
safetensors; pickles are neither downloaded nor opened.
"""

import re
from pathlib import Path
from typing import Any

from arm.errors import WeightsError
from arm.models.weights import opened, read_json

PARTS = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model*.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "preprocessor_config.json",
)
"""What is fetched from the hub; a repository's pickles and its single-file pipelines stay there."""

STEMS = ("model", "diffusion_pytorch_model")
"""What transformers and what diffusers call the weights."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")


def locate(source: str | Path) -> Path:
    """The local directory of a source; a hub id is downloaded or found in the hub's cache.

    Raises WeightsError for a directory that is not there and a model that the hub does not give.
    """
    text = str(source)
    if Path(text).is_dir():
        return Path(text)
    base, _, subfolder = text.partition(":")
    if Path(base).is_dir():
        raise_without(Path(base) / subfolder)
        return Path(base) / subfolder
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", base):
        raise WeightsError(f"weights are missing: {base} does not exist")
    return _from_hub(base, subfolder)


def raise_without(directory: Path) -> None:
    if not directory.is_dir():
        raise WeightsError(f"weights are missing: {directory} does not exist")


def _from_hub(repository: str, subfolder: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [f"{subfolder}/{part}" if subfolder else part for part in PARTS]
    try:
        root = snapshot_download(
            repository, allow_patterns=patterns, ignore_patterns=["*.fp16.*", "*.bf16.*"]
        )
    except Exception as error:  # no network, no such model, no access: many types, one meaning
        raise WeightsError(
            f"{repository} is no directory, and the hub does not give it: {first_line(error)}"
        ) from None
    raise_without(Path(root) / subfolder)
    return Path(root) / subfolder


def first_line(error: Exception) -> str:
    """The first line that says something of a library's error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def read_config(directory: Path) -> dict[str, Any]:
    """A part's config.json. Raises WeightsError where it is missing or no JSON object."""
    found = read_json(directory / "config.json")
    if not isinstance(found, dict):
        raise WeightsError(f"{directory / 'config.json'} is not a JSON object")
    return found


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that make up a part, each opened once to see that it is whole.

    Raises WeightsError for a directory without any, which names the pickles that are not loaded
    where it holds those, for a missing shard, and for a file that was cut off.
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
            files = [directory / name for name in shards(index)]
    for file in files:
        if not file.is_file():
            raise WeightsError(
                f"weights are missing: {file} does not exist, but the index names it"
            )
    if not files:
        pickles = sorted(p.name for p in directory.iterdir() if p.suffix in PICKLES)
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


def shards(index: Path) -> list[str]:
    """The files that an index names. Raises WeightsError where it names none."""
    found = read_json(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise WeightsError(f"{index} has no weight_map, which names the files of the weights")
    return sorted(set(names.values()))


def stored_in_bf16(files: list[Path]) -> bool:
    """Whether a part's weights were saved in bf16, by its first tensor."""
    with opened(files[0]) as file:
        names = list(file.keys())
        return bool(names) and file.get_slice(names[0]).get_dtype() == "BF16"
