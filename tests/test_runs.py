"""Runs by name, each wrong name with the line a user reads."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import arm.configs
from arm.errors import ConfigError
from arm.runs import list_runs, run_function


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory whose modules count as modules of arm.configs, `drawing` among them."""
    (tmp_path / "drawing.py").write_text(
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
    assert run_function("arm.configs.drawing:small")().steps == 5


def test_list_runs(shipped: Path) -> None:
    runs = list_runs()
    assert {name: line for name, line in runs.items() if name.startswith("drawing:")} == {
        "drawing:small": "Draws a little.",
        "drawing:large": "",
    }
    assert "arm.configs.drawing" not in sys.modules
    assert set(runs) > {"drawing:small", "drawing:large"}


def test_every_shipped_run_has_a_first_line() -> None:
    assert list_runs()
    assert [name for name, line in list_runs().items() if not line] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drawing:smal", "there is no run 'drawing:smal'. Did you mean 'drawing:small'?"),
        ("drawng:small", "there is no run 'drawng:small'. Did you mean 'drawing:small'?"),
        ("drawing:qqqqqqqq", "'drawing:qqqqqqqq'. Runs: drawing:small, drawing:large"),
        ("drawing:replace", "there is no run 'drawing:replace'. "),
        ("drawing:sized", "there is no run 'drawing:sized'. "),
        ("drawing:_private", "there is no run 'drawing:_private'. "),
        ("drawing:Draw", "there is no run 'drawing:Draw'. "),
        ("drawing.small", "'drawing.small' is no run; write module:function"),
        ("drawing", "'drawing' is no run; write module:function"),
        (":small", "':small' is no run; write module:function"),
        ("", "'' is no run; write module:function"),
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


def test_a_run_module_that_lacks_a_package_says_so(shipped: Path) -> None:
    (shipped / "broken.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(
        ConfigError, match=r"arm\.configs\.broken cannot be imported: No module named 'a_pac"
    ):
        run_function("broken:small")
