"""Scores over temperature and guidance, from which a model's default sampling is chosen.

They are measured on training combinations, so that a default picked from this table is not picked on the
benchmark that it is then scored by.
"""

from typing import Any

from arm.domain import TaskDomain
from arm.evals.painting import canvas_of
from arm.evals.tasks import EvalSize, Progress, SamplingSetting, drawing_and_editing
from arm.generate import Guidance
from arm.pipeline import Arm
from arm.sampling import Sampling

TEMPERATURES = (0.0, 0.3, 0.6)
GUIDANCES = (Guidance(1.0, 1.0), Guidance(1.5, 1.0), Guidance(2.25, 1.0))


def sweep(
    arm: Arm, domain: TaskDomain, size: EvalSize, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Drawing (0 to 1) and editing (0 to 10) scores of every temperature and guidance, by name."""
    tasks = (
        domain.prompts("train", size.prompts_per_tag, size.seed),
        domain.edits("train", size.edits_per_kind, size.seed, canvas_of(arm)),
    )
    result: dict[str, Any] = {}
    for temperature in TEMPERATURES:
        for guidance in GUIDANCES:
            name = f"t{temperature:g} text {guidance.text:g} image {guidance.image:g}"
            progress(name)
            sampling = Sampling(temperature)
            setting = SamplingSetting(name, sampling, sampling, guidance)
            result[name] = drawing_and_editing(arm, domain, tasks, 1, (setting, setting), size.seed)
    return result
