"""A backbone on disk: a Hugging Face Qwen2 directory, its visual part, and its id space."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from arm.errors import WeightsError, nearest
from arm.models.qwen2 import Qwen2
from arm.models.qwen2_files import Materialize, from_hf, on_cpu, to_hf, with_rows
from arm.models.weights import read_json, write_json
from arm.vocab import Vocab

MAX_FILE = 5_000_000_000
"""Bytes of one weight file; a larger model has several."""


def save_backbone(
    model: Qwen2,
    vocab: Vocab,
    directory: Path,
    dtype: torch.dtype | None = None,
    write: bool = True,
) -> None:
    """All processes that share a model call it, and one of them should `write`."""
    to_hf(model, directory, MAX_FILE, dtype, write)
    if not write:
        return
    settings = {
        "text_size": vocab.text_size,
        "num_codes": vocab.num_codes,
        "max_side": vocab.max_side,
        "image_stride": vocab.image_stride,
        "code_bits": model.config.code_bits,
        "grid_positions": model.config.max_side > 0,
        "share_bits": model.config.share_bits,
    }
    write_json(settings, directory / "vocab.json")


def load_backbone(
    directory: Path, materialize: Materialize = on_cpu, dtype: torch.dtype | None = torch.float32
) -> tuple[Qwen2, Vocab]:
    """What `save_backbone` wrote, ready to run, in `dtype` (None: the files' own). `materialize`: see `from_hf`. Raises WeightsError."""
    path = directory / "vocab.json"
    data = read_json(path)
    try:
        sizes = {
            name: data[name] for name in ("text_size", "num_codes", "max_side", "image_stride")
        }
        for name, size in sizes.items():
            if not isinstance(size, int):
                raise TypeError(f"{name} is {size!r}, no whole number")
        vocab = Vocab(**sizes)
        code_bits, placed = data["code_bits"], data["grid_positions"]
    except KeyError as error:
        close = nearest(error.args[0], data)
        there = f"; it has '{close[0]}'" if close else ""
        raise WeightsError(f"{path} lacks the key '{error.args[0]}'{there}") from None
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a model's id space: {error}") from None
    visual = directory / "visual.safetensors"
    if not visual.is_file():
        raise WeightsError(f"weights are missing: {visual} does not exist")
    max_side = vocab.max_side if placed else 0
    model = from_hf(
        directory, vocab.num_codes, code_bits, max_side=max_side,
        share_bits=data.get("share_bits", True), dtype=dtype, materialize=materialize,
    )  # fmt: skip
    return model.eval(), vocab


@torch.no_grad()
def with_text_size(
    model: Qwen2, vocab: Vocab, text_size: int, generator: torch.Generator
) -> tuple[Qwen2, Vocab]:
    """The model, in place, and its id space with room for more words: their rows come after the text's,
    at the mean of those with a tenth of their std as noise, before the special and shape ids.
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
