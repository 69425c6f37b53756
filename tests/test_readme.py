"""The README's figures are those of the scores that ship with the weights."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from arm.configs import synergy as configs
from arm.evals.report import (
    DECODER_COLUMNS,
    LOSS_COLUMNS,
    decoder_rows,
    markdown,
    markdown_grid,
)
from arm.evals.synergy import markdown as synergy_markdown
from arm.model_directory import shipped_models
from arm.rl import synergy

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found, f"no block '{name}'"
    return found.group(1).strip()


def test_scores_are_those_of_the_shipped_file():
    scores = json.loads((shipped_models()["micro"] / "scores.json").read_text())
    assert _block(README, "scores") == markdown(scores)
    card = (shipped_models()["micro"] / "README.md").read_text(encoding="utf-8")
    assert _block(card, "scores") == markdown(scores)


def test_tables_are_those_of_the_shipped_files():
    shipped = shipped_models()["micro-sft"]
    losses = json.loads((shipped / "losses.json").read_text())
    assert _block(README, "losses") == markdown_grid(losses, LOSS_COLUMNS, "losses")
    decoders = decoder_rows(json.loads((shipped / "decoders.json").read_text()))
    assert _block(README, "decoders") == markdown_grid(decoders, DECODER_COLUMNS, "decoder")


def test_the_table_of_reinforcement_learning_comes_from_every_single_score(
    monkeypatch: pytest.MonkeyPatch,
):
    run = configs.micro()
    monkeypatch.setattr(synergy, "trained", None)  # all scores are there
    table = synergy.tables(replace(run, out=ROOT / "docs/synergy"))
    assert _block(README, run.table) == synergy_markdown(table)


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(path: str):
    assert (ROOT / path).exists(), path


def test_every_source_file_stands_in_the_tree():
    tree = README[README.index("## Where things are") :]
    for file in (ROOT / "src/arm").rglob("*.py"):
        if file.name != "__init__.py":
            assert file.name in tree, file


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    exec(compile(code.group(1), "README.md", "exec"), {})
    assert (tmp_path / "star.png").is_file() and (tmp_path / "green.png").is_file()


def test_weights_are_small_enough():
    for name, directory in shipped_models().items():
        size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
        assert size < 40e6, name
