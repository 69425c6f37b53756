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


def tower_ids(siglip: Any, tokenizer: Any, texts: Sequence[str]) -> Int[Tensor, "b t"]:
    """What the text tower reads of each text; `tokenizer` is the tower's own.

    As SigLIP and SigLIP2 were trained: in lower case, ended by eos, padded to the full length of the
    position table (64 in the published models).
    """
    length = siglip.config.text_config.max_position_embeddings
    lower = [text.lower() for text in texts]
    return encode_captions(tokenizer, lower, length, siglip.device)[0]


def has_known_word(tokenizer: Any, ids_BT: Int[Tensor, "b t"]) -> Bool[Tensor, " b"]:
    """Whether a text has a word that its tokenizer knows."""
    empty = (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    ids = torch.tensor([i for i in empty if i is not None], device=ids_BT.device)
    return ~torch.isin(ids_BT, ids).all(-1)


def same_texts(ids_BT: Int[Tensor, "b t"], others_NT: Int[Tensor, "n t"]) -> Bool[Tensor, "b n"]:
    """Pairs of texts that are the same to their reader."""
    _, number = torch.unique(torch.cat([ids_BT, others_NT]), dim=0, return_inverse=True)
    return number[: len(ids_BT), None] == number[None, len(ids_BT) :]


def tower_embeddings(siglip: Any, ids_BT: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """The text tower's embeddings of `tower_ids`, fp32, not normalised; nothing is masked."""
    return siglip.text_model(ids_BT).pooler_output.float()


def text_embeddings(siglip: Any, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "b d"]:
    """The text tower's embeddings of texts, fp32, not normalised."""
    return tower_embeddings(siglip, tower_ids(siglip, tokenizer, texts))


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


def _words(tokenizer: Any, text: str) -> list[str]:
    """The words that a word-level tokenizer looks up for a text, split by its own rules: Python's are
    others for combining marks. For other kinds of tokenizer its words in lower case, and every sign.
    """
    from tokenizers.models import WordLevel

    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, WordLevel):
        return re.findall(r"\w+|[^\w\s]", text.lower())
    text = re.sub(r"[\ud800-\udfff]", " ", text)  # halves of characters, which tokenizers refuse
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    if backend.pre_tokenizer is None:
        return [text] if text else []
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]


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
    words = {word for text in texts for word in _words(tokenizer, text)}
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
            for word in _words(self.tokenizer, text):
                if word not in known:
                    hint = did_you_mean(word, [w for w in known if w.isalpha()])
                    raise InputError(f"the model does not know the word '{word}'.{hint}")
            raise InputError(f"the model does not know a word of '{text}'")
        return ids

    def known(self, text: str) -> str:
        """The words of a text that the tokenizer knows, in order; "" where there is none. Of signs in a row
        that it does not know together, those that it knows.
        """
        if self.tokenizer.unk_token_id is None:
            return text
        vocabulary = self.tokenizer.get_vocab()
        found: list[str] = []
        for word in _words(self.tokenizer, text):
            whole = word in vocabulary or re.search(r"\w", word)
            found += [part for part in ([word] if whole else word) if part in vocabulary]
        return " ".join(found)

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids))
