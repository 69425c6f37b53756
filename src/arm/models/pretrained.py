"""The loader of pretrained parts, real or stand-in, in the Hugging Face layout.

The paper's parts are SigLIP2-SO400M, Qwen2.5-0.5B and the VAE of FLUX.1 (ARM sections 1 and 2); the
world's stand-ins are small models of the same classes. A source is a local directory, a hub id
("google/siglip2-so400m-patch16-512"), or either with the sub-folder in which diffusers' pipelines keep a
part ("black-forest-labs/FLUX.1-dev:vae"). Weights are safetensors; pickles are neither downloaded nor
opened, also where a config.json or an adapter names one.
"""

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arm.errors import ArmError, WeightsError, shown
from arm.files import read_json_object
from arm.models.weights import (
    SMALL,
    StoredTensor,
    check_sizes,
    raise_unless_finite,
    stored_tensors,
    weight_files,
)

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
"""Files that are fetched from the hub; pickles and single-file pipelines stay there."""

POSITIONS = ("position_ids", "inv_freq")
"""Endings of tables that old versions of transformers saved and new ones compute."""

MAX_GROWTH = 1000
"""Most characters that a tokenizer's replacements may make of one."""


@dataclass(frozen=True)
class Pretrained:
    """The sources of the frozen parts: towers, captioning language model, image autoencoder."""

    siglip: str
    caption_lm: str
    vae: str

    @classmethod
    def under(cls, directory: Path) -> "Pretrained":
        """The parts that `arm train standins:...` writes below one directory."""
        return cls(*(str(directory / part) for part in ("siglip", "caption_lm", "vae")))


# Where a source lies


def locate(source: str | Path) -> Path:
    """The local directory of a source; a hub id is downloaded or found in the hub's cache.

    Raises WeightsError for a directory that does not exist and a model that the hub does not give.
    """
    text = str(source)
    if Path(text).is_dir():
        return Path(text)
    base, _, subfolder = text.partition(":")
    if Path(base).is_dir():
        return _existing(Path(base) / subfolder)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", base):
        raise WeightsError(f"weights are missing: {base} does not exist")
    return _existing(_from_hub(base, subfolder) / subfolder)


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise WeightsError(f"weights are missing: {directory} does not exist")
    return directory


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
    return Path(root)


def first_line(error: BaseException) -> str:
    """The first non-empty line of a library's error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(lines[0]) if lines else type(error).__name__


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turns any failure of a library into one line, WeightsError "`what`: reason".

    Tokenizers are written in Rust, whose panics are no subclass of Exception.
    """
    try:
        yield
    except ArmError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise WeightsError(f"{what}: {first_line(error)}") from None


def read_config(directory: Path) -> dict[str, Any]:
    """The config.json of a part. Raises WeightsError as `refuse_pickles`, and where it is no JSON object."""
    config = read_json_object(directory / "config.json")
    refuse_pickles(directory, config)
    return config


def refuse_pickles(directory: Path, config: Mapping[str, Any]) -> None:
    """Raises WeightsError for what would make transformers open a pickle in place of the safetensors.

    That is a config.json, at any depth, with the key `transformers_weights`, which names another file of
    weights, and an adapter beside the model, whose weights may be a pickle.
    """
    pending: list[Any] = [config]
    while pending:
        entry = pending.pop()
        if isinstance(entry, dict):
            if "transformers_weights" in entry:
                named = shown(str(entry["transformers_weights"]))
                raise WeightsError(
                    f"{directory / 'config.json'} names '{named}' as transformers_weights, which may be a "
                    "pickle; remove that key, weights are read from model.safetensors"
                )
            pending += entry.values()
        elif isinstance(entry, list):
            pending += entry
    for name in ("adapter_config.json", "adapter_model.bin"):
        if (directory / name).exists():
            raise WeightsError(
                f"{directory} holds an adapter ({name}); merge it into the model and save that alone"
            )


# Loading


def frozen(module: nn.Module) -> Any:
    """The module in evaluation mode, its parameters without gradients."""
    return module.requires_grad_(False).eval()


def _load(
    loader: Any, directory: Path, keep_bf16: bool, dtype_name: str = "dtype", **options: Any
) -> Any:
    """`loader.from_pretrained` of a local directory, with every tensor accounted for.

    fp32, or bf16 where the file has it and `keep_bf16` is set. Raises WeightsError, before anything is
    allocated where config.json asks for other sizes than the files have.
    """
    config, files = read_config(directory), weight_files(directory)
    stored = stored_tensors(files, ignore=POSITIONS)
    check_sizes(config, stored, directory / "config.json")
    first = next(iter(stored.values()), None)
    keep = keep_bf16 and first is not None and first.dtype == torch.bfloat16
    options |= {dtype_name: torch.bfloat16 if keep else torch.float32}
    options |= {"use_safetensors": True, "local_files_only": True}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with library_errors(f"{directory} cannot be loaded as {loader.__name__}"):
        with torch.device("meta"):
            if hasattr(loader, "config_class"):  # transformers; the others are diffusers'
                options["config"] = loader.config_class.from_dict(config)
                outline = loader(options["config"])
            else:
                outline = loader.from_config(config)
        _check_outline(outline, stored, directory, loader)
        model, report = loader.from_pretrained(str(directory), **options)
    _raise_unless_complete(directory, loader, report)
    for name, parameter in model.named_parameters():
        raise_unless_finite(parameter, name, directory)
    return model


def _check_outline(
    outline: nn.Module, stored: Mapping[str, StoredTensor], directory: Path, loader: Any
) -> None:
    """Compares a model on the meta device with what its files hold."""
    mismatched = [
        (name, stored[name].shape, p.shape)
        for name, p in outline.named_parameters()
        if name in stored and stored[name].shape != tuple(p.shape)
    ]
    _raise_unless_complete(directory, loader, {"mismatched_keys": mismatched})
    described = sum(p.numel() for p in outline.parameters())
    held = sum(math.prod(tensor.shape) for tensor in stored.values())
    if described > 2 * held + SMALL:
        raise WeightsError(
            f"{directory} and its config.json do not belong together: as {loader.__name__} it has "
            f"{described:,} weights, the files hold {held:,}"
        )


def _raise_unless_complete(directory: Path, loader: Any, report: Mapping[str, Any]) -> None:
    """Raises WeightsError for tensors of another shape, missing and unexpected ones.

    The libraries fill what a file lacks with noise and drop what they do not know.
    """
    prefix = (
        f"{directory} and its config.json do not belong together: as {loader.__name__} the file"
    )
    for name, shape, expected in sorted(report.get("mismatched_keys") or []):
        raise WeightsError(
            f"{prefix} has {name} of shape {tuple(shape)} where {tuple(expected)} is needed"
        )
    for name in sorted(report.get("missing_keys") or []):
        raise WeightsError(f"{prefix} lacks the tensor {name}")
    for name in sorted(report.get("unexpected_keys") or []):
        if not name.endswith(POSITIONS):
            raise WeightsError(f"{prefix} holds {name}, which is no part of it")


def load_siglip(source: str | Path, keep_bf16: bool = False) -> Any:
    """Vision and text towers, frozen: SiglipModel, which fixed-size SigLIP2 checkpoints are too, or
    Siglip2Model (NaFlex), by the model_type of config.json. Raises WeightsError.
    """
    from transformers import Siglip2Model, SiglipModel

    directory = locate(source)
    kind = read_config(directory).get("model_type")
    known = {"siglip": SiglipModel, "siglip2": Siglip2Model}
    if kind not in ("siglip", "siglip2"):
        raise WeightsError(
            f"{directory / 'config.json'}: model_type is {kind!r}, towers are 'siglip' or 'siglip2'"
        )
    return frozen(_load(known[kind], directory, keep_bf16))


def load_caption_lm(source: str | Path, keep_bf16: bool = False) -> Any:
    """The captioning language model (Qwen2ForCausalLM), frozen. Raises WeightsError."""
    from transformers import Qwen2ForCausalLM

    directory = locate(source)
    kind = read_config(directory).get("model_type")
    if kind != "qwen2":
        raise WeightsError(
            f"{directory / 'config.json'}: model_type is {kind!r}, a captioning model is 'qwen2'"
        )
    return frozen(_load(Qwen2ForCausalLM, directory, keep_bf16))


def load_vae(source: str | Path, keep_bf16: bool = False) -> Any:
    """The image autoencoder, frozen: AutoencoderKL (FLUX.1) or AutoencoderDC (SANA), by the
    _class_name of config.json. Raises WeightsError.
    """
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return frozen(load_diffusers(source, (AutoencoderKL, AutoencoderDC), keep_bf16))


def load_diffusers(source: str | Path, classes: tuple[Any, ...], keep_bf16: bool = False) -> Any:
    """A trainable diffusers model of one of the classes. Raises WeightsError for another one."""
    directory = locate(source)
    name = read_config(directory).get("_class_name")
    known = {each.__name__: each for each in classes}
    if not isinstance(name, str) or name not in known:
        raise WeightsError(
            f"{directory / 'config.json'}: _class_name is {name!r}, not {' or '.join(known)}"
        )
    # Without accelerate diffusers cannot load in a memory-saving way, and warns about it.
    lean = importlib.util.find_spec("accelerate") is not None
    # Older versions of diffusers know dtype by this name alone.
    return _load(known[name], directory, keep_bf16, "torch_dtype", low_cpu_mem_usage=lean)


def load_text_tokenizer(source: str | Path) -> Any:
    """A Hugging Face fast tokenizer with an end-of-text token and the ids 0 to its size - 1.

    Raises WeightsError for files that are missing, damaged, or make tokenizers fail on a short text.
    """
    from transformers import PreTrainedTokenizerFast

    directory = locate(source)
    path, settings = directory / "tokenizer.json", directory / "tokenizer_config.json"
    if not path.is_file():
        raise WeightsError(f"weights are missing: {path} does not exist")
    data = read_json_object(path)
    if max(_growth(data.get("normalizer")), _growth(data.get("decoder"))) > MAX_GROWTH:
        raise WeightsError(
            f"{path} is no tokenizer: its replacements make texts grow without bound"
        )
    if settings.is_file():
        read_json_object(settings)
    with library_errors(f"{path} is no tokenizer"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        tokenizer.decode(tokenizer("a", add_special_tokens=False).input_ids)
        largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= len(tokenizer):
        raise WeightsError(
            f"{directory}: its ids are not 0..{len(tokenizer) - 1}, one a word; one is {largest}"
        )
    if tokenizer.eos_token_id is None:
        raise WeightsError(f"{settings} names no eos_token")
    return tokenizer


def _growth(steps: Any) -> float:
    """An upper bound of the characters that normalizers or decoders make of one, by their replacements."""
    if isinstance(steps, list):
        return math.prod(min(_growth(step), 1e9) for step in steps)
    if not isinstance(steps, dict):
        return 1.0
    nested = [value for value in steps.values() if isinstance(value, dict | list)]
    if steps.get("type") == "Replace":
        pattern = steps.get("pattern")
        text = pattern.get("String") if isinstance(pattern, dict) else None
        shortest = len(text) if isinstance(text, str) else 1
        return max(1.0, len(str(steps.get("content", ""))) / max(shortest, 1))
    return max([_growth(value) for value in nested], default=1.0)
