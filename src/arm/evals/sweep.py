"""Scores over temperature and guidance, on training combinations: how default sampling is chosen.

Held-out combinations stay unseen here too, so a default picked from this table is not picked on the
benchmark that it is then scored by.
"""

from collections.abc import Callable
from typing import Any

from arm.evals import world
from arm.evals.statistics import mean_of_groups
from arm.generate import Guidance
from arm.pipeline import Arm
from arm.sampling import Sampling

TEMPERATURES = (0.0, 0.3, 0.6)
GUIDANCES = (Guidance(1.0, 1.0), Guidance(1.5, 1.0), Guidance(2.25, 1.0))


def sweep(
    arm: Arm, size: world.Size, report: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Drawing and editing scores for every temperature and guidance."""
    prompts = world.geneval_prompts(size, held_out=False)
    edits = world.sampled_edits(arm, size, held_out=False)
    result: dict[str, Any] = {}
    for temperature in TEMPERATURES:
        for guidance in GUIDANCES:
            name = f"t{temperature:g} text {guidance.text:g} image {guidance.image:g}"
            report(name)
            sampling = Sampling(temperature)
            setting = world.Setting(name, sampling, sampling, guidance)
            right = world.draw_and_check(arm, prompts, 1, setting, size.seed)
            edited = world.edit_and_score(arm, edits, setting, size.seed)
            overall = {kind: [score.overall for score in scores] for kind, scores in edited.items()}
            result[name] = {
                "geneval": mean_of_groups(right).to_dict(),
                "gedit": mean_of_groups(overall).to_dict(),
            }
    return result
