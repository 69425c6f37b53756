"""Runs by name, each wrong name with the line a user reads."""

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import arm.configs
from arm.config import load_run
from arm.errors import ConfigError
from arm.runs import list_runs, run_function


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory whose modules count as modules of arm.configs; the table names runs of its `sketch`."""
    (tmp_path / "sketch.py").write_text(
        '''"""Runs."""
from dataclasses import dataclass, replace

@dataclass(frozen=True)
class Draw:
    steps: int = 5

def small() -> Draw:
    """Draws a little.

    More words.
    """
    return Draw()

def large() -> Draw:
    return replace(small(), steps=50)

def sized(steps: int) -> Draw:
    return Draw(steps)

def keyword(*, steps: int = 1) -> Draw:
    return Draw(steps)

def unannotated():
    return Draw()

def _private() -> Draw:
    return Draw()
'''
    )
    monkeypatch.setattr(arm.configs, "__path__", [*arm.configs.__path__, str(tmp_path)])
    for name in ("small", "large", "sized", "missing"):
        monkeypatch.setitem(arm.configs.RUNS, f"drawing:{name}", f"sketch:{name}")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("arm.configs.")]:
        if str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
            delattr(arm.configs, name.rpartition(".")[2])


@pytest.fixture
def lab(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """`lab.runs`, a module of runs outside the package."""
    root = tmp_path_factory.mktemp("outside")
    (root / "lab").mkdir()
    (root / "lab/__init__.py").write_text("")
    (root / "lab/runs.py").write_text(
        "def micro(): return 1\ndef micro_large(): return 2\ndef needs(size): return size\n"
    )
    (root / "labruns.py").write_text("def mine(): return 3\n")
    monkeypatch.syspath_prepend(root)
    yield
    for name in ("lab", "lab.runs", "labruns"):
        sys.modules.pop(name, None)


def test_a_module_outside_the_package(lab: None) -> None:
    assert run_function("lab.runs:micro")() == 1
    assert run_function("labruns:mine")() == 3


def test_a_module_of_the_package(shipped: Path) -> None:
    config = run_function("drawing:small")()
    assert type(config).__name__ == "Draw" and config.steps == 5
    assert run_function("drawing:large")().steps == 50
    assert run_function("arm.configs.sketch:small")().steps == 5


def test_list_runs(shipped: Path) -> None:
    runs = list_runs()
    assert {name: line for name, line in runs.items() if name.startswith("drawing:")} == {
        "drawing:small": "Draws a little.",
        "drawing:large": "",
        "drawing:sized": "",
        "drawing:missing": "",
    }
    assert "arm.configs.sketch" not in sys.modules
    assert set(runs) > {"drawing:small", "lm:micro_pt"}


def test_every_shipped_run_has_a_first_line() -> None:
    assert list_runs()
    assert [name for name, line in list_runs().items() if not line] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drawing:smal", "there is no run 'drawing:smal'. Did you mean 'drawing:small'?"),
        ("drawng:small", "there is no run 'drawng:small'. Did you mean 'drawing:small'?"),
        ("drawing:qqqqqqqq", "'drawing:qqqqqqqq'. Runs: drawing:small, drawing:large"),
        ("drawing:sized", "there is no run 'drawing:sized'. "),
        ("drawing:missing", "there is no run 'drawing:missing'. "),
        ("arm.configs.sketch:replace", "there is no run 'arm.configs.sketch:replace'. "),
        ("arm.configs.sketch:_private", "there is no run 'arm.configs.sketch:_private'. "),
        ("arm.configs.sketch:Draw", "there is no run 'arm.configs.sketch:Draw'. "),
        ("drawing.small", "'drawing.small' is no run; write MODULE:FUNCTION"),
        ("drawing", "'drawing' is no run; write MODULE:FUNCTION"),
        (":small", "':small' is no run; write MODULE:FUNCTION"),
        ("", "'' is no run; write MODULE:FUNCTION"),
        ("lab.runs:micr", "there is no run 'lab.runs:micr'. Did you mean 'lab.runs:micro'?"),
        ("labruns:mien", "there is no run 'labruns:mien'. Did you mean 'labruns:mine'?"),
        ("tokenizers:micro", "there is no run 'tokenizers:micro'. Did you mean 'tokenizer:micro'?"),
        ("lab.runs:needs", "there is no run 'lab.runs:needs'. "),
        (
            "lab.walks:micro",
            "there is no run 'lab.walks:micro'. No module lab.walks on PYTHONPATH.",
        ),
    ],
)
def test_wrong_names(shipped: Path, lab: None, name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_function(name)
    assert expected in str(caught.value)


def test_a_run_module_that_lacks_a_package_says_so(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shipped / "broken.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.setitem(arm.configs.RUNS, "drawing:broken", "broken:small")
    with pytest.raises(
        ConfigError, match=r"arm\.configs\.broken cannot be imported: No module named 'a_pac"
    ):
        run_function("drawing:broken")


def test_every_run_of_the_table_exists() -> None:
    for name in arm.configs.RUNS:
        assert is_dataclass(run_function(name)()), name


RUN_FILE = """from dataclasses import dataclass
from beside import STEPS

@dataclass(frozen=True)
class Mine:
    steps: int = STEPS

def run() -> Mine:
    return Mine()
"""


def test_a_run_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path, absolute or relative; the file may import its neighbours."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside.py").write_text("STEPS = 7\n")
    (tmp_path / "file.py").write_text(RUN_FILE)
    assert load_run(f"{tmp_path}/file.py:run").steps == 7
    monkeypatch.chdir(tmp_path)
    assert load_run("file.py:run", ["steps=9"]).steps == 9
    for name in [name for name in sys.modules if name.startswith("arm_run_") or name == "beside"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "function", "expected"),
    [
        (None, "run", r"there is no file .*/file\.py; write FILE\.py:FUNCTION"),
        (
            "def run(): return 1\n",
            "rum",
            r"there is no run '.*/file\.py:rum'\. Did you mean '.*:run'",
        ),
        ("def run(:\n", "run", r"file\.py cannot be imported: SyntaxError: "),
        ("import nowhere_at_all\n", "run", r"cannot be imported: ModuleNotFoundError: No module"),
        ("1 / 0\n", "run", r"cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_without_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, function: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    if text is not None:
        (tmp_path / "file.py").write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        run_function(f"{tmp_path}/file.py:{function}")
    assert "\n" not in str(caught.value)
