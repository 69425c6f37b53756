"""Runs by name: the public functions of `arm.configs`, or of any module that Python can import."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from arm.errors import ConfigError, did_you_mean

CONFIGS = "arm.configs"


def run_function(name: str) -> Callable[[], Any]:
    """The function that `module:function` names: of `arm.configs`, or of any other module that Python
    can import. Raises ConfigError with the nearest name where there is none.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        hint = did_you_mean(name, list_runs())
        raise ConfigError(f"'{name}' is no run; write module:function, as lm:micro.{hint}")
    module_name, function_name = name.split(":")
    module = _import(f"{CONFIGS}.{module_name}") or _import(module_name)
    if module is None:
        path = f" No module {module_name} on PYTHONPATH." if "." in module_name else ""
        raise _no_run(name, list_runs(), path)
    function = vars(module).get(function_name)
    if not _is_run(function):
        own = (f for f in vars(module).values() if _is_run(f) and f.__module__ == module.__name__)
        options = [f"{module_name}:{f.__name__}" for f in own]
        # A library may have the name that was typed in the place of one of ours.
        raise _no_run(name, options or list_runs())
    return cast(Callable[[], Any], function)


def list_runs() -> dict[str, str]:
    """Run name -> first line of its docstring, from the source of `arm.configs`: nothing is imported.

    A run is a public function without parameters and with a return annotation.
    """
    runs = {}
    package = importlib.import_module(CONFIGS)
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        spec = find_spec(f"{CONFIGS}.{module.name}")
        if spec is None or spec.origin is None:
            continue
        for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            if node.returns is not None and not ast.unparse(node.args):
                docstring = ast.get_docstring(node) or ""
                runs[f"{module.name}:{node.name}"] = docstring.partition("\n")[0]
    return runs


def _no_run(name: str, options: Iterable[str], why: str = "") -> ConfigError:
    hint = did_you_mean(name, options) or f" Runs: {', '.join(options) or 'none'}."
    return ConfigError(f"there is no run '{name}'.{why}{hint}")


def _is_run(value: Any) -> bool:
    public = inspect.isfunction(value) and not value.__name__.startswith("_")
    return public and not inspect.signature(value).parameters


def _import(name: str) -> ModuleType | None:
    """The module, or None where there is none of that name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise ConfigError(f"{name} cannot be imported: {error}; install what it needs") from error
