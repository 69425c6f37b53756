"""The text tokenizer with a name for every id of the text table.

Behind the words of the backbone's tokenizer come <pad> <user> <assistant> <end> <image> </image>,
<h=1> ..., <w=1> ..., at the ids that `Vocab` gives them; where the text ids count more than the
tokenizer's words, <reserved_0> ... fill the gap. Codes have no words: 65,536 added tokens would slow
down every call, so `ArmProcessor` writes them as <code_123> and reads them back.
"""

import json
from pathlib import Path
from typing import Any

from arm.errors import WeightsError
from arm.vocab import SPECIAL_TOKENS, Vocab

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
"""Messages -> `sequence.flatten`'s order of turns; an image part stands as <image>."""


def added_names(words: int, vocab: Vocab) -> list[str]:
    """Names of the ids from `words` to the end of the text table. Raises WeightsError if too many."""
    if words > vocab.text_size:
        raise WeightsError(f"the text tokenizer has {words} words, the model {vocab.text_size} ids")
    sides = range(1, vocab.max_side + 1)
    return [
        *(f"<reserved_{i}>" for i in range(vocab.text_size - words)),
        *SPECIAL_TOKENS,
        *(f"<h={side}>" for side in sides),
        *(f"<w={side}>" for side in sides),
    ]


def text_table(source: Path, vocab: Vocab) -> Any:
    """A fast tokenizer of the whole text table, from the directory of the backbone's tokenizer.

    A word of that tokenizer which has the name of one of ours, as its own <pad>, is renamed
    <text:pad>; its id stays. Raises WeightsError where the ids cannot be had.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    from arm.models.pretrained import load_text_tokenizer

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
    """The tokenizer.json without the `taken` names: every string value and key that is one is renamed."""
    if isinstance(data, dict):
        return {_new_name(key, taken): _renamed(value, taken) for key, value in data.items()}
    if isinstance(data, list):
        return [_renamed(value, taken) for value in data]
    return _new_name(data, taken) if isinstance(data, str) else data
