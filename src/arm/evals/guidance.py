"""Drawing and editing scores over settings of guidance and sampling.

`measure` is the paper's guidance figure in small (its Fig. 4): scores over the text scale. The codes are
condition enough for the decoder, so guidance of the language model can be weakened or left out; the figure
shows what that costs. Scores are on held-out combinations. The sheet has a row for each prompt or edit and
a column for each scale; a green frame marks a picture that the domain's referee accepts.

`sweep` scores temperatures and guidances, from which a model's default sampling is chosen. It uses training
combinations, so that a default picked from its table is not picked on the benchmark that it is then scored
by.
"""

from pathlib import Path
from typing import Any

import numpy as np

from arm.domain import Split, TaskDomain
from arm.evals.painting import canvas_of, encode_pictures, paint_each
from arm.evals.sheet import sheet
from arm.evals.tasks import EvalSize, Progress, SamplingSetting, drawing_and_editing
from arm.files import make_folder, write_picture
from arm.generate import Guidance
from arm.pipeline import Arm
from arm.sampling import Sampling

SCALES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
NUM_SHOWN = 4
"""Prompts, and as many edits, on the sheet."""
SUCCESS_SC = 9.0
"""An edit of at least this SC, of 10, has a green frame."""
TEMPERATURES = (0.0, 0.3, 0.6)
GUIDANCES = (Guidance(1.0, 1.0), Guidance(1.5, 1.0), Guidance(2.25, 1.0))
"""What `sweep` tries."""


def guidances(arm: Arm, scale: float) -> tuple[Guidance, Guidance]:
    """Guidance of drawing and of editing at a text scale; the source's stays as the model has it."""
    return Guidance(scale, 1.0), Guidance(scale, arm.defaults.edit_guidance.image)


def measure(
    arm: Arm,
    domain: TaskDomain,
    out: Path,
    size: EvalSize,
    progress: Progress = lambda _: None,
    split: Split = "test",
) -> dict[str, Any]:
    """Scores of drawing (0 to 1) and editing (0 to 10) by scale, as "text 1.5"; writes `out`/guidance.png.

    Raises InputError where `out` cannot be written.
    """
    make_folder(out)
    tasks = (
        domain.prompts(split, size.prompts_per_tag, size.seed),
        domain.edits(split, size.edits_per_kind, size.seed, canvas_of(arm)),
    )
    result: dict[str, Any] = {}
    for scale in SCALES:
        name = f"text {scale:g}"
        progress(name)
        drawing, editing = (SamplingSetting(name, guidance=g) for g in guidances(arm, scale))
        result[name] = drawing_and_editing(
            arm, domain, tasks, size.images_per_prompt, (drawing, editing), size.seed
        )
    progress("sheet")
    write_sheet(arm, domain, out, size, split)
    return result


def write_sheet(arm: Arm, domain: TaskDomain, out: Path, size: EvalSize, split: Split) -> None:
    """A row for some prompts and edits, spread over their kinds; a column for each scale, after that of the
    edits' sources.
    """
    canvas = canvas_of(arm)
    referee = domain.referee(canvas)
    prompts = domain.prompts(split, size.prompts_per_tag, size.seed)
    prompts = prompts[:: max(1, len(prompts) // NUM_SHOWN)][:NUM_SHOWN]
    edits = domain.edits(split, size.edits_per_kind, size.seed, canvas)
    edits = [edit for edit in edits if edit.source.shape[:2] == canvas.size(0)]
    edits = edits[:: max(1, len(edits) // NUM_SHOWN)][:NUM_SHOWN]
    sources = encode_pictures(arm, [edit.source for edit in edits])
    blank = np.full_like(edits[0].source, 255)
    rows = [[blank] for _ in prompts] + [[edit.source] for edit in edits]
    verdicts: list[list[bool | None]] = [[None] for _ in rows]
    for scale in SCALES:
        drawing, editing = guidances(arm, scale)
        codes = arm.draw_prompts([p.text for p in prompts], guidance=drawing, seed=size.seed)
        codes += arm.edit_codes(
            sources, [e.instruction for e in edits], guidance=editing, seed=size.seed
        )
        for row, picture in enumerate(paint_each(arm, codes)):
            edit = row - len(prompts)
            accepted = (
                referee.draws_right(prompts[row], picture)
                if edit < 0
                else referee.score_edit(edits[edit], picture).sc >= SUCCESS_SC
            )
            rows[row].append(picture)
            verdicts[row].append(accepted)
    titles = [p.text for p in prompts] + [e.instruction for e in edits]
    columns = ["source", *(f"{scale:g}" for scale in SCALES)]
    drawn = sheet(rows, titles, columns, verdicts, scale=2)
    write_picture(drawn, out / "guidance.png", optimize=True)


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
