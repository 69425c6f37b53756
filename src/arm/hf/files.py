"""A model directory of ours <-> a directory that transformers' Auto classes load.

config.json, generation_config.json, model*.safetensors    ArmForCausalLM
tokenizer.json, tokenizer_config.json                      the whole text table, named
chat_template.jinja, processor_config.json                 ArmProcessor
parts/                                                     towers, visual tokenizer, decoders, arm.json
"""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards

from arm.config import to_json
from arm.errors import InputError, WeightsError
from arm.files import fill_folder, make_folder
from arm.hf.configuration import ArmConfig
from arm.hf.processing import PARTS, ArmProcessor
from arm.hf.words import text_table
from arm.model_directory import (
    copy_text_tokenizer,
    find_model,
    load_defaults,
    parts_of,
    text_tokenizer_directory,
)
from arm.models.backbone import load_backbone, save_backbone
from arm.models.pretrained_files import weight_files
from arm.models.qwen2 import Qwen2
from arm.models.weights import load_parameters, load_tensors, read_json, save_tensors, write_json

SHARED = ("siglip", "vae", "tokenizer.safetensors", "visual_tokenizer.json", "detokenizer_*")
"""What models may share, and what is copied as it is."""

WORDS = "text_tokenizer"
"""The backbone's own tokenizer, unlike the one at the top without our names; a folder of `parts`."""

INDEX = "model.safetensors.index.json"
PREFIX = "backbone."
TEXT = 64
"""Tokens that `generate` may say by default, beside the largest picture."""


def to_hf(source: str | Path, out: Path, max_shard_size: int | str = "5GB") -> None:
    """Writes a model (a shipped name or a directory) in Hugging Face's layout, weights unchanged.

    Raises WeightsError for a model that is missing or damaged, InputError where `out` is not empty.
    """
    own = find_model(source)
    _raise_unless_free(out)
    defaults, parts = load_defaults(own), parts_of(own)
    model, vocab = load_backbone(own / "backbone", dtype=None)
    model = model.to(_dtype(read_json(own / "backbone/config.json"), own))
    config = ArmConfig.of(model, vocab)
    config.architectures, config.dtype = ["ArmForCausalLM"], model.norm.weight.dtype
    words = text_tokenizer_directory(own)
    table = text_table(words, vocab)
    sizes = (vocab.text_size, vocab.num_codes, vocab.max_side, vocab.image_stride)
    room = TEXT + max(height * width for height, width in defaults.grids)

    def write(target: Path) -> None:
        config.save_pretrained(target)
        write_json(_generation(config, room), target / "generation_config.json")
        _save_shards(model, target, max_shard_size)
        ArmProcessor(table, *sizes).save_pretrained(target)
        _copy_parts(parts, target / PARTS)
        if words == own / "backbone":
            copy_text_tokenizer(words, target / PARTS / WORDS)
        write_json(to_json(replace(defaults, parts="")), target / PARTS / "arm.json")

    fill_folder(write, out)


def from_hf(source: Path, out: Path) -> None:
    """Writes a model of Hugging Face's layout as a directory for `Arm.from_pretrained`, weights unchanged.

    Raises WeightsError for a directory that is missing, damaged or of another model, InputError
    where `out` is not empty.
    """
    data = read_json(source / "config.json")
    if not isinstance(data, dict) or data.get("model_type") != ArmConfig.model_type:
        found = data.get("model_type") if isinstance(data, dict) else None
        raise WeightsError(f"{source / 'config.json'}: model_type is {found!r}, not 'arm'")
    _raise_unless_free(out)
    try:
        config = ArmConfig.from_dict(data)
        with torch.device("meta"):
            model = Qwen2(config.backbone())
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{source / 'config.json'}: {str(error).splitlines()[0]}") from None
    tensors = {}
    for file in weight_files(source):
        tensors |= load_tensors(file)
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1:
        raise WeightsError(f"{source}: the weights are of {len(dtypes)} types, a model is of one")
    model = model.to(dtypes.pop()).to_empty(device="cpu")
    names = {PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    load_parameters(names, tensors, source)
    defaults = load_defaults(source / PARTS)

    def write(target: Path) -> None:
        save_backbone(model, config.vocab, target / "backbone")
        _copy_parts(source / PARTS, target)
        if (source / PARTS / WORDS).is_dir():
            copy_text_tokenizer(source / PARTS / WORDS, target / "backbone")
        write_json(to_json(defaults), target / "arm.json")

    fill_folder(write, out)


def _generation(config: ArmConfig, room: int) -> dict[str, object]:
    ids = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
    return {**ids, "max_new_tokens": room}


def _dtype(config: dict[str, str], source: Path) -> torch.dtype:
    found = getattr(torch, str(config.get("dtype", "float32")), None)
    if not isinstance(found, torch.dtype):
        raise WeightsError(f"{source / 'backbone/config.json'}: {config['dtype']} is no dtype")
    return found


def _save_shards(model: Qwen2, target: Path, max_shard_size: int | str) -> None:
    tensors = {PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    split = split_torch_state_dict_into_shards(tensors, max_shard_size=max_shard_size)
    for file, names in split.filename_to_tensors.items():
        save_tensors({name: tensors[name] for name in names}, target / file)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(index, target / INDEX)


def _copy_parts(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for pattern in SHARED:
        for path in sorted(source.glob(pattern)):
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, target / path.name)


def _raise_unless_free(out: Path) -> None:
    """Before a model is loaded: whether a folder can be made here, or there is an empty one."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; name a new folder")
    make_folder(out.resolve().parent)
