"""Text into fixed-size id tensors for the towers and the captioning LM."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from arm.errors import InputError, did_you_mean


def encode_captions(
    tokenizer: Any,
    captions: Sequence[str],
    length: int | None = None,
    device: torch.device | None = None,
) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Ids (B, T), each ended by eos and padded; the mask covers words and eos.

    T is `length` (longer captions are cut), or as long as the longest where it is None.
    """
    pad = tokenizer.pad_token_id
    found = tokenizer(list(captions), add_special_tokens=False).input_ids
    length = length or max(map(len, found)) + 1
    ids_BT = torch.full((len(captions), length), pad, dtype=torch.long)
    mask_BT = torch.zeros((len(captions), length), dtype=torch.bool)
    for row, ids in enumerate(found):
        ids = [*ids[: length - 1], tokenizer.eos_token_id]
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = True
    return ids_BT.to(device), mask_BT.to(device)


def caption_logits(lm: Any, prefix_BND: Tensor, ids_BT: Tensor) -> Tensor:
    """Logits of each caption id given the picture's features and the ids before it, (B, T, V)."""
    embedded = lm.get_input_embeddings()(ids_BT[:, :-1])
    hidden = lm.model(inputs_embeds=torch.cat([prefix_BND, embedded], 1), use_cache=False)
    return lm.lm_head(hidden.last_hidden_state[:, prefix_BND.shape[1] - 1 :])


class TextTokenizer:
    """A Hugging Face tokenizer as the model sees it: plain text to ids and back, nothing added."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)

    @lru_cache(maxsize=65536)  # noqa: B019 - lives as long as the process's one tokenizer
    def ids(self, text: str) -> tuple[int, ...]:
        """Raises InputError for empty text and for a word that the tokenizer does not know."""
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
