"""What may import what, how long a file may be, and what an import may cost."""

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = sorted((SOURCE / "arm").rglob("*.py"))
LAYERS = (
    ("errors",),
    ("files",),
    ("vocab",),
    ("sequence",),
    ("runs",),
    ("config",),
    ("models", "losses", "sampling"),
    ("data", "generate", "judge"),
    ("domain",),
    ("model_directory",),
    ("pipeline",),
    ("evals", "hf"),
    ("train", "serve", "rl"),
    ("plan", "bench"),
    ("world", "icons"),
    ("configs", "cli", "demo"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
LEVEL["__main__"] = LEVEL["cli"]
FORBIDDEN = {("data", "models")}
"""Pairs that may not import whatever their layers: data is read without a model."""


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, those inside functions too, but for the bodies of `if TYPE_CHECKING`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from runtime_nodes(other)
        else:
            yield from runtime_nodes(child)


def imported_parts(source: str, package: tuple[str, ...]) -> set[str]:
    """The direct children of `arm` that a file imports: {"models", "vocab"}.

    `package` is the package the file is in, for relative imports. What `arm` itself offers
    counts as where it comes from: `from arm import Arm` is an import of `pipeline`.
    """
    names = set()
    for node in runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" if base == "arm" else base for alias in node.names}
    parts = {name.split(".")[1] for name in names if name.startswith("arm.")}
    return {"pipeline" if part == "Arm" else part for part in parts} - {"__version__"}


def faults(importer: str, source: str, package: tuple[str, ...] = ("arm",)) -> list[str]:
    if importer not in LEVEL:
        return [f"{importer} has no layer"]
    return [
        f"{importer} imports {part}"
        for part in sorted(imported_parts(source, package))
        if part not in LEVEL or LEVEL[part] > LEVEL[importer] or (importer, part) in FORBIDDEN
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_go_down_only(file: Path) -> None:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    if parts == ("arm", "__init__"):
        assert imported_parts(file.read_text(encoding="utf-8"), ("arm",)) <= {"pipeline"}
    else:
        assert faults(parts[1], file.read_text(encoding="utf-8"), parts[:-1]) == []


@pytest.mark.parametrize(
    ("importer", "source", "expected"),
    [
        ("models", "from arm.vocab import Vocab\nimport torch\nimport arm.losses", []),
        ("models", "from arm.models import flow\nfrom arm.losses import x", []),
        ("models", "from arm.world.scene import Scene", ["models imports world"]),
        ("models", "def f():\n    import arm.train.lm", ["models imports train"]),
        ("vocab", "from arm import sequence", ["vocab imports sequence"]),
        ("data", "from arm import Arm, __version__", ["data imports pipeline"]),
        ("vocab", "from .sequence import Sample", ["vocab imports sequence"]),
        ("vocab", "from . import errors, cli", ["vocab imports cli"]),
        ("data", "from arm.models.qwen2 import Qwen2", ["data imports models"]),
        ("world", "from arm.models.qwen2 import Qwen2", []),
        ("models", "if TYPE_CHECKING:\n    from arm.pipeline import Arm", []),
        (
            "models",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import arm.cli",
            ["models imports cli"],
        ),
        (
            "vocab",
            "try:\n    import arm.nothing\nexcept ImportError: pass",
            ["vocab imports nothing"],
        ),
        ("nothing", "", ["nothing has no layer"]),
        ("vocab", "import armour.cli", []),
    ],
)
def test_the_rule_sees(importer: str, source: str, expected: list[str]) -> None:
    assert faults(importer, source) == expected


def test_relative_imports_start_at_the_package() -> None:
    assert imported_parts("from ..train import lm", ("arm", "models")) == {"train"}
    assert imported_parts("from .flow import path", ("arm", "models")) == {"models"}


def test_files_are_short() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {str(f.relative_to(SOURCE)): n for f, n in lengths.items() if n > 400} == {}


def test_torchvision_is_absent() -> None:
    """Its PyPI build breaks transformers on a CPU build of torch."""
    assert importlib.util.find_spec("torchvision") is None


@pytest.mark.parametrize("module", ["arm", "arm.errors", "arm.config", "arm.cli"])
def test_imports_are_light(module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import sys, {module}; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert module in result.stdout.split()
    assert {"torch", "transformers", "diffusers"} & set(result.stdout.split()) == set()


def test_lazy_attributes() -> None:
    import arm

    assert arm.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="module 'arm' has no attribute 'Amr'"):
        _ = arm.Amr
