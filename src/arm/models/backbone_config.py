"""The sizes of a backbone and of its id space: config.json on disk.

One table names the fields that a published Qwen2 and `ArmForCausalLM` share. Every value is checked for its
type here; `arm.models.weights.check_sizes` compares the sizes with the weights.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arm.errors import WeightsError, nearest
from arm.files import read_json_object
from arm.models.pretrained import refuse_pickles
from arm.models.qwen2 import Qwen2Config
from arm.vocab import Vocab

MODEL_TYPE = "arm"
QWEN2_KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "rope_theta": "rope_theta",
    "rms_norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
"""Fields of `Qwen2Config` and their names in Hugging Face's config.json, where the meaning is the same."""
VISUAL_KEYS = ("num_codes", "code_bits", "share_bits")
"""Fields of `Qwen2Config` that the config.json of `ArmForCausalLM` has under the same name."""
VOCAB_KEYS = ("text_size", "num_codes", "max_side", "image_stride")
OPTIONAL = ("head_dim", "rope_theta", "rms_norm_eps", "tie_embeddings", "share_bits")
"""Fields that a config.json may leave out."""
MAX_STRIDE = 2**20
"""Largest `image_stride` that is read; positions stay far below the largest integer."""


def backbone_directory(directory: Path) -> Path:
    """Where the backbone's files lie: the directory, or its sub-folder in models of earlier releases."""
    old = directory / "backbone"
    whole = (directory / "config.json").is_file()
    return old if (old / "vocab.json").is_file() and not whole else directory


def is_old_backbone(directory: Path) -> bool:
    """Whether an earlier release wrote the backbone: a Qwen2 with vocab.json for its id space."""
    data = read_json_object(directory / "config.json")
    return data.get("model_type") == "qwen2" and (directory / "vocab.json").is_file()


def to_config(model: Qwen2Config, vocab: Vocab) -> dict[str, Any]:
    """The sizes of a backbone and its id space as config.json has them, without the weights' dtype.

    Raises ValueError where the two do not belong together.
    """
    if model.vocab_size != vocab.first_code or model.num_codes != vocab.num_codes:
        raise ValueError(f"the backbone {model} does not have the ids of {vocab}")
    return {
        **{theirs: getattr(model, ours) for ours, theirs in QWEN2_KEYS.items()},
        "head_dim": model.head_size,
        **{name: getattr(model, name) for name in VISUAL_KEYS},
        **{name: getattr(vocab, name) for name in VOCAB_KEYS},
        "grid_positions": model.max_side > 0,
    }


def special_ids(vocab: Vocab) -> dict[str, int]:
    """What follows from the sizes of the id space, as config.json has it for other programs to read."""
    return {
        "vocab_size": vocab.size,
        "pad_token_id": vocab.pad,
        "user_token_id": vocab.user,
        "assistant_token_id": vocab.assistant,
        "image_token_id": vocab.image,
        "image_end_token_id": vocab.image_end,
    }


def read_settings(directory: Path) -> tuple[Qwen2Config, Vocab]:
    """The sizes of the backbone in a directory and its id space, without its weights. Raises WeightsError."""
    directory = backbone_directory(directory)
    path = directory / "config.json"
    data = read_json_object(path)
    if is_old_backbone(directory):
        network = _qwen2_values(path, data, "qwen2")
        path = directory / "vocab.json"
        data = read_json_object(path)
    else:
        network = _qwen2_values(path, data, MODEL_TYPE)
    for name in (*VOCAB_KEYS, "code_bits", "grid_positions"):
        _require(path, data, name, bool if name == "grid_positions" else int)
    sizes = {name: data[name] for name in VOCAB_KEYS}
    try:
        if sizes["image_stride"] > MAX_STRIDE:
            raise ValueError(f"image_stride must be at most {MAX_STRIDE}: {sizes}")
        vocab = Vocab(**sizes)
    except ValueError as error:
        raise WeightsError(f"{path} is not a model's id space: {error}") from None
    network |= {
        "vocab_size": vocab.first_code,
        "num_codes": vocab.num_codes,
        "code_bits": data["code_bits"],
        "max_side": vocab.max_side if data["grid_positions"] else 0,
        "share_bits": data.get("share_bits", True),
    }
    return _to_qwen2(path, network), vocab


def read_qwen2_config(path: Path) -> Qwen2Config:
    """The sizes in a published Qwen2's config.json, without a visual part. Raises WeightsError."""
    data = read_json_object(path)
    values = _qwen2_values(path, data, "qwen2")
    _require(path, data, "vocab_size", int)
    return _to_qwen2(
        path, {**values, "vocab_size": data["vocab_size"], "num_codes": 0, "code_bits": 0}
    )


def _qwen2_values(path: Path, data: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """The fields of `QWEN2_KEYS` in a config.json, each of the right type. Raises WeightsError."""
    refuse_pickles(path.parent, data)
    if data.get("model_type") != model_type:
        raise WeightsError(f"{path}: model_type is {data.get('model_type')!r}, not '{model_type}'")
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise WeightsError(f"{path}: its rotary positions are {rope!r}, not a JSON object")
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise WeightsError(f"{path}: only default rotary positions are supported, not {rope}")
    if data.get("use_sliding_window") or data.get("hidden_act", "silu") != "silu":
        raise WeightsError(
            f"{path}: sliding windows and activations other than silu are not supported"
        )
    data = {**data, **({"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {})}
    if data.get("head_dim") is None:
        data.pop("head_dim", None)
    values = {}
    kinds = {"rope_theta": float, "rms_norm_eps": float, "tie_embeddings": bool}
    for ours, theirs in QWEN2_KEYS.items():
        if theirs in data or ours not in OPTIONAL:
            _require(path, data, theirs, kinds.get(ours, int))
            values[ours] = data[theirs]
    return {"rope_theta": 10_000.0, **values}


def _require(path: Path, data: Mapping[str, Any], key: str, kind: type) -> None:
    """Raises WeightsError for a key that is missing, or whose value is of another type or not finite."""
    if key not in data:
        close = nearest(key, data)
        hint = f"; it has '{close[0]}'" if close else ""
        raise WeightsError(f"{path} lacks the key '{key}'{hint}")
    value = data[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        int: number and isinstance(value, int),
        float: number and math.isfinite(value) and value > 0,
        bool: isinstance(value, bool),
    }[kind]
    if not fits:
        name = {int: "a whole number", float: "a positive number", bool: "true or false"}[kind]
        raise WeightsError(f"{path}: {key} is {value!r}, not {name}")


def _to_qwen2(path: Path, values: dict[str, Any]) -> Qwen2Config:
    if values["code_bits"] > 62:
        raise WeightsError(f"{path}: code_bits is {values['code_bits']}, more than 62")
    try:
        return Qwen2Config(**values)
    except ValueError as error:
        raise WeightsError(f"{path}: {str(error).splitlines()[0]}") from None
