"""What transformers needs in a model directory, and copies of whole model directories."""

import json
from pathlib import Path
from typing import Any

from arm.errors import InputError, WeightsError
from arm.files import fill_folder, make_folder, write_json
from arm.hf.processing import ArmProcessor
from arm.model_directory import (
    BACKBONE_FILES,
    copy_files,
    copy_parts,
    load_defaults,
    model_files,
)
from arm.models.backbone import load_backbone, save_backbone
from arm.models.backbone_config import read_settings
from arm.models.pretrained import load_text_tokenizer
from arm.vocab import SPECIAL_TOKENS, Vocab

TEXT_ROOM = 64
"""Tokens of text that `generate` allows by default beside the largest picture."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role not in ('user', 'assistant') -%}
{{- raise_exception("only 'user' and 'assistant' speak, not '" ~ message.role ~ "'") -}}
{%- endif -%}
{{- '<' ~ message.role ~ '>' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{{- '<image>' if part.type == 'image' else part.text -}}
{%- endfor -%}
{%- endif -%}
{{- '<end>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<assistant>' -}}
{%- endif -%}
"""
"""Writes messages in the order of `sequence.flatten`'s turns; an image part becomes <image>."""


def added_names(size: int, vocab: Vocab) -> list[str]:
    """The names of the ids from `size`, the number of the text tokenizer's ids, to the end of the text table.

    Raises WeightsError for a tokenizer with more ids than the model.
    """
    if size > vocab.text_size:
        raise WeightsError(f"the text tokenizer has {size} ids, the model {vocab.text_size}")
    sides = range(1, vocab.max_side + 1)
    return [
        *(f"<reserved_{i}>" for i in range(vocab.text_size - size)),
        *SPECIAL_TOKENS,
        *(f"<h={side}>" for side in sides),
        *(f"<w={side}>" for side in sides),
    ]


def text_table(source: Path, vocab: Vocab) -> Any:
    """A fast tokenizer with a name for every id of the text table, from the directory of a text tokenizer.

    After its own entries come <reserved_0> ... up to `text_size`, then <pad> <user> <assistant> <end> <image>
    </image>, <h=1> ..., <w=1> ..., at the ids that `Vocab` gives them. An entry that has one of these names, as
    a <pad> of its own, is renamed <text:pad> and keeps its id. Codes have no entries: 65,536 added tokens
    would slow down every call, so `ArmProcessor` writes and reads them as <code_123>. Raises WeightsError
    where the ids are not contiguous or too many.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    original = load_text_tokenizer(source)
    names = added_names(len(original), vocab)
    written = _renamed(json.loads(original.backend_tokenizer.to_str()), set(names))
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    if sorted(tokenizer.get_vocab().values()) != list(range(vocab.first_code)):
        raise WeightsError(f"{source}: its ids are not 0..{len(original) - 1}, one a word")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=_new_name(original.unk_token, set(names)),
        pad_token="<pad>",
        eos_token="<end>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        chat_template=CHAT_TEMPLATE,
    )


def _new_name(word: str | None, taken: set[str]) -> str | None:
    return f"<text:{word[1:]}" if word in taken and word is not None else word


def _renamed(data: Any, taken: set[str]) -> Any:
    """The content of a tokenizer.json with every string and key in `taken` renamed."""
    if isinstance(data, dict):
        return {_new_name(key, taken): _renamed(value, taken) for key, value in data.items()}
    if isinstance(data, list):
        return [_renamed(value, taken) for value in data]
    return _new_name(data, taken) if isinstance(data, str) else data


def write_transformers_files(directory: Path) -> None:
    """Adds to a model directory what AutoModelForCausalLM and AutoProcessor read beside the backbone.

    That is `model_directory.TRANSFORMERS_FILES`, made from config.json, arm.json and the text tokenizer.
    """
    _, vocab = read_settings(directory)
    grids = load_defaults(directory).grids
    ids = {"eos_token_id": vocab.end, "pad_token_id": vocab.pad}
    room = TEXT_ROOM + max(height * width for height, width in grids)
    write_json({**ids, "max_new_tokens": room}, directory / "generation_config.json")
    table = text_table(model_files(directory).text_tokenizer, vocab)
    sizes = (vocab.text_size, vocab.num_codes, vocab.max_side, vocab.image_stride)
    ArmProcessor(table, *sizes).save_pretrained(directory)


def copy_model(source: str | Path, out: Path) -> None:
    """Writes a complete copy of a model, weights unchanged; one of an earlier release in today's layout.

    Only known files are copied, weights as hard links where possible. Raises WeightsError for a model that is
    missing or damaged or that contains links, InputError where `out` is not an empty or new folder.
    """
    files = model_files(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; name a new folder")
    make_folder(out.resolve().parent)
    model, vocab = load_backbone(files.backbone, dtype=None)

    def write(target: Path) -> None:
        if files.is_complete:
            copy_files(files.backbone, target, BACKBONE_FILES)
        else:
            save_backbone(model, vocab, target)
        copy_parts(source, target)
        write_transformers_files(target)

    fill_folder(write, out)
