"""A backbone on disk: the files of `ArmForCausalLM`, and a published Qwen2 to begin one from.

    config.json          model_type "arm": sizes of the network and of its id space
    model*.safetensors   every parameter under the name `model.` + its name in `Qwen2`

A model directory is such a directory with more files beside these (`arm.model_directory`). Directories of
earlier releases are read too: a Qwen2 with `visual.safetensors` and `vocab.json` beside it, and exports for
transformers whose names begin with `backbone.`.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from arm.errors import WeightsError
from arm.files import write_json
from arm.models.backbone_config import (
    MODEL_TYPE,
    backbone_directory,
    is_old_backbone,
    read_qwen2_config,
    read_settings,
    special_ids,
    to_config,
)
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.models.weights import (
    StoredTensor,
    assign,
    check_shapes,
    check_sizes,
    files_hash,
    save_tensors,
    stored_tensors,
    weight_files,
)
from arm.vocab import Vocab

PREFIX = "model."
"""What the name of a stored parameter has before its name in `Qwen2`."""
OLD_PREFIX = "backbone."

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
"""Bytes of one weight file; a larger model has several."""

TABLES = ("embed_tokens.weight", "lm_head.weight")
"""Parameters with a row for every text id."""

Materialize = Callable[[Qwen2], object]
"""Gives the parameters of a model on the meta device their storage, and may shard them."""


def on_cpu(model: Qwen2) -> None:
    """Allocates all parameters on the CPU."""
    model.to_empty(device="cpu")


def backbone_files(directory: Path) -> list[Path]:
    """The weight files of the backbone in a directory. Raises WeightsError where there are none."""
    directory = backbone_directory(directory)
    files = weight_files(directory)
    if not is_old_backbone(directory):
        return files
    visual = directory / "visual.safetensors"
    if not visual.is_file():
        raise WeightsError(f"weights are missing: {visual} does not exist")
    return [*files, visual]


def backbone_hash(directory: Path) -> str:
    """SHA-256 over the weight files of the backbone in a directory."""
    return files_hash(backbone_files(directory))


def save_backbone(
    model: Qwen2,
    vocab: Vocab,
    directory: Path,
    dtype: torch.dtype | None = None,
    write: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes config.json and the weights, in `dtype` or else in the model's own.

    A model of more than `max_shard_bytes` is split into files of at most that size (a larger tensor has its
    own file) and an index. Older weights that would be read in place of the new ones are removed. All
    processes that share a model call it, and one of them should `write`. Raises ValueError where the model
    does not have the ids of `vocab`.
    """
    config = to_config(model.config, vocab)
    tensors = {PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    sizes = {name: torch.empty_like(t, device="meta") for name, t in tensors.items()}
    split = split_torch_state_dict_into_shards(sizes, max_shard_size=max_shard_bytes)
    for file, names in split.filename_to_tensors.items():
        save_tensors({name: tensors[name] for name in names}, directory / file, dtype, write)
    if not write:
        return
    stored = str(dtype or model.norm.weight.dtype).removeprefix("torch.")
    header = {"architectures": ["ArmForCausalLM"], "model_type": MODEL_TYPE, "dtype": stored}
    ids = {**special_ids(vocab), "eos_token_id": vocab.end}
    write_json({**header, **config, **ids}, directory / "config.json")
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(index, directory / INDEX)
    for name in (SINGLE if split.is_sharded else INDEX, "visual.safetensors", "vocab.json"):
        (directory / name).unlink(missing_ok=True)


def load_backbone(
    directory: Path, materialize: Materialize = on_cpu, dtype: torch.dtype | None = torch.float32
) -> tuple[Qwen2, Vocab]:
    """The backbone that `save_backbone` wrote and its id space, for inference.

    dtype: of the weights in memory (None: as stored). The model is built on the meta device, `materialize`
    allocates its parameters, and the files are read one tensor at a time, so a process that holds one shard
    never holds all. Raises WeightsError, before anything is allocated, for files that are missing, damaged
    or of other sizes than config.json says.
    """
    config, vocab = read_settings(directory)
    directory = backbone_directory(directory)
    tensors = {}
    for name, tensor in stored_tensors(backbone_files(directory)).items():
        for prefix in (PREFIX, OLD_PREFIX):
            name = name.removeprefix(prefix)
        tensors[f"visual.{name}" if tensor.file.name == "visual.safetensors" else name] = tensor
    return _load(config, tensors, directory, materialize, dtype).eval(), vocab


def load_qwen2(
    directory: Path,
    visual: Qwen2Config | None = None,
    *,
    extra_rows: int = 0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    materialize: Materialize = on_cpu,
) -> Qwen2:
    """A backbone from a published Qwen2 in Hugging Face's layout, in `dtype` or else as stored.

    visual: takes num_codes, code_bits, max_side and share_bits from it; that part is initialised from
    `generator`. `extra_rows` are added to the text table and the text head (`with_rows`). Raises WeightsError
    as `load_backbone`, ValueError for negative `extra_rows`.
    """
    if extra_rows < 0:
        raise ValueError(f"extra_rows must not be negative, got {extra_rows}")
    config = read_qwen2_config(directory / "config.json")
    if visual is not None:
        names = ("num_codes", "code_bits", "max_side", "share_bits")
        config = replace(config, **{name: getattr(visual, name) for name in names})
    stored = stored_tensors(weight_files(directory))
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}
    return _load(config, tensors, directory, materialize, dtype, extra_rows, generator)


@torch.no_grad()
def _load(
    config: Qwen2Config,
    tensors: dict[str, StoredTensor],
    source: Path,
    materialize: Materialize,
    dtype: torch.dtype | None,
    extra_rows: int | None = None,
    generator: torch.Generator | None = None,
) -> Qwen2:
    """A model filled from stored tensors. extra_rows: None where the visual part is among them."""
    if config.tie_embeddings:
        tensors.pop("lm_head.weight", None)
    path, rows, fresh = source / "config.json", extra_rows or 0, extra_rows is not None
    check_sizes({f.name: getattr(config, f.name) for f in fields(config)}, tensors, path)
    try:
        with torch.device("meta"):
            model = Qwen2(replace(config, vocab_size=config.vocab_size + rows))
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise WeightsError(f"{path}: {str(error).splitlines()[0]}") from None
    stored = {
        name: parameter[: config.vocab_size] if name in TABLES else parameter
        for name, parameter in model.state_dict().items()
        if not (fresh and name.startswith("visual."))
    }
    check_shapes(stored, tensors, source)
    stored_dtypes = [tensor.dtype for tensor in tensors.values()]
    model = model.to(dtype or reduce(torch.promote_types, stored_dtypes))
    materialize(model)
    filled = model.state_dict()
    for name in stored:
        value = tensors[name].read()
        if rows and name in TABLES:
            value = with_rows(value, rows, generator)
        assign(filled[name], value)
    if fresh:
        model.init_weights(generator, prefix="visual.")
    return model


def with_rows(old_VD: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """A text table with `count` more rows: the mean of the old ones plus noise of a tenth of their std."""
    wide_VD = old_VD.float()
    noise_VD = torch.randn(count, wide_VD.shape[1], generator=generator) * wide_VD.std() / 10
    return torch.cat((old_VD, (wide_VD.mean(0) + noise_VD).to(old_VD.dtype)))


@torch.no_grad()
def with_text_size(
    model: Qwen2, vocab: Vocab, text_size: int, generator: torch.Generator
) -> tuple[Qwen2, Vocab]:
    """Enlarges the text table, in place, for a text tokenizer of `text_size` ids.

    The new rows (see `with_rows`) follow the old text ids, before the special and shape ids. Returns the
    model and its new id space.
    """
    for module in filter(None, (model.embed_tokens, model.lm_head)):
        old_VD = module.weight
        longer = with_rows(old_VD[: vocab.text_size], text_size - vocab.text_size, generator)
        module.weight = nn.Parameter(torch.cat((longer, old_VD[vocab.text_size :])))
    grown = replace(vocab, text_size=text_size)
    model.config = replace(model.config, vocab_size=grown.first_code)
    model.embed_tokens.num_embeddings = grown.first_code
    if model.lm_head is not None:
        model.lm_head.out_features = grown.first_code
    return model, grown
