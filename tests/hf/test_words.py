"""The text table: a name for every id, at its id."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import arm.hf  # noqa: F401 - registers
from arm.errors import WeightsError
from arm.hf.words import added_names, text_table
from arm.models.backbone import load_backbone
from arm.models.pretrained import load_text_tokenizer
from arm.vocab import Vocab
from conftest import TinyChain


def words(path: Path, ids: dict[str, int]) -> Path:
    """A tokenizer of whole words, whose `<pad>` and `<eos>` are its own."""
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(w, normalized=False) for w in ids if w[0] == "<"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    ).save_pretrained(path)
    return path


IDS = {"<pad>": 0, "<unk>": 1, "<eos>": 2, "a": 3, "star": 4}


def test_every_id_has_its_name(tmp_path: Path):
    vocab = Vocab(text_size=7, num_codes=16, max_side=2)
    text_table(words(tmp_path / "own", IDS), vocab).save_pretrained(tmp_path / "table")
    table = AutoTokenizer.from_pretrained(tmp_path / "table")
    expected = [
        *("<text:pad>", "<unk>", "<eos>", "a", "star", "<reserved_0>", "<reserved_1>"),
        *("<pad>", "<user>", "<assistant>", "<end>", "<image>", "</image>"),
        *("<h=1>", "<h=2>", "<w=1>", "<w=2>"),
    ]
    assert len(table) == vocab.first_code == len(expected)
    assert table.convert_ids_to_tokens(list(range(len(expected)))) == expected
    assert table.convert_tokens_to_ids(expected) == list(range(len(expected)))
    text = "<user>a star<end><assistant><image><h=2><w=1></image><end>"
    ids = [vocab.user, 3, 4, vocab.end, vocab.assistant, vocab.image, vocab.height(2)]
    ids += [vocab.width(1), vocab.image_end, vocab.end]
    assert table(text).input_ids == ids
    assert table(table.decode(ids)).input_ids == ids
    assert table.decode(ids, skip_special_tokens=True) == "a star"
    assert (table.pad_token_id, table.eos_token_id, table.unk_token_id) == (vocab.pad, vocab.end, 1)
    assert table(["a", "a star"], padding=True).input_ids == [[vocab.pad, 3], [3, 4]]


def test_text_has_the_ids_of_the_models_own_tokenizer(chain: TinyChain, exported: Path):
    table = AutoTokenizer.from_pretrained(exported)
    own = load_text_tokenizer(chain.model / "siglip")
    assert len(table) == load_backbone(chain.model / "backbone")[1].first_code
    for text in ("a large red star left of a blue ring", "what color is the ring ?"):
        assert table(text).input_ids == own(text, add_special_tokens=False).input_ids
    assert set(own.get_vocab()) - set(table.get_vocab()) == set()
    assert table.convert_tokens_to_ids("<text:pad>") == own.convert_tokens_to_ids("<pad>")


def test_a_table_that_cannot_be(tmp_path: Path):
    with pytest.raises(WeightsError, match="has 5 words, the model 4 ids"):
        added_names(5, Vocab(text_size=4, num_codes=16, max_side=2))
    holes = words(tmp_path, {**IDS, "star": 9})
    with pytest.raises(WeightsError, match=r"its ids are not 0\.\.4"):
        text_table(holes, Vocab(text_size=7, num_codes=16, max_side=2))
