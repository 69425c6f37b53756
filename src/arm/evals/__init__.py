"""Evaluation: published benchmarks, the world's own benchmarks, and what makes their reports.

`run_benchmark` runs a published benchmark; the other functions are imported from their modules.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arm.evals.run import BenchmarkSettings, Outcome, run_benchmark

__all__ = ["BenchmarkSettings", "Outcome", "lmms_eval_manifest", "run_benchmark"]


def __getattr__(name: str) -> Any:
    """The entries of `arm.evals.run`, imported at first use, since they import torch."""
    if name in ("BenchmarkSettings", "Outcome", "run_benchmark"):
        return getattr(import_module("arm.evals.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def lmms_eval_manifest() -> Any:
    """Where lmms-eval (0.7 or later) finds the model `arm`: the entry point of its plug-ins.

    Every run of lmms-eval calls it, whatever its model, so it imports nothing heavy.
    """
    registry = import_module("lmms_eval.models.registry_v2")
    return registry.ModelManifest(model_id="arm", simple_class_path="arm.evals.harnesses.LmmsModel")
