"""A Qwen2 in Hugging Face's layout: what transformers wrote is read, what we write it can read.

The text part is a standard checkpoint; the visual part lies beside it in `visual.safetensors`.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor

from arm.errors import WeightsError, nearest
from arm.models.pretrained_files import shards
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.models.weights import assign, opened, read_json, save_tensors, write_json

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
OPTIONAL = ("rms_norm_eps", "tie_embeddings")
"""Fields that a config.json may leave out."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16
}  # fmt: skip
"""What weights may be stored in, by safetensors' names."""


Materialize = Callable[[Qwen2], object]
"""Gives the parameters of a model on the meta device their storage, and perhaps shares them out."""


def on_cpu(model: Qwen2) -> None:
    model.to_empty(device="cpu")


def from_hf(
    directory: str | Path,
    num_codes: int = 0,
    code_bits: int = 0,
    extra_rows: int = 0,
    *,
    max_side: int = 0,
    share_bits: bool = True,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    materialize: Materialize = on_cpu,
) -> Qwen2:
    """A Qwen2 from a Hugging Face directory, in `dtype` or else in that of its safetensors.

    The model is built on the meta device, `materialize` gives it storage, and the files are read a tensor at
    a time: a process whose part of the model is small never holds all of it. `extra_rows` are added to
    the text table and the text head: the mean of the old rows plus noise. The visual part comes from `visual.safetensors` if `to_hf` wrote one there, and is freshly
    initialised otherwise. Raises WeightsError for a file that is missing or broken, another kind of
    model, weights in 8 bits, or keys and shapes that the configuration does not call for; ValueError for
    negative `extra_rows`.
    """
    directory = Path(directory)
    if extra_rows < 0:
        raise ValueError(f"extra_rows must not be negative, got {extra_rows}")
    visual = {"num_codes": num_codes, "code_bits": code_bits, "max_side": max_side}
    config = read_config(directory / "config.json", {**visual, "share_bits": share_bits})
    files = _weight_files(directory)
    if config.tie_embeddings:
        files.pop("lm_head.weight", None)
    with torch.device("meta"):
        model = Qwen2(replace(config, vocab_size=config.vocab_size + extra_rows))
    model = model.to(dtype or _dtype_of(set(files.values())))
    materialize(model)

    def longer(name: str, table: Tensor) -> Tensor:
        tables = ("model.embed_tokens.weight", "lm_head.weight")
        return with_rows(table, extra_rows, generator) if name in tables else table

    _fill(_text_tensors(model), files, directory, longer if extra_rows else None)
    if model.visual is not None and (saved := directory / "visual.safetensors").exists():
        with opened(saved) as file:
            names = dict.fromkeys(file.keys(), saved)
        _fill(model.visual.state_dict(), names, saved)
    else:
        model.init_weights(generator, prefix="visual.")
    return model


def to_hf(
    model: Qwen2,
    directory: str | Path,
    max_shard_size: int | None = None,
    dtype: torch.dtype | None = None,
    write: bool = True,
) -> None:
    """Writes what transformers' Qwen2ForCausalLM loads, and the visual part beside it, in `dtype` or
    else in the model's own.

    All processes that share a model call it, and one of them should `write` (see `save_tensors`).

    A text part of more than `max_shard_size` bytes is split into files of at most that size (a
    larger tensor has its own file) and an index. Removes older weights of the directory that would
    be read in place of the new ones. Raises ValueError for a size below 1.
    """
    if max_shard_size is not None and max_shard_size < 1:
        raise ValueError(f"max_shard_size must be positive, got {max_shard_size}")
    directory = Path(directory)
    tensors = _text_tensors(model)
    sizes = {name: torch.empty_like(t, device="meta") for name, t in tensors.items()}
    split = split_torch_state_dict_into_shards(sizes, max_shard_size=max_shard_size or sys.maxsize)
    for file, names in split.filename_to_tensors.items():
        save_tensors({name: tensors[name] for name in names}, directory / file, dtype, write)
    if model.visual is not None:
        save_tensors(model.visual.state_dict(), directory / "visual.safetensors", dtype, write)
    if not write:
        return
    write_json(_hf_config(model, dtype or model.norm.weight.dtype), directory / "config.json")
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(index, directory / INDEX)
    (directory / (SINGLE if split.is_sharded else INDEX)).unlink(missing_ok=True)
    if model.visual is None:
        (directory / "visual.safetensors").unlink(missing_ok=True)


def _text_tensors(model: Qwen2) -> dict[str, Tensor]:
    """The text parameters (detached, the same storage) under their Hugging Face names."""
    tensors = {name: t for name, t in model.state_dict().items() if not name.startswith("visual.")}
    return {name if name == "lm_head.weight" else f"model.{name}": t for name, t in tensors.items()}


def _fill(
    parameters: Mapping[str, Tensor],
    files: Mapping[str, Path],
    source: Path,
    longer: Callable[[str, Tensor], Tensor] | None = None,
) -> None:
    """Copies tensors out of files into parameters; `longer` adds rows to one on the way."""
    for name, parameter in parameters.items():
        if name not in files:
            raise WeightsError(f"{source}: {name} of shape {tuple(parameter.shape)} is missing")
        with opened(files[name]) as file:
            value = file.get_tensor(name)
        value = value if longer is None else longer(name, value)
        if value.shape != parameter.shape:
            raise WeightsError(
                f"{source}: {name} has shape {tuple(value.shape)}, "
                f"expected {tuple(parameter.shape)}"
            )
        assign(parameter, value)
    if unknown := sorted(files.keys() - parameters.keys()):
        raise WeightsError(
            f"{source}: {len(unknown)} keys are not of this model, such as {unknown[0]}"
        )


def with_rows(old_VD: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """New text ids: rows at the mean of the old, with a tenth of their std as noise."""
    wide_VD = old_VD.float()
    noise_VD = torch.randn(count, wide_VD.shape[1], generator=generator) * wide_VD.std() / 10
    return torch.cat((old_VD, (wide_VD.mean(0) + noise_VD).to(old_VD.dtype)))


def read_config(path: Path, visual: Mapping[str, Any] | None = None) -> Qwen2Config:
    """Our sizes from Hugging Face's config.json, and those of the visual part. Raises WeightsError."""
    visual = visual or {"num_codes": 0, "code_bits": 0}
    hf = _read_object(path)
    if hf.get("model_type") != "qwen2":
        raise WeightsError(f"{path}: model_type is {hf.get('model_type')!r}, not 'qwen2'")
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise WeightsError(f"{path}: its rotary positions are {rope!r}, not a JSON object")
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise WeightsError(f"{path}: only default rotary positions are supported, not {rope}")
    if hf.get("use_sliding_window") or hf.get("hidden_act", "silu") != "silu":
        raise WeightsError(
            f"{path}: sliding windows and activations other than silu are not supported"
        )
    for ours, theirs in HF_NAMES.items():
        if theirs not in hf and ours not in OPTIONAL:
            close = nearest(theirs, hf)
            there = f"; it has '{close[0]}'" if close else ""
            raise WeightsError(f"{path} lacks the key '{theirs}'{there}")
    fields = {ours: hf[theirs] for ours, theirs in HF_NAMES.items() if theirs in hf}
    theta = rope.get("rope_theta", hf.get("rope_theta", 10_000.0))
    _check_kinds(path, {**hf, "rope_theta": theta})
    try:
        return Qwen2Config(**fields, **visual, head_dim=hf.get("head_dim"), rope_theta=theta)
    except (TypeError, ValueError) as error:  # a field is missing, no number, or does not fit
        raise WeightsError(f"{path}: {str(error).splitlines()[0]}") from None


def _check_kinds(path: Path, hf: Mapping[str, Any]) -> None:
    """Raises WeightsError for a field that is of another kind than its like."""
    real = ((int, float), "a number")
    kinds = {
        "rms_norm_eps": real, "rope_theta": real, "tie_word_embeddings": (bool, "true or false")
    }  # fmt: skip
    for name in (*HF_NAMES.values(), "head_dim", "rope_theta"):
        kind, said = kinds.get(name, (int, "a whole number"))
        default = name not in hf or (name == "head_dim" and hf[name] is None)
        if not default and not isinstance(hf[name], kind):
            raise WeightsError(f"{path}: {name} is {hf[name]!r}, not {said}")


def _hf_config(model: Qwen2, weights: torch.dtype) -> dict[str, Any]:
    theta, dtype = model.config.rope_theta, str(weights).removeprefix("torch.")
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


def _weight_files(directory: Path) -> dict[str, Path]:
    """The file of every tensor: the single one, or else those that the index names."""
    if (directory / SINGLE).exists() or not (directory / INDEX).exists():
        files = [directory / SINGLE]
    else:
        files = [directory / name for name in shards(directory / INDEX)]
    found: dict[str, Path] = {}
    for path in files:
        with opened(path) as file:
            found |= dict.fromkeys(file.keys(), path)
            for name in file.keys():
                if (stored := file.get_slice(name).get_dtype()) not in DTYPES:
                    raise WeightsError(
                        f"{path}: {name} is stored in {stored}; fp8 and other 8-bit weights are not "
                        "supported, name the model in bf16"
                    )
    return found


def _dtype_of(paths: set[Path]) -> torch.dtype:
    """The dtype that all tensors of these files fit into."""
    found = {torch.float32} if not paths else set()
    for path in paths:
        with opened(path) as file:
            found |= {DTYPES[file.get_slice(name).get_dtype()] for name in file.keys()}
    return reduce(torch.promote_types, found)
