"""`arm bench`, as typed, at the smallest sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from arm.cli.bench import bench_app
from arm.errors import InputError
from conftest import TinyChain

TINY = (
    "backbone.hidden_size=32", "backbone.intermediate_size=64", "backbone.num_heads=4",
    "backbone.num_kv_heads=2", "backbone.text_size=60", "code_bits=6", "max_side=6",
)  # fmt: skip


def run(*words: str | Path, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    out = tmp_path / "bench.json"
    arguments = [*map(str, words), "--repeats", "2", "--json", str(out)]
    result = CliRunner().invoke(bench_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output, json.loads(out.read_text(encoding="utf-8"))


def test_train(tmp_path: Path):
    sizes = ("--layers", "1", "--tokens", "32,64", "--document-tokens", "32", "--matrix", "16")
    loop = ("loop.parallel.shard=false", "loop.parallel.bf16=false", "loop.parallel.replicas=1")
    output, found = run("train", "lm:arm7b_pt", *TINY, *loop, *sizes, tmp_path=tmp_path)
    assert found["subject"] == "train lm:arm7b_pt" and found["machine"]["cores"] >= 1
    assert len(found["tables"]) == 2
    for table in found["tables"]:
        names = [row["name"] for row in table["rows"]]
        assert names[:2] == ["as the run is", "attention=mask"] and len(names) >= 5
        assert all(row["share_of_products"]["median"] > 0 for row in table["rows"])
        assert all(len(row["rounds"]) == 2 for row in table["rows"])
    assert "share of products" in output and "recompute=selective" in output


def test_generate(chain: TinyChain, tmp_path: Path):
    model = ("--model", chain.model, "--batch", "1", "--samples", "2", "--no-peer")
    _, found = run("generate", *model, tmp_path=tmp_path)
    assert [len(table["rows"]) for table in found["tables"]] == [3, 3]
    assert all("ratio_to_first" in row for table in found["tables"] for row in table["rows"])


def test_pictures(chain: TinyChain, tmp_path: Path):
    _, found = run("pictures", "--model", chain.model, "--batch", "1,2", tmp_path=tmp_path)
    assert [table["unit"] for table in found["tables"]] == ["pictures"] * 4
    assert all(row["pictures_a_second"] > 0 for t in found["tables"] for row in t["rows"])


def test_mistakes(tmp_path: Path):
    with pytest.raises(InputError, match="is no run of a language model"):
        run("train", "tokenizer:micro", tmp_path=tmp_path)
    with pytest.raises(InputError, match="--tokens '4k' is no list of numbers above 0"):
        run("train", "lm:micro_pt", "--tokens", "4k", tmp_path=tmp_path)
    with pytest.raises(InputError, match="--batch '0' is no list"):
        run("pictures", "--batch", "0", tmp_path=tmp_path)
