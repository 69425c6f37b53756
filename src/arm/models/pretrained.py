"""The one loader of the pretrained parts, real or stand-in: a Hugging Face directory or a hub id."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from arm.errors import WeightsError


def _load(loader: Any, source: str | Path, file: str = "config.json", **options: Any) -> Any:
    """`loader.from_pretrained` with the failures of files turned into one clear line."""
    path = Path(source)
    local = path.is_absolute() or len(path.parts) > 2 or path.exists()
    if local and not (path / file).is_file():
        raise WeightsError(f"weights are missing: {path / file} does not exist")
    try:
        return loader.from_pretrained(str(source), **options)
    except Exception as error:
        # transformers and diffusers raise many types here; all mean that this source is unusable.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{source} cannot be loaded as {loader.__name__}: {reason}") from None


def frozen(module: nn.Module) -> Any:
    return module.requires_grad_(False).eval()


def load_siglip(source: str | Path) -> Any:
    """Vision and text towers (SiglipModel), frozen, fp32. Raises WeightsError."""
    from transformers import SiglipModel

    return frozen(_load(SiglipModel, source, dtype=torch.float32, use_safetensors=True))


def load_caption_lm(source: str | Path) -> Any:
    """The captioning language model (Qwen2ForCausalLM), frozen, fp32. Raises WeightsError."""
    from transformers import Qwen2ForCausalLM

    return frozen(_load(Qwen2ForCausalLM, source, dtype=torch.float32, use_safetensors=True))


def load_vae(source: str | Path) -> Any:
    """The image VAE (AutoencoderKL), frozen, fp32. Raises WeightsError."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return frozen(
        _load(
            AutoencoderKL,
            source,
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
        )
    )


def load_text_tokenizer(source: str | Path) -> Any:
    """A Hugging Face fast tokenizer. Raises WeightsError."""
    from transformers import PreTrainedTokenizerFast

    return _load(PreTrainedTokenizerFast, source, "tokenizer.json")
