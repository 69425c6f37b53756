"""Model directories that share their parts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.errors import WeightsError
from arm.pipeline import Arm, load_defaults, parts_of, shipped_models
from arm.train.export import with_backbone
from conftest import TinyChain

GREY = Image.fromarray(np.full((56, 56, 3), 90, dtype=np.uint8))


def test_another_backbone_shares_the_parts(chain: TinyChain, tmp_path: Path):
    with_backbone(chain.model, chain.model / "backbone", tmp_path / "one")
    with_backbone(tmp_path / "one", tmp_path / "one/backbone", tmp_path / "two")
    whole, shared = Arm.from_pretrained(chain.model), Arm.from_pretrained(tmp_path / "two")
    assert not (tmp_path / "two/siglip").exists()
    assert parts_of(tmp_path / "two") == shared.directory == chain.model
    assert np.array_equal(whole.encode(GREY), shared.encode(GREY))
    assert whole.ask(GREY, "how many stars are there ?") == shared.ask(
        GREY, "how many stars are there ?"
    )


def test_missing_parts_are_named(chain: TinyChain, tmp_path: Path):
    model = tmp_path / "model"
    with_backbone(chain.model, chain.model / "backbone", model)
    data = json.loads((model / "arm.json").read_text())
    (model / "arm.json").write_text(json.dumps({**data, "parts": "mikro"}))
    with pytest.raises(WeightsError, match="there is no model 'mikro'"):
        Arm.from_pretrained(model)
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other/arm.json").write_text(json.dumps({**data, "parts": str(model)}))
    (model / "arm.json").write_text(json.dumps(data))
    with pytest.raises(WeightsError, match="shares the parts of another model"):
        Arm.from_pretrained(tmp_path / "other")


def test_shipped_models_share_what_they_can():
    shipped = shipped_models()
    assert {"micro", "micro-sft"} <= shipped.keys()
    assert load_defaults(shipped["micro"]).parts == "micro-sft"
    assert parts_of(shipped["micro"]) == shipped["micro-sft"]
