"""The one loader of the pretrained parts, real or stand-in, in the Hugging Face layout.

The paper's parts are SigLIP2-SO400M, Qwen2.5-0.5B and the VAE of FLUX.1 (ARM sections 1 and 2); the
world's stand-ins are small models of the same classes. See `pretrained_files.py` for what a source is.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arm.errors import WeightsError
from arm.models.pretrained_files import (
    first_line,
    locate,
    read_config,
    stored_in_bf16,
    weight_files,
)


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


def frozen(module: nn.Module) -> Any:
    return module.requires_grad_(False).eval()


def _load(
    loader: Any, directory: Path, keep_bf16: bool, dtype_name: str = "dtype", **options: Any
) -> Any:
    """`loader.from_pretrained` of a local directory, every tensor accounted for, or one clear line.

    fp32, or bf16 where the file has it and `keep_bf16` asks for it.
    """
    files = weight_files(directory)
    dtype = torch.bfloat16 if keep_bf16 and stored_in_bf16(files) else torch.float32
    options |= {"use_safetensors": True, "local_files_only": True}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, found = loader.from_pretrained(str(directory), **{dtype_name: dtype}, **options)
    except Exception as error:
        # transformers and diffusers raise many types here; all mean that this source is unusable.
        raise WeightsError(
            f"{directory} cannot be loaded as {loader.__name__}: {first_line(error)}"
        ) from None
    _raise_unless_complete(directory, loader, found)
    return model


def _raise_unless_complete(directory: Path, loader: Any, found: dict[str, Any]) -> None:
    """A library fills what a file lacks with noise and drops what it does not know; both are errors.

    Tables of positions, which old versions saved and new ones compute, may be too many.
    """
    told = f"{directory} and its config.json do not belong together: as {loader.__name__} the file"
    for entry in sorted(found.get("mismatched_keys") or []):
        name, stored, wanted = entry
        raise WeightsError(
            f"{told} has {name} of shape {tuple(stored)} where {tuple(wanted)} is needed"
        )
    for name in sorted(found.get("missing_keys") or []):
        raise WeightsError(f"{told} lacks the tensor {name}")
    for name in sorted(found.get("unexpected_keys") or []):
        if not name.endswith(("position_ids", "inv_freq")):
            raise WeightsError(f"{told} holds {name}, which is no part of it")


def load_siglip(source: str | Path, keep_bf16: bool = False) -> Any:
    """Vision and text towers, frozen: SiglipModel, which fixed-size SigLIP2 checkpoints are too, or
    Siglip2Model (NaFlex), by the model_type of config.json. Raises WeightsError.
    """
    from transformers import Siglip2Model, SiglipModel

    directory = locate(source)
    kind = read_config(directory).get("model_type")
    known = {"siglip": SiglipModel, "siglip2": Siglip2Model}
    if kind not in known:
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
    """A diffusers model of one of the classes, trainable. Raises WeightsError for another one."""
    directory = locate(source)
    name = read_config(directory).get("_class_name")
    known = {each.__name__: each for each in classes}
    if name not in known:
        raise WeightsError(
            f"{directory / 'config.json'}: _class_name is {name!r}, not {' or '.join(known)}"
        )
    # Without accelerate diffusers has no way to load that spares memory, and warns about it.
    lean = importlib.util.find_spec("accelerate") is not None
    # Its older versions know dtype by this name alone.
    return _load(known[name], directory, keep_bf16, "torch_dtype", low_cpu_mem_usage=lean)


def load_text_tokenizer(source: str | Path) -> Any:
    """A Hugging Face fast tokenizer with an end-of-text token. Raises WeightsError."""
    from transformers import PreTrainedTokenizerFast

    directory = locate(source)
    if not (directory / "tokenizer.json").is_file():
        raise WeightsError(f"weights are missing: {directory / 'tokenizer.json'} does not exist")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:
        raise WeightsError(
            f"{directory / 'tokenizer.json'} is no tokenizer: {first_line(error)}"
        ) from None
    if tokenizer.eos_token_id is None:
        raise WeightsError(f"{directory / 'tokenizer_config.json'} names no eos_token")
    return tokenizer
