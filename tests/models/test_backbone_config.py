"""Sizes in config.json: read, and refused at once where they are of another type, model or magnitude."""

import json
from pathlib import Path
from typing import Any

import pytest

from arm.errors import WeightsError
from arm.models.backbone import load_backbone, load_qwen2, save_backbone
from arm.models.backbone_config import read_settings, to_config
from arm.vocab import Vocab
from old_layout import old_backbone
from tiny import VISUAL, build

VOCAB = Vocab(text_size=21, num_codes=16, max_side=5)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_backbone(build(VISUAL), VOCAB, tmp_path / "new")
    return tmp_path / "new"


def change(path: Path, changes: dict[str, Any]) -> None:
    """Changes keys of a JSON file; "gone" removes one."""
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in data.items() if value != "gone"}))


SPACE = [
    ({"num_codes": 32}, "num_codes 32 is not 2"),
    ({"num_codes": 32, "code_bits": 5}, r"has shape \(4, 32\), the model needs \(5, 32\)"),
    ({"text_size": "gone"}, "lacks the key 'text_size'"),
    ({"image_stride": 0}, "is not a model's id space: .* must be at least 1"),
    ({"image_stride": 2.5}, r"image_stride is 2\.5, not a whole number"),
    ({"image_stride": 2**62}, "image_stride must be at most 1048576"),
    ({"text_size": "21"}, "text_size is '21', not a whole number"),
    ({"text_size": True}, "text_size is True, not a whole number"),
    ({"text_size": 2**62}, "vocab_size is .* more than the weights hold values"),
    ({"max_side": 2**62}, "is .* more than the weights hold values"),
    ({"code_bits": 10**12}, "code_bits is 1000000000000, more than 62"),
    ({"num_codes": 2**61, "code_bits": 61}, "num_codes is .* more than the weights hold values"),
    ({"grid_positions": 1}, "grid_positions is 1, not true or false"),
]
NETWORK = [
    ({"model_type": "llama"}, "'llama'"),
    ({"hidden_act": "gelu"}, "silu"),
    ({"use_sliding_window": True}, "sliding"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary"),
    ({"num_attention_heads": 3}, "multiple"),
    ({"hidden_size": None}, "hidden_size is None, not a whole number"),
    ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two', not a whole number"),
    ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5, not a whole number"),
    ({"num_hidden_layers": 10**9}, r"num_layers is 1e\+09, but the weights hold \d+ tensors"),
    ({"hidden_size": 2**62}, "hidden_size is .* more than the weights hold values"),
    ({"intermediate_size": 2**40}, "intermediate_size is .* more than the weights hold values"),
    ({"num_attention_heads": 2**62, "num_key_value_heads": 1, "head_dim": 2}, "num_heads is"),
    ({"head_dim": 2**33}, "head_dim is .* more than the weights hold values"),
    ({"hidden_size": 2**16, "head_dim": 8}, "has shape"),
    ({"rms_norm_eps": None}, "rms_norm_eps is None, not a positive number"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, not a positive number"),
    ({"rope_theta": float("inf")}, "rope_theta is inf, not a positive number"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', not true or false"),
    ({"rope_parameters": [1]}, r"its rotary positions are \[1\], not a JSON object"),
    ({"rope_parameters": {"rope_theta": "1e6"}}, "rope_theta is '1e6', not a positive number"),
    ({"transformers_weights": "model.bin"}, "names 'model.bin' as transformers_weights"),
]


@pytest.mark.parametrize(("changes", "message"), SPACE + NETWORK)
def test_settings_that_are_refused(saved: Path, changes: dict[str, Any], message: str):
    change(saved / "config.json", changes)
    with pytest.raises(WeightsError, match=message) as error:
        load_backbone(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("changes", "message"), SPACE)
def test_settings_of_the_release_before(
    saved: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    old_backbone(saved, tmp_path / "old")
    assert read_settings(tmp_path / "old") == read_settings(saved)
    change(tmp_path / "old/vocab.json", changes)
    with pytest.raises(WeightsError, match=message) as error:
        load_backbone(tmp_path / "old")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["[1]", "{", "3", "[" * 100_000, '{"model_type": ' + "9" * 5000 + "}", "\xff"]
)
def test_a_config_that_is_none(saved: Path, text: str):
    (saved / "config.json").write_text(text, encoding="latin-1")
    for load in (load_backbone, load_qwen2):
        with pytest.raises(WeightsError, match=r"config\.json") as error:
            load(saved)
        assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_published_configuration_lacks_keys(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "hiden_size": 8}')
    with pytest.raises(WeightsError, match="lacks the key 'hidden_size'; it has 'hiden_size'"):
        load_qwen2(tmp_path)


def test_a_backbone_of_another_id_space():
    with pytest.raises(ValueError, match="does not have the ids of"):
        to_config(VISUAL, Vocab(text_size=22, num_codes=16, max_side=5))
