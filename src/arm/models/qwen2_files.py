"""A Qwen2 in Hugging Face's layout: what transformers wrote is read, what we write it can read.

The text part is a standard checkpoint; the visual part lies beside it in `visual.safetensors`.
"""

import sys
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from arm.errors import WeightsError
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.models.weights import load_tensors, read_json, save_tensors, write_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HF_NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "rms_norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
"""Our field and Hugging Face's, where the meaning is the same."""


def from_hf(
    directory: str | Path,
    num_codes: int = 0,
    code_bits: int = 0,
    extra_rows: int = 0,
    *,
    max_side: int = 0,
    share_bits: bool = True,
    generator: torch.Generator | None = None,
) -> Qwen2:
    """A Qwen2 on the CPU from a Hugging Face directory, in the dtype of its safetensors.

    `extra_rows` are added to the text table and the text head: the mean of the old rows plus noise.
    The visual part comes from `visual.safetensors` if `to_hf` wrote one there, and is freshly
    initialised otherwise. Raises WeightsError for a file that is missing or broken, another kind of
    model, or keys and shapes that the configuration does not call for; ValueError for negative
    `extra_rows`.
    """
    directory = Path(directory)
    if extra_rows < 0:
        raise ValueError(f"extra_rows must not be negative, got {extra_rows}")
    visual = {"num_codes": num_codes, "code_bits": code_bits, "max_side": max_side}
    config = _read_config(directory / "config.json", {**visual, "share_bits": share_bits})
    tensors = _read_weights(directory)
    if config.tie_embeddings:
        tensors.pop("lm_head.weight", None)
    with torch.device("meta"):
        model = Qwen2(config)
    dtypes = {tensor.dtype for tensor in tensors.values()} or {torch.float32}
    model = model.to(reduce(torch.promote_types, dtypes)).to_empty(device="cpu")
    _fill(_text_tensors(model), tensors, directory)
    if extra_rows:
        _append_rows(model, extra_rows, generator)
    if model.visual is not None and (saved := directory / "visual.safetensors").exists():
        _fill(model.visual.state_dict(), load_tensors(saved), saved)
    else:
        model.init_weights(generator, prefix="visual.")
    return model


def to_hf(model: Qwen2, directory: str | Path, max_shard_size: int | None = None) -> None:
    """Writes what transformers' Qwen2ForCausalLM loads, and the visual part beside it.

    A text part of more than `max_shard_size` bytes is split into files of at most that size (a
    larger tensor has its own file) and an index. Removes older weights of the directory that would
    be read in place of the new ones. Raises ValueError for a size below 1.
    """
    if max_shard_size is not None and max_shard_size < 1:
        raise ValueError(f"max_shard_size must be positive, got {max_shard_size}")
    directory = Path(directory)
    write_json(_hf_config(model), directory / "config.json")
    tensors = _text_tensors(model)
    split = split_torch_state_dict_into_shards(
        tensors, max_shard_size=max_shard_size or sys.maxsize
    )
    for file, names in split.filename_to_tensors.items():
        save_tensors({name: tensors[name] for name in names}, directory / file)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(index, directory / INDEX)
    (directory / (SINGLE if split.is_sharded else INDEX)).unlink(missing_ok=True)
    if model.visual is None:
        (directory / "visual.safetensors").unlink(missing_ok=True)
    else:
        save_tensors(model.visual.state_dict(), directory / "visual.safetensors")


def _text_tensors(model: Qwen2) -> dict[str, Tensor]:
    """The text parameters (detached, the same storage) under their Hugging Face names."""
    tensors = {name: t for name, t in model.state_dict().items() if not name.startswith("visual.")}
    return {name if name == "lm_head.weight" else f"model.{name}": t for name, t in tensors.items()}


def _fill(parameters: dict[str, Tensor], tensors: dict[str, Tensor], source: Path) -> None:
    for name, parameter in parameters.items():
        shape = tuple(parameter.shape)
        if name not in tensors:
            raise WeightsError(f"{source}: {name} of shape {shape} is missing")
        if tensors[name].shape != shape:
            raise WeightsError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, expected {shape}"
            )
        parameter.copy_(tensors[name])
    if unknown := sorted(tensors.keys() - parameters.keys()):
        raise WeightsError(
            f"{source}: {len(unknown)} keys are not of this model, such as {unknown[0]}"
        )


@torch.no_grad()
def _append_rows(model: Qwen2, count: int, generator: torch.Generator | None) -> None:
    """New text ids: rows at the mean of the old, with a tenth of their std as noise."""
    for module in filter(None, (model.embed_tokens, model.lm_head)):
        old_VD = module.weight.float()
        noise_VD = torch.randn(count, old_VD.shape[1], generator=generator) * old_VD.std() / 10
        new_VD = (old_VD.mean(0) + noise_VD).to(module.weight.dtype)
        module.weight = nn.Parameter(torch.cat((module.weight, new_VD)))
    model.config = replace(model.config, vocab_size=model.config.vocab_size + count)
    model.embed_tokens.num_embeddings = model.config.vocab_size
    if model.lm_head is not None:
        model.lm_head.out_features = model.config.vocab_size


def _read_config(path: Path, visual: dict[str, Any]) -> Qwen2Config:
    hf = _read_object(path)
    if hf.get("model_type") != "qwen2":
        raise WeightsError(f"{path}: model_type is {hf.get('model_type')!r}, not 'qwen2'")
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise WeightsError(f"{path}: only default rotary positions are supported, not {rope}")
    if hf.get("use_sliding_window") or hf.get("hidden_act", "silu") != "silu":
        raise WeightsError(
            f"{path}: sliding windows and activations other than silu are not supported"
        )
    fields = {ours: hf[theirs] for ours, theirs in HF_NAMES.items() if theirs in hf}
    theta = rope.get("rope_theta", hf.get("rope_theta", 10_000.0))
    try:
        return Qwen2Config(**fields, **visual, head_dim=hf.get("head_dim"), rope_theta=theta)
    except (TypeError, ValueError) as error:  # a field is missing, no number, or does not fit
        raise WeightsError(f"{path}: {str(error).splitlines()[0]}") from None


def _hf_config(model: Qwen2) -> dict[str, Any]:
    theta, dtype = model.config.rope_theta, str(model.norm.weight.dtype).removeprefix("torch.")
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **{theirs: getattr(model.config, ours) for ours, theirs in HF_NAMES.items()},
        "head_dim": model.config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        # transformers 5 reads the first of each pair, its predecessors the second
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "rope_theta": theta,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def _read_object(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return data


def _read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of the single file, or else of the shards that the index names."""
    if (directory / SINGLE).exists() or not (directory / INDEX).exists():
        return load_tensors(directory / SINGLE)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(_read_object(directory / INDEX).get("weight_map", {}).values())):
        tensors |= load_tensors(directory / file)
    return tensors
