"""Text into fixed-size id tensors for the towers and the captioning LM."""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arm.errors import InputError, did_you_mean, not_utf8


def encode_captions(
    tokenizer: Any,
    captions: Sequence[str],
    length: int | None = None,
    device: torch.device | None = None,
    most: int | None = None,
) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Ids (B, T), each ended by eos and padded; the mask covers words and eos.

    T is `length` (longer captions are cut), or as long as the longest where it is None, `most` at
    most. A tokenizer
    without a pad token, as some language models have, pads with eos.
    """
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    found = tokenizer(list(captions), add_special_tokens=False).input_ids
    longest = max(map(len, found)) + 1
    length = length or min(longest, most or longest)
    ids_BT = torch.full((len(captions), length), pad, dtype=torch.long)
    mask_BT = torch.zeros((len(captions), length), dtype=torch.bool)
    for row, ids in enumerate(found):
        ids = [*ids[: length - 1], tokenizer.eos_token_id]
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = True
    return ids_BT.to(device), mask_BT.to(device)


def text_embeddings(siglip: Any, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "b d"]:
    """The text tower's embeddings, fp32, not normalised; `tokenizer` is the tower's own.

    As SigLIP and SigLIP2 were trained: in lower case, ended by eos, padded to the full length of the
    position table (64 in the published models), and nothing masked.
    """
    length = siglip.config.text_config.max_position_embeddings
    lower = [text.lower() for text in texts]
    ids_BT, _ = encode_captions(tokenizer, lower, length, siglip.device)
    return siglip.text_model(ids_BT).pooler_output.float()


def caption_hidden(lm: Any, prefix_BND: Tensor, ids_BT: Tensor) -> Float[Tensor, "b t d"]:
    """The states from which `lm.lm_head` predicts each caption id, given the picture's features and the
    ids before it.
    """
    embedded = lm.get_input_embeddings()(ids_BT[:, :-1])
    inputs = torch.cat([prefix_BND.to(embedded.dtype), embedded], 1)
    hidden = lm.model(inputs_embeds=inputs, use_cache=False)
    return hidden.last_hidden_state[:, prefix_BND.shape[1] - 1 :]


def caption_logits(lm: Any, prefix_BND: Tensor, ids_BT: Tensor) -> Tensor:
    """Logits (B, T, V), fp32, of each caption id given the picture's features and the ids before it."""
    return lm.lm_head(caption_hidden(lm, prefix_BND, ids_BT)).float()


def with_words(tokenizer: Any, texts: Iterable[str]) -> tuple[Any, list[str]]:
    """A word-level tokenizer that knows the words of `texts` too, and its new words, whose ids follow the
    old ones in alphabetical order. Other kinds of tokenizer write any word and come back as they are.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    data = json.loads(tokenizer.backend_tokenizer.to_str())
    if data["model"]["type"] != "WordLevel":
        return tokenizer, []
    known = data["model"]["vocab"]
    words = {word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text.lower())}
    new = sorted(words - known.keys())
    first = len(tokenizer)
    known |= {word: first + i for i, word in enumerate(new)}
    named = {f"{k}_token": getattr(tokenizer, f"{k}_token") for k in ("unk", "pad", "eos")}
    grown = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(data)), **named)
    return grown, new


class TextTokenizer:
    """A Hugging Face tokenizer as the model sees it: plain text to ids and back, nothing added."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)

    @lru_cache(maxsize=65536)  # noqa: B019 - lives as long as the process's one tokenizer
    def ids(self, text: str) -> tuple[int, ...]:
        """Raises InputError for empty text, for one that is not UTF-8, and for a word that the tokenizer
        does not know.
        """
        if fault := not_utf8(text):
            raise InputError(f"the text {fault}")
        ids = tuple(self.tokenizer(text, add_special_tokens=False).input_ids)
        if not ids:
            raise InputError("the text is empty; say what you want in a few words")
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in ids:
            known = self.tokenizer.get_vocab()
            for word in re.findall(r"\w+|[^\w\s]+", text.lower()):
                if word not in known:
                    hint = did_you_mean(word, [w for w in known if w.isalpha()])
                    raise InputError(f"the model does not know the word '{word}'.{hint}")
            raise InputError(f"the model does not know a word of '{text}'")
        return ids

    def known(self, text: str) -> str:
        """The words of a text that the tokenizer knows, in order; "" where there is none."""
        if self.tokenizer.unk_token_id is None:
            return text
        vocabulary = self.tokenizer.get_vocab()
        return " ".join(w for w in re.findall(r"\w+|[^\w\s]", text.lower()) if w in vocabulary)

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids))
