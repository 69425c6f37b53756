"""Averaged weights, worked by hand, and models that cannot be averaged."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arm.errors import ConfigError
from arm.models.backbone import load_backbone, save_backbone
from arm.pipeline import Arm
from arm.train.export import replace_backbone
from arm.train.merge import MergeRun, main
from conftest import TinyChain
from tiny import build


def moved(source: Path, out: Path, by: float) -> str:
    """The model with every weight moved by so much."""
    model, vocab = load_backbone(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)
    save_backbone(model, vocab, out / "backbone")
    replace_backbone(source, out / "backbone", out / "model")
    return str(out / "model")


def test_weights_move_by_the_weighted_sum(chain: TinyChain, tmp_path: Path):
    models = (moved(chain.model, tmp_path / "a", 0.5), moved(chain.model, tmp_path / "b", -0.25))
    main(MergeRun(tmp_path / "out", str(chain.model), models, (0.5, 2.0)))
    start, _ = load_backbone(chain.model)
    merged = Arm.from_pretrained(tmp_path / "out/model")
    for (name, before), after in zip(
        start.named_parameters(), merged.model.parameters(), strict=True
    ):
        # 0.5 * 0.5 - 2 * 0.25, in 16 bits
        assert torch.allclose(after, before - 0.25, atol=2e-3), name


def test_other_shapes_are_refused(chain: TinyChain, tmp_path: Path):
    model, vocab = load_backbone(chain.model)
    narrow = replace(model.config, intermediate_size=model.config.intermediate_size + 8)
    save_backbone(build(narrow), vocab, tmp_path / "other/backbone")
    replace_backbone(chain.model, tmp_path / "other/backbone", tmp_path / "other/model")
    run = MergeRun(tmp_path / "out", str(chain.model), (str(tmp_path / "other/model"),), (1.0,))
    with pytest.raises(ConfigError, match="their shapes differ"):
        main(run)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weights", [(), (0.5,)])
def test_each_model_needs_a_weight(tmp_path: Path, weights: tuple[float, ...]):
    with pytest.raises(ValueError, match="a weight for each"):
        MergeRun(tmp_path, "micro-sft", ("a", "b"), weights)
