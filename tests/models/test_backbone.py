"""A backbone with its id space: written, read, and refused where a file is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.errors import WeightsError
from arm.models.backbone import load_backbone, save_backbone
from arm.vocab import Vocab
from tiny import VISUAL, build

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
