"""Model directories: found, read, and those that share the parts of another."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.errors import WeightsError
from arm.model_directory import (
    find_model,
    load_defaults,
    load_detokenizer,
    parts_of,
    shipped_models,
)
from arm.models.pretrained import load_siglip
from arm.models.tokenizer import VisualTokenizer
from arm.pipeline import Arm
from arm.train.export import with_backbone
from conftest import TinyChain


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
    with_backbone(chain.model, chain.model / "backbone", tmp_path / "model")
    data = json.loads((tmp_path / "model/arm.json").read_text())
    (tmp_path / "model/arm.json").write_text(json.dumps({**data, **changes}))
    with pytest.raises(WeightsError, match=fault):
        Arm.from_pretrained(tmp_path / "model")


def test_missing_parts_are_named(chain: TinyChain, tmp_path: Path):
    model = tmp_path / "model"
    with_backbone(chain.model, chain.model / "backbone", model)
    data = json.loads((model / "arm.json").read_text())
    (model / "arm.json").write_text(json.dumps({**data, "parts": "mikro"}))
    with pytest.raises(WeightsError, match="there is no model 'mikro'"):
        parts_of(model)
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other/arm.json").write_text(json.dumps({**data, "parts": str(model)}))
    (model / "arm.json").write_text(json.dumps(data))
    with pytest.raises(WeightsError, match="shares the parts of another model"):
        parts_of(tmp_path / "other")


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


def test_shipped_models_share_what_they_can():
    shipped = shipped_models()
    assert {"micro", "micro-sft"} <= shipped.keys()
    assert load_defaults(shipped["micro"]).parts == "micro-sft"
    assert parts_of(shipped["micro"]) == shipped["micro-sft"]
