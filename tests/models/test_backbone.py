"""A backbone with its id space: written, read, and refused where a file is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.errors import WeightsError
from arm.models.backbone import load_backbone, save_backbone, with_text_size
from arm.vocab import Vocab
from closeness import assert_close_fp32
from tiny import VISUAL, build, seeded

VOCAB = Vocab(text_size=21, num_codes=16, max_side=5)  # 21 + 6 + 2 * 5 = 37 text rows


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_backbone(build(VISUAL), VOCAB, tmp_path)
    return tmp_path


def test_round_trip(saved: Path):
    model, vocab = load_backbone(saved)
    assert vocab == VOCAB and vocab.first_code == model.config.vocab_size
    assert replace(model.config, head_dim=None) == VISUAL
    assert not model.training
    for name, tensor in build(VISUAL).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_sixteen_bits_are_read_as_fp32(tmp_path: Path):
    save_backbone(build(VISUAL).to(torch.bfloat16), VOCAB, tmp_path)
    assert {p.dtype for p in load_backbone(tmp_path)[0].parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_codes": 32}, "num_codes 32 is not 2"),
        ({"num_codes": 32, "code_bits": 5}, r"visual\.safetensors.*\(32, 4\)"),
        ({"max_side": 6}, r"visual\.safetensors.*\(5, 32\)"),
        ({"text_size": None}, r"vocab\.json"),
        ({"image_stride": 0}, r"vocab\.json is not a model's id space: .* must be at least 1"),
        ({"image_stride": 2.5}, r"vocab\.json is not a model's id space: image_stride is 2\.5, no"),
        (
            {"text_size": "21"},
            r"vocab\.json is not a model's id space: text_size is '21', no whole",
        ),
    ],
)
def test_an_id_space_of_another_model(saved: Path, change: dict[str, Any], message: str):
    path = saved / "vocab.json"
    data = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))
    with pytest.raises(WeightsError, match=message) as error:
        load_backbone(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[1]", "{", "3"])
def test_an_id_space_that_is_none(saved: Path, text: str):
    (saved / "vocab.json").write_text(text)
    with pytest.raises(WeightsError, match=r"vocab\.json"):
        load_backbone(saved)


def test_no_files(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"vocab\.json does not exist"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_room_for_more_words_moves_no_other_row(tied: bool):
    """Three words more: old words stay, special and shape ids keep their rows three ids further on."""
    model = build(replace(VISUAL, tie_embeddings=tied))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grown, vocab = with_text_size(model, VOCAB, 24, seeded())
    assert vocab == replace(VOCAB, text_size=24)
    for name, tensor in grown.state_dict().items():
        if name in ("embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(tensor[:21], before[name][:21])
            assert torch.equal(tensor[24:], before[name][21:])
            away = (tensor[21:24] - before[name][:21].mean(0)).abs().max()
            assert float(away) < float(before[name].std())
        else:
            assert torch.equal(tensor, before[name]), name
    ids = torch.tensor([[3, 20, vocab.user, vocab.end]])
    old = torch.tensor([[3, 20, VOCAB.user, VOCAB.end]])
    hidden = grown(grown.embed(ids), torch.arange(4)[None])
    again = build(replace(VISUAL, tie_embeddings=tied))
    assert_close_fp32(hidden, again(again.embed(old), torch.arange(4)[None]))
    assert grown.text_logits(hidden).shape[-1] == vocab.first_code
