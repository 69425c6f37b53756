"""Looks up runs by name: those of the table `arm.configs.RUNS`, of a Python file, or of an importable module."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from arm.errors import ConfigError, did_you_mean

CONFIGS = "arm.configs"


def run_function(name: str) -> Callable[[], Any]:
    """Returns the function that a run's name stands for.

    name: a name of the table, as `lm:micro_pt`; or FILE:FUNCTION with the path of a Python file, as
    `my/file.py:run`; or MODULE:FUNCTION with the dotted name of an importable module. Raises ConfigError
    with the nearest name where there is none.
    """
    place, _, function_name = name.rpartition(":")
    table: dict[str, str] = importlib.import_module(CONFIGS).RUNS
    if name in table:
        module_name, _, function_name = table[name].partition(":")
        module = _import(f"{CONFIGS}.{module_name}")
    elif place.endswith(".py") and function_name.isidentifier():
        module = _load_file(Path(place))
    elif re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        of_stage = [run for run in table if run.startswith(f"{place}:")]
        if of_stage:
            raise _no_run(name, of_stage)
        module = _import(place)
    else:
        hint = did_you_mean(name, table)
        raise ConfigError(
            f"'{name}' is no run; write MODULE:FUNCTION, as lm:micro, or FILE.py:FUNCTION.{hint}"
        )
    if module is None:
        path = f" No module {place} on PYTHONPATH." if "." in place else ""
        raise _no_run(name, table, path)
    function = vars(module).get(function_name)
    if not _is_run(function):
        own = (f for f in vars(module).values() if _is_run(f) and f.__module__ == module.__name__)
        options = [f"{place}:{f.__name__}" for f in own]
        # An unrelated library may have the name that was mistyped.
        raise _no_run(name, options or table)
    return cast(Callable[[], Any], function)


def list_runs() -> dict[str, str]:
    """The first line of each run's docstring by the run's name, in the order of the table. Reads the source of
    `arm.configs` and imports no recipe.
    """
    package = importlib.import_module(CONFIGS)
    docstrings: dict[str, str] = {}
    for folder in package.__path__:
        for path in Path(folder).glob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef):
                    docstring = ast.get_docstring(node) or ""
                    docstrings[f"{path.stem}:{node.name}"] = docstring.partition("\n")[0]
    return {name: docstrings.get(function, "") for name, function in package.RUNS.items()}


def _no_run(name: str, options: Iterable[str], why: str = "") -> ConfigError:
    hint = did_you_mean(name, options) or f" Runs: {', '.join(options) or 'none'}."
    return ConfigError(f"there is no run '{name}'.{why}{hint}")


def _is_run(value: Any) -> bool:
    """Whether a value can be called as a run: a public function without parameters."""
    public = inspect.isfunction(value) and not value.__name__.startswith("_")
    return public and not inspect.signature(value).parameters


def _import(name: str) -> ModuleType | None:
    """The module of this name, or None where there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise ConfigError(f"{name} cannot be imported: {error}; install what it needs") from error


def _load_file(path: Path) -> ModuleType:
    """Imports a Python file. It may import modules that lie beside it. Raises ConfigError where it cannot be
    imported.
    """
    path = path.absolute()
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; write FILE.py:FUNCTION")
    # The name is the same in all processes, and different for files of one name in two folders.
    name = f"arm_run_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's own code raises
        del sys.modules[name]
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module
