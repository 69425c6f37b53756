"""Our directory -> Hugging Face's -> ours: the same weights, the same answers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from arm.errors import InputError, WeightsError
from arm.hf.files import from_hf, to_hf
from arm.pipeline import Arm
from conftest import TinyChain


def tensors(root: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(root.rglob("*.safetensors")):
        for name, tensor in load_file(path).items():
            found[f"{path.relative_to(root)}:{name}"] = tensor
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a
    )


@pytest.mark.parametrize("shards", ["5GB", "20KB"])
def test_there_and_back(chain: TinyChain, tmp_path: Path, shards: str):
    to_hf(chain.model, tmp_path / "hf", shards)
    assert (len(list((tmp_path / "hf").glob("model*.safetensors"))) > 1) == (shards == "20KB")
    from_hf(tmp_path / "hf", tmp_path / "back")
    assert same(tensors(chain.model), tensors(tmp_path / "back"))
    for name in ("arm.json", "backbone/vocab.json", "siglip/tokenizer.json"):
        assert (tmp_path / "back" / name).read_bytes() == (chain.model / name).read_bytes()
    first, second = Arm.from_pretrained(chain.model), Arm.from_pretrained(tmp_path / "back")
    codes = [np.arange(49).reshape(7, 7)]
    question = ["how many stars are there?"]
    assert first.answer_codes(codes, question) == second.answer_codes(codes, question)
    assert {p.name for p in tmp_path.iterdir()} == {"hf", "back"}  # no temporary folder is left


def test_what_transformers_saves_comes_back(exported: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert model.dtype == torch.float16
    with torch.no_grad():
        model.backbone.embed_tokens.weight += 1
    model.save_pretrained(tmp_path / "tuned")
    shutil.copytree(exported / "parts", tmp_path / "tuned/parts")
    from_hf(tmp_path / "tuned", tmp_path / "back")
    own = Arm.from_pretrained(tmp_path / "back").model
    assert torch.equal(own.embed_tokens.weight, model.backbone.embed_tokens.weight.float())


def test_a_backbone_may_have_its_own_words(chain: TinyChain, tmp_path: Path):
    source = shutil.copytree(chain.model, tmp_path / "source")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(source / "siglip" / name, source / "backbone" / name)
    to_hf(source, tmp_path / "hf")
    from_hf(tmp_path / "hf", tmp_path / "back")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        found = (tmp_path / "back/backbone" / name).read_bytes()
        assert found == (source / "backbone" / name).read_bytes()


def test_folders_are_not_overwritten(chain: TinyChain, exported: Path, tmp_path: Path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        to_hf(chain.model, tmp_path)
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        from_hf(exported, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def broken(exported: Path, target: Path, **fields: object) -> Path:
    shutil.copytree(exported, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | fields))
    return target


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2', not 'arm'"),
        ({"vocab_size": 7}, "vocab_size is 7, but the other sizes make it"),
        ({"num_key_value_heads": 3}, "num_heads 2 is no multiple of num_kv_heads 3"),
        ({"hidden_size": 64}, "has shape"),
        ({"num_hidden_layers": 2}, "lacks the tensor backbone.layers.1"),
    ],
)
def test_a_config_that_does_not_fit(
    exported: Path, tmp_path: Path, fields: dict[str, object], message: str
):
    source = broken(exported, tmp_path / "hf", **fields)
    with pytest.raises(WeightsError, match=message) as caught:
        from_hf(source, tmp_path / "back")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_files_that_are_missing_or_damaged(exported: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"config\.json does not exist"):
        from_hf(tmp_path / "nowhere", tmp_path / "back")
    source = broken(exported, tmp_path / "hf")
    weights = source / "model.safetensors"
    whole = load_file(weights)
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        from_hf(source, tmp_path / "back")
    name = "backbone.norm.weight"
    save_file({**whole, name: whole[name].double()}, weights)
    with pytest.raises(WeightsError, match="the weights are of 2 types"):
        from_hf(source, tmp_path / "back")
    weights.unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        from_hf(source, tmp_path / "back")
    save_file(whole, weights)
    (source / "parts/arm.json").unlink()
    with pytest.raises(WeightsError, match=r"parts/arm\.json does not exist"):
        from_hf(source, tmp_path / "back")
