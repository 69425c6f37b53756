"""The documentation: its numbers, commands, examples, paths and links."""

import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml
from PIL import Image
from typer.testing import CliRunner

from arm.cli import app
from arm.config import load_run
from arm.configs import experiments
from arm.evals import synergy as synergy_table
from arm.evals.benchmarks import BENCHMARKS
from arm.model_directory import shipped_models
from arm.rl import synergy
from arm.rl.rewards import Attempt

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EVERY = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
OWN_BENCHMARKS = {"world", "decoders", "sweep", "guidance", "tokenizer", "list"}
"""What `arm eval` scores beside the published benchmarks."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch):
    """The script that fills in generated tables."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield importlib.import_module("tables")
    sys.modules.pop("tables")


# Sizes


def test_the_readme_is_one_page():
    text = text_of(ROOT / "README.md")
    assert len(text.splitlines()) <= 150 and len(text.encode()) <= 10_000
    assert max(map(len, text.splitlines())) <= 120


def test_weights_are_small_enough():
    for name, directory in shipped_models().items():
        size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
        assert size < 40e6, name


# Numbers


def test_generated_tables_and_numbers_are_those_of_the_files_of_scores(tables):
    documents = list(tables.documents())
    assert len(documents) > len(tables.BLOCKS)
    for path in documents:
        assert tables.refreshed(name_of(path), text_of(path)) == text_of(path), (
            f"{name_of(path)} is not up to date: run make docs-tables"
        )


def test_a_changed_score_changes_the_text(tables, tmp_path: Path):
    score = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    source = tmp_path / "scores.json"
    source.write_text(json.dumps({"a": {"b": score}, "c": 0.125}))
    tables.SOURCES["tried"] = source
    text = "<!-- v tried a/b .2f interval -->?<!-- /v -->, <!-- v tried c .3f -->?<!-- /v -->"
    assert tables.refreshed("docs/index.md", text) == (
        "<!-- v tried a/b .2f interval -->0.50 (0.25 to 0.75)<!-- /v -->, "
        "<!-- v tried c .3f -->0.125<!-- /v -->"
    )
    with pytest.raises(KeyError, match=r"docs/results\.md has no block <!-- scores -->"):
        tables.refreshed("docs/results.md", text)


def test_the_synergy_table_comes_from_every_single_score(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synergy, "trained", None)  # all scores are there
    table = synergy.tables(replace(experiments.synergy(), out=DOCS / "synergy"))
    kept = json.loads(text_of(DOCS / "synergy/synergy.json"))
    assert synergy_table.markdown(table) == synergy_table.markdown(kept)
    assert table["best"] == kept["best"] and table["means"].keys() == kept["means"].keys()


# Commands


def command_lines(text: str) -> Iterator[str]:
    """The commands of the shell blocks, without comments."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            yield from (part.strip() for part in line.split("#")[0].split("&&") if part.strip())


def arm_commands() -> list[tuple[str, str]]:
    """(page, command) of every `arm ...` of the shell blocks, and of the spans that name a run."""
    commands = []
    for path in EVERY:
        for line in command_lines(text_of(path)):
            if found := re.search(r"(?:^|\s|/|-m )(arm (?:\w.*))$", line):
                commands.append((name_of(path), found[1]))
        for span in re.findall(r"`(arm [^`\n]+)`", text_of(path)):
            if span.startswith("arm train") and not re.search(r"[A-Z]{2}", span):
                commands.append((name_of(path), span))
    return sorted(set(commands))


def command_of(words: list[str]) -> Any:
    """The command line's object for what the words name. What is no command of `arm eval` is a benchmark."""
    command: Any = typer.main.get_command(app)
    rest = iter(words)
    while hasattr(command, "commands"):
        name = next(rest)
        command = command.commands[name if name in command.commands else "benchmark"]
    return command


def test_commands_are_found_in_the_pages():
    """The tests below read something."""
    commands = {command for _, command in arm_commands()}
    assert {"arm train chain:micro", "arm eval guidance --model micro"} <= commands
    assert len(commands) > 30


@pytest.mark.parametrize(("page", "command"), arm_commands())
def test_documented_commands_exist(page: str, command: str):
    words = shlex.split(command)[1:]
    if words[0] == "train" and words[1].startswith("my_runs.py:"):
        pytest.skip("the file of docs/extending.md has a test of its own")
    parameters = command_of(words).params
    options = {name for p in parameters for name in (*p.opts, *p.secondary_opts)}
    unknown = [w for w in words if w.startswith("-") and w.split("=")[0] not in options]
    assert not unknown, f"{page}: {command}"
    if words[0] in ("train", "plan") and words[1] != "list":
        overrides = [word for word in words[2:] if re.match(r"[\w.]+=", word)]
        load_run(words[1], overrides)
    if words[0] == "eval" and words[1] not in ("compare", "plot"):
        assert words[1] in OWN_BENCHMARKS | BENCHMARKS.keys(), f"{page}: {command}"


def test_documented_runs_exist():
    """Runs in backticks, as `tokenizer:micro`, load."""
    runs = {run for path in EVERY for run in re.findall(r"`([a-z]\w*:[a-z]\w*)`", text_of(path))}
    assert {"lm:arm7b_pt", "tokenizer:micro"} <= runs
    for run in sorted(runs):
        load_run(run, [])


# Examples


def python_example(page: str) -> str:
    code = re.search(r"```python\n(.*?)```", text_of(ROOT / page), re.DOTALL)
    assert code
    return code[1]


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The README's, and then what the quickstart has beyond it."""
    monkeypatch.chdir(tmp_path)
    short, long = python_example("README.md"), python_example("docs/index.md")
    names: dict[str, Any] = {}
    exec(compile(short, "README.md", "exec"), names)
    assert {"star.png", "green.png", "decoded.png"} <= {f.name for f in tmp_path.iterdir()}
    assert set(short.splitlines()) <= set(long.splitlines())
    more = [line for line in long.splitlines() if line not in short.splitlines()]
    assert len(more) == 2
    exec(compile("\n".join(more), "docs/index.md", "exec"), names)


def test_the_hugging_face_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = re.search(r"```py\n(.*?)```", text_of(DOCS / "hugging-face.md"), re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    exported = CliRunner().invoke(app, ["export", "hf", "--model", "micro", "--out", "micro-hf"])
    assert exported.exit_code == 0, exported.output
    exec(compile(code[1], "docs/hugging-face.md", "exec"), {})
    with Image.open("star.png") as star:
        assert star.size == (56, 56)


def test_the_example_of_a_run_and_a_reward_works(tmp_path: Path):
    file = tmp_path / "my_runs.py"
    file.write_text(python_example("docs/extending.md"))
    run = load_run(f"{file}:bright", ["loop.steps=20"])
    assert run.loop.steps == 20 and run.out == Path("runs/bright")
    grey = Attempt("a grey picture", np.full((8, 8, 3), 51, np.uint8))
    assert run.drawing.reward([grey]) == [{"brightness": 0.2}]


# Paths and links


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub both make them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", t).strip().lower()) for t in titles}


def links() -> list[tuple[str, str]]:
    return sorted(
        (name_of(path), target)
        for path in [*EVERY, ROOT / "src/arm/weights/micro/README.md"]
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(path))
    )


@pytest.mark.parametrize(("page", "target"), links())
def test_links_lead_somewhere(page: str, target: str):
    path, _, anchor = target.partition("#")
    goal = (ROOT / page).parent / path if path else ROOT / page
    assert goal.exists()
    if anchor:
        assert anchor in anchors(text_of(goal))


def test_files_in_backticks_exist():
    for path in EVERY:
        for name in re.findall(r"`((?:src|docs|tests)/[\w./-]+)`", text_of(path)):
            assert (ROOT / name).exists(), f"{name_of(path)} names {name}"


def test_names_in_backticks_are_in_their_files():
    """`NAME` in `FILE`, `NAME` of `FILE`."""
    named = [
        (name_of(path), name, file)
        for path in EVERY
        for name, file in re.findall(r"`(\w+)` (?:in|of) `(src/arm/[\w/]+\.py)`", text_of(path))
    ]
    assert len(named) >= 8
    for page, name, file in named:
        defined = re.search(rf"^(?:def |class )?{name}\b", text_of(ROOT / file), re.MULTILINE)
        assert defined, f"{page}: {file} has no {name}"


def test_every_page_is_in_the_navigation():
    def pages(entry) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for child in entry.values() if isinstance(entry, dict) else entry:
            if not isinstance(entry, str):
                yield from pages(child)

    navigation = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))["nav"]
    assert sorted(pages(navigation)) == sorted(p.relative_to(DOCS).as_posix() for p in PAGES)


def test_the_citation_is_complete():
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    from arm import __version__

    assert citation["version"] == __version__ and f"({__version__})" in text_of(
        ROOT / "CHANGELOG.md"
    )
