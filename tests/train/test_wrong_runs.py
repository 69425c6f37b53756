"""Fields that no run could have are refused with one line before anything is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest

from arm.config import load_run
from arm.errors import ConfigError
from arm.train import chain


@pytest.mark.parametrize(
    ("run", "override", "fault"),
    [
        ("grpo:micro_t2i", "objective.mini_batches=0", "mini_batches and update must be"),
        ("grpo:micro_t2i", "objective.update=0", "mini_batches and update must be"),
        ("grpo:micro_t2i", "anchors.null_share=2", "null_share must be from 0 to 1"),
        ("tokenizer:micro", "grids=[[0,7]]", "at least one row and one column"),
        ("tokenizer:micro", "grids=[]", "one of grids have a weight"),
        ("tokenizer:micro", "batch=0", "batch must be at least 1"),
        (
            "tokenizer:micro",
            "model.num_heads=5",
            "width 128 is no multiple of four times num_heads 5",
        ),
        ("detokenizer:micro_flux", "grids=[[7,7,0]]", "one of grids have a weight"),
    ],
)
def test_fields_that_no_run_could_have(run: str, override: str, fault: str):
    with pytest.raises(ConfigError, match=fault):
        load_run(run, [override])


@pytest.mark.parametrize("run", ["tokenizer:micro", "export:micro", "encode:micro", "lm:micro_pt"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, run: str):
    (tmp_path / "file").write_text("")
    config = replace(load_run(run), out=tmp_path / "file/model")
    with pytest.raises(ConfigError, match="file is a file; name another `out`"):
        chain.start(config)
