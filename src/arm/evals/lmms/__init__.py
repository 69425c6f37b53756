"""lmms-eval's door to this package: it finds `arm` by the entry point group `lmms_eval.models`.

Every lmms-eval run reads this file, whatever its model, so nothing heavy is imported here.
"""

from importlib import import_module
from typing import Any


def manifest() -> Any:
    """What the entry point names: where lmms-eval (0.7 on) finds the model `arm`."""
    registry = import_module("lmms_eval.models.registry_v2")
    return registry.ModelManifest(model_id="arm", simple_class_path="arm.evals.lmms.model.ArmModel")
