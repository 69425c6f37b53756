"""Users' words: known whatever their case and spacing, and a clear line where they are not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from arm.errors import InputError
from arm.models.pretrained import load_text_tokenizer
from arm.models.text import (
    TextTokenizer,
    caption_logits,
    encode_captions,
    text_embeddings,
    with_words,
)
from arm.world.language import build_tokenizer, world_words
from checkpoints import caption_lm, fixed_size_towers, gemma_like, naflex_towers, qwen_like
from closeness import assert_close_fp32
from tiny import seeded


@pytest.fixture(scope="module")
def text_tokenizer() -> TextTokenizer:
    return TextTokenizer(build_tokenizer())


def test_every_word_has_one_id(text_tokenizer: TextTokenizer):
    known = world_words()
    assert text_tokenizer.size == len(known) == len(set(known))
    assert [text_tokenizer.ids(word) for word in known[3:]] == [
        (i,) for i in range(3, text_tokenizer.size)
    ]


@pytest.mark.parametrize(
    "text",
    ["A red star?", "a red star ?", "  A  RED\n star ?", "a\tRed Star?"],
)
def test_case_and_punctuation(text_tokenizer: TextTokenizer, text: str):
    ids = text_tokenizer.ids(text)
    assert ids == tuple(world_words().index(word) for word in ("a", "red", "star", "?"))
    assert text_tokenizer.text(ids) == "a red star ?"


def test_punctuation_between_words(text_tokenizer: TextTokenizer):
    assert text_tokenizer.ids("a star,a ring.") == text_tokenizer.ids("a star , a ring .")


def test_text_is_the_inverse(text_tokenizer: TextTokenizer):
    sentence = "is the small striped hourglass left of the large arch ?"
    assert text_tokenizer.text(text_tokenizer.ids(sentence)) == sentence
    assert text_tokenizer.text(()) == ""


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text(text_tokenizer: TextTokenizer, text: str):
    with pytest.raises(InputError, match="the text is empty"):
        text_tokenizer.ids(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a rde star", r"the word 'rde'\. Did you mean 'red'\?"),
        ("two Hourglases", r"the word 'hourglases'\. Did you mean 'hourglass(es)?'\?"),
        ("a blue elefant", r"the word 'elefant'"),
        ("a xyzzyq", r"the word 'xyzzyq'\.$"),  # nothing is near
        ("a red star!!", r"the word '!!'\.$"),
        ("un étoile", r"the word 'un'"),
    ],
)
def test_unknown_words_are_named_with_the_nearest(
    text_tokenizer: TextTokenizer, text: str, message: str
):
    with pytest.raises(InputError, match=f"^the model does not know {message}") as error:
        text_tokenizer.ids(text)
    assert "\n" not in str(error.value)


def test_half_a_character(text_tokenizer: TextTokenizer):
    with pytest.raises(InputError, match=r"^the text holds '.udcff', half a character or a byte"):
        text_tokenizer.ids("a red \udcff")


def test_encode_captions_by_hand(text_tokenizer: TextTokenizer):
    ids, mask = encode_captions(text_tokenizer.tokenizer, ["a red star", "", "a ring"])
    a, red, star, ring = (world_words().index(word) for word in ("a", "red", "star", "ring"))
    pad, eos = 0, 2
    assert ids.tolist() == [[a, red, star, eos], [eos, pad, pad, pad], [a, ring, eos, pad]]
    assert mask.int().tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]


def test_encode_captions_to_a_length(text_tokenizer: TextTokenizer):
    (a, red), star = text_tokenizer.ids("a red"), text_tokenizer.ids("star")[0]
    ids, mask = encode_captions(text_tokenizer.tokenizer, ["a red star", "star"], 3)
    assert ids.tolist() == [[a, red, 2], [star, 2, 0]]  # the longer one is cut and still ended
    assert mask.int().tolist() == [[1, 1, 1], [1, 1, 0]]


def test_caption_logits_stand_at_the_word_they_predict():
    """A language model whose hidden state is its input shows which position predicts which id."""
    table, head = nn.Embedding(5, 5), nn.Identity()
    with torch.no_grad():
        table.weight.copy_(torch.eye(5))
    lm = SimpleNamespace(
        get_input_embeddings=lambda: table,
        model=lambda inputs_embeds, use_cache: SimpleNamespace(last_hidden_state=inputs_embeds),
        lm_head=head,
    )
    prefix = torch.randn(1, 3, 5, generator=seeded())
    logits = caption_logits(lm, prefix, torch.tensor([[4, 1, 2, 0]]))
    # the first id is predicted from the last of the picture, each other from the id before it
    assert torch.equal(logits[0, 0], prefix[0, -1])
    assert logits[0, 1:].argmax(-1).tolist() == [4, 1, 2]
    assert logits.shape == (1, 4, 5)


def test_encode_captions_of_a_language_model():
    """Qwen2.5's base models end and pad with one token; `most` bounds what the longest may take."""
    qwen = qwen_like()
    ids, mask = encode_captions(qwen, ["ab", "A b", ""], most=4)
    a, b, upper, space = 1, 2, 27, 53
    assert ids.tolist() == [[a, b, 0, 0], [upper, space, b, 0], [0, 0, 0, 0]]
    assert mask.int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert encode_captions(qwen, ["abcdef"], most=4)[0].tolist() == [[a, b, 3, 0]]
    assert encode_captions(qwen, ["ab"], most=4)[0].tolist() == [[a, b, 0]]


@pytest.mark.parametrize("towers", [fixed_size_towers, naflex_towers])
@pytest.mark.parametrize("text", ["A Red STAR", "a red star", "long " * 40, ""])
@torch.no_grad()
def test_text_embeddings_equal_transformers(tmp_path: Path, towers: Any, text: str):
    """As SigLIP2 was trained (big_vision: lower, no bos, a sticky eos, 64 ids padded on the right)."""
    from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

    gemma_like().save_pretrained(tmp_path)
    theirs = Siglip2Tokenizer.from_pretrained(tmp_path, padding_side="right")
    options = {"padding": "max_length", "max_length": 64, "truncation": True}
    wanted_ids = theirs([text, "b"], return_tensors="pt", **options).input_ids
    assert wanted_ids.shape == (2, 64) and (wanted_ids[0] == 1).sum() == 1
    model = towers()
    ours = text_embeddings(model, load_text_tokenizer(tmp_path), [text, "b"])
    wanted = model.get_text_features(input_ids=wanted_ids).pooler_output
    assert_close_fp32(ours, wanted)


@torch.no_grad()
def test_a_bf16_language_model_gives_fp32_logits():
    lm = caption_lm()
    prefix, ids = torch.randn(1, 3, 24, generator=seeded()), torch.tensor([[4, 1, 2, 0]])
    exact = caption_logits(lm, prefix, ids)
    short = caption_logits(caption_lm().bfloat16(), prefix, ids)
    assert short.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, short, dim=-1).min() > 0.99


def test_a_word_tokenizer_learns_words(tmp_path: Path):
    grown, new = with_words(build_tokenizer(), ["A red Dress, and a blouse", "a dress !?"])
    assert new == ["!?", "blouse", "dress"]
    grown.save_pretrained(tmp_path)
    text_tokenizer, old = (
        TextTokenizer(load_text_tokenizer(tmp_path)),
        TextTokenizer(build_tokenizer()),
    )
    assert text_tokenizer.size == old.size + 3
    assert text_tokenizer.ids("a red blouse") == (*old.ids("a red"), old.size + 1)
    assert text_tokenizer.text(text_tokenizer.ids("dress")) == "dress"
    with pytest.raises(InputError, match="does not know the word 'shoe'"):
        text_tokenizer.ids("a shoe")


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("สวัสดี", "สวัสดี"),
        ("cafe\u0301", "cafe\u0301"),  # a letter and its accent apart
        ("İstanbul", "i\u0307stanbul"),
        ("x²", "x ²"),
        ("well!? done", "well !? done"),
    ],
)
def test_words_are_split_as_the_tokenizer_splits_them(text: str, known: str):
    tokenizer = build_tokenizer()
    grown, new = with_words(tokenizer, [f"a {text}"])
    assert new == sorted(set(known.split()) - set(world_words()))
    text_tokenizer = TextTokenizer(grown)
    ids = tuple(len(tokenizer) + new.index(word) for word in known.split())
    assert text_tokenizer.ids(text) == ids and grown.unk_token_id not in ids
    assert text_tokenizer.known(text) == known and text_tokenizer.ids(known) == ids


def test_what_is_known_of_a_text(text_tokenizer: TextTokenizer):
    assert text_tokenizer.known("A नमस्ते red\udcff star!?") == "a red star ?"
    assert text_tokenizer.known("zebra") == ""
    with pytest.raises(InputError, match="the word 'नमस्ते'"):
        text_tokenizer.ids("a नमस्ते")
    letters = TextTokenizer(gemma_like())  # knows no word but these
    assert letters.known("A b, cd") == "a b"


def test_a_word_tokenizer_without_rules():
    """Without a normaliser the case counts; without a splitter the text is one word."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(WordLevel({"<unk>": 0, "A b": 1}, unk_token="<unk>"))
    named = {"unk_token": "<unk>", "pad_token": "<unk>", "eos_token": "<unk>"}
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    grown, new = with_words(plain, ["A b", "B a", ""])
    assert new == ["B a"]
    assert TextTokenizer(grown).ids("B a") == (2,)


def test_a_subword_tokenizer_needs_no_words():
    tokenizer = qwen_like()
    assert with_words(tokenizer, ["blouse"]) == (tokenizer, [])
