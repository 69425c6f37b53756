"""Model directories: found, read, moved, and those of the release before."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from arm.errors import WeightsError
from arm.model_directory import (
    find_model,
    load_defaults,
    load_detokenizer,
    model_files,
    shipped_models,
)
from arm.models.pretrained import load_siglip
from arm.models.tokenizer import VisualTokenizer
from arm.pipeline import Arm
from arm.train.export import replace_backbone
from conftest import TinyChain
from old_layout import old_model


def test_a_model_is_a_shipped_name_or_a_path(chain: TinyChain, tmp_path: Path):
    assert find_model("micro") == shipped_models()["micro"]
    assert find_model(str(chain.model)) == chain.model
    with pytest.raises(WeightsError, match=r"no model 'micor'.* Did you mean 'micro'\?"):
        find_model("micor")
    with pytest.raises(WeightsError, match=r"no model 'zzz'.* Shipped models: micro, micro-sft\."):
        find_model("zzz")
    with pytest.raises(WeightsError, match=r"no model directory: it has no arm\.json"):
        find_model(tmp_path)


def test_a_field_that_is_none_is_named_with_its_file(chain: TinyChain, tmp_path: Path):
    data = json.loads((chain.model / "arm.json").read_text())
    (tmp_path / "arm.json").write_text(json.dumps({**data, "girds": []}))
    with pytest.raises(WeightsError, match=r"arm\.json: unknown key 'girds'.*'grids'"):
        load_defaults(tmp_path)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"grids": []}, "scale and the sides of grids must be at least 1, and a grid there"),
        ({"grids": [[0, 7]]}, "sides of grids must be at least 1"),
        ({"scale": 0}, "scale and the sides of grids must be at least 1"),
        ({"grids": [[6, 99]]}, r"arm\.json: grids have sides above \d+, the most of this backbone"),
    ],
)
def test_grids_that_no_picture_can_have(
    changes: dict, fault: str, chain: TinyChain, tmp_path: Path
):
    replace_backbone(chain.model, chain.model, tmp_path / "model")
    data = json.loads((tmp_path / "model/arm.json").read_text())
    (tmp_path / "model/arm.json").write_text(json.dumps({**data, **changes}))
    with pytest.raises(WeightsError, match=fault):
        Arm.from_pretrained(tmp_path / "model")


def test_a_model_can_be_moved(chain: TinyChain, tmp_path: Path):
    replace_backbone(chain.model, chain.model, tmp_path / "made")
    shutil.move(tmp_path / "made", tmp_path / "moved")
    grey = Image.fromarray(np.full((56, 56, 3), 90, dtype=np.uint8))
    whole, moved = Arm.from_pretrained(chain.model), Arm.from_pretrained(tmp_path / "moved")
    assert moved.directory == tmp_path / "moved"
    assert np.array_equal(whole.encode(grey), moved.encode(grey))
    question = "how many stars are there ?"
    assert whole.ask(grey, question) == moved.ask(grey, question)
    (picture,), (other,) = (m.create("a star", seed=3) for m in (whole, moved))
    assert picture.tobytes() == other.tobytes()


def test_the_release_before_could_share_parts(chain: TinyChain, tmp_path: Path):
    model = old_model(chain.model, tmp_path / "model", parts=str(chain.model))
    files = model_files(model)
    assert files.backbone == model / "backbone" and files.parts == chain.model
    assert files.text_tokenizer == chain.model / "siglip" and not files.is_complete
    grey = Image.fromarray(np.full((56, 56, 3), 90, dtype=np.uint8))
    own, old = Arm.from_pretrained(chain.model), Arm.from_pretrained(model)
    one, two = (m.edit(grey, "add a star") for m in (own, old))
    assert one.tobytes() == two.tobytes()
    replace_backbone(model, model, tmp_path / "whole")
    assert model_files(tmp_path / "whole").is_complete
    for name in ("tokenizer.json", "tokenizer_config.json"):  # and have a text tokenizer of its own
        shutil.copyfile(chain.model / "siglip" / name, model / "backbone" / name)
    assert model_files(model).text_tokenizer == model / "backbone"
    shutil.rmtree(model / "backbone")
    with pytest.raises(WeightsError, match=r"config\.json does not exist"):
        Arm.from_pretrained(model)


def test_shared_parts_that_are_missing_are_named(chain: TinyChain, tmp_path: Path):
    model = old_model(chain.model, tmp_path / "model", parts="mikro")
    with pytest.raises(WeightsError, match="there is no model 'mikro'"):
        Arm.from_pretrained(model)
    other = old_model(chain.model, tmp_path / "other", parts=str(model))
    with pytest.raises(WeightsError, match="shares the parts of another model"):
        Arm.from_pretrained(other)


def test_a_model_written_over_one_of_the_release_before(chain: TinyChain, tmp_path: Path):
    model = old_model(chain.model, tmp_path / "model")
    (model / "README.md").write_text("its card")
    replace_backbone(chain.model, chain.model, model)
    assert model_files(model).is_complete and not (model / "backbone").exists()
    assert (model / "README.md").read_text() == "its card"


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"scale": ' + "9" * 5000 + "}"])
@pytest.mark.parametrize(
    "name",
    ["arm.json", "config.json", "visual_tokenizer.json", "siglip/config.json",
     "siglip/tokenizer.json", "siglip/tokenizer_config.json", "vae/config.json",
     "detokenizer_flux/config.json", "detokenizer_flux/sampler.json"],
)  # fmt: skip
def test_settings_that_are_no_settings(chain: TinyChain, tmp_path: Path, name: str, text: str):
    model = shutil.copytree(chain.model, tmp_path / "model")
    (model / name).write_text(text)
    with pytest.raises(WeightsError, match=Path(name).name) as error:
        Arm.from_pretrained(model, detokenizer="flux")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("visual_tokenizer.json", {"num_blocks": 10**9}),
        ("visual_tokenizer.json", {"width": 2**60}),
        ("visual_tokenizer.json", {"width": 2**16}),
        ("visual_tokenizer.json", {"code_bits": 2**40}),
        ("visual_tokenizer.json", {"mlp_ratio": 1e300}),
        ("visual_tokenizer.json", {"pixel": {"width": 32, "num_blocks": 10**9, "num_heads": 2}}),
        ("siglip/config.json", {"vision_config": {"num_hidden_layers": 10**9}}),
        ("siglip/config.json", {"vision_config": {"hidden_size": 2**62}}),
        ("siglip/config.json", {"vision_config": {"intermediate_size": 2**16}}),
        ("siglip/config.json", {"text_config": {"vocab_size": 2**62}}),
        ("vae/config.json", {"layers_per_block": 10**9}),
        ("vae/config.json", {"block_out_channels": [2**40, 8, 8]}),
        ("vae/config.json", {"latent_channels": 2**60}),
        ("detokenizer_flux/config.json", {"num_layers": 10**9}),
        ("detokenizer_flux/config.json", {"num_single_layers": 10**9}),
        ("detokenizer_flux/config.json", {"joint_attention_dim": 2**62}),
        ("detokenizer_flux/config.json", {"attention_head_dim": 2**16}),
        ("detokenizer_flux/sampler.json", {"num_steps": 10**9}),
    ],
)  # fmt: skip
def test_sizes_that_the_weights_do_not_have(
    chain: TinyChain, tmp_path: Path, name: str, changes: dict[str, Any]
):
    """Refused before anything is built: 10**9 layers would take minutes and gigabytes."""
    model = shutil.copytree(chain.model, tmp_path / "model")
    data = json.loads((model / name).read_text())
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(data.get(key), dict)
        data[key] = {**data[key], **value} if both else value
    (model / name).write_text(json.dumps(data))
    with pytest.raises(WeightsError) as error:
        Arm.from_pretrained(model, detokenizer="flux")
    assert "\n" not in str(error.value) and str(model) in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.safetensors", "siglip/model.safetensors", "vae/diffusion_pytorch_model.safetensors",
     "detokenizer_flux/painter.safetensors", "model.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["nan", "integers"])
def test_weights_that_are_no_weights(chain: TinyChain, tmp_path: Path, name: str, kind: str):
    model = shutil.copytree(chain.model, tmp_path / "model")
    tensors = load_file(model / name)
    last = max(n for n, t in tensors.items() if t.ndim > 1)
    tensors[last] = tensors[last] * torch.nan if kind == "nan" else tensors[last].to(torch.int64)
    save_file(tensors, model / name, {"format": "pt"})
    fault = "NaN or infinite" if kind == "nan" else "is stored in I64"
    with pytest.raises(WeightsError, match=fault) as error:
        Arm.from_pretrained(model, detokenizer="flux")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gpu", [True, False])
def test_decoders_stay_in_16_bits_where_a_gpu_may_run_them(
    chain: TinyChain, monkeypatch: pytest.MonkeyPatch, gpu: bool
):
    tokenizer = VisualTokenizer.load(chain.model, load_siglip(chain.model / "siglip").vision_model)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    for name in ("flux", "sana"):
        decoder: Any = load_detokenizer(chain.model, tokenizer, name)
        found = {p.dtype for p in decoder.painter.transformer.parameters()}
        assert found == {torch.float16 if gpu else torch.float32}


def test_shipped_models_are_complete_and_small():
    shipped = shipped_models()
    assert {"micro", "micro-sft"} <= shipped.keys()
    for directory in shipped.values():
        assert model_files(directory).is_complete
        assert not [path for path in directory.rglob("*") if path.is_symlink()]
        assert sum(p.stat().st_size for p in directory.rglob("*.safetensors")) < 40e6
