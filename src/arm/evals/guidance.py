"""The paper's guidance figure in small (its Fig. 4): drawing and editing over the text scale.

The codes are condition enough for the decoder, so guidance of the language model can be weakened or left
out; the figure shows what that costs. Scores are on held-out combinations, the sheet shows one prompt or
edit a row and one scale a column, a green frame where the world's reader finds what was asked for.
"""

from pathlib import Path
from typing import Any

from arm.evals import painting, world
from arm.evals.sheet import sheet
from arm.evals.statistics import mean_of_groups
from arm.files import make_folder, write_picture
from arm.generate import Guidance
from arm.pipeline import Arm
from arm.world.prompts import satisfies
from arm.world.reader import read
from arm.world.render import render
from arm.world.scoring import score_edit

SCALES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
SHOWN = 4
"""Prompts, and as many edits, on the sheet."""
DONE = 9.0
"""An edit of at least this SC, of 10, has a green frame."""


def guidances(arm: Arm, scale: float) -> tuple[Guidance, Guidance]:
    """Guidance of drawing and of editing at a text scale; the source's stays as the model has it."""
    return Guidance(scale, 1.0), Guidance(scale, arm.defaults.edit_guidance.image)


def measure(
    arm: Arm, out: Path, size: world.Size, report: world.Report = lambda _: None
) -> dict[str, Any]:
    """Scores of drawing (0 to 1) and editing (0 to 10) by scale, as "text 1.5"; writes `out`/guidance.png.

    Raises InputError where `out` cannot be written.
    """
    make_folder(out)
    prompts, edits = world.geneval_prompts(size), world.sampled_edits(arm, size)
    result: dict[str, Any] = {}
    for scale in SCALES:
        name = f"text {scale:g}"
        report(name)
        drawing, editing = guidances(arm, scale)
        drawn = world.draw_and_check(
            arm, prompts, size.images_per_prompt, world.Setting(name, guidance=drawing), size.seed
        )
        edited = world.edit_and_score(arm, edits, world.Setting(name, guidance=editing), size.seed)
        result[name] = {
            "geneval": mean_of_groups(drawn).to_dict(),
            "gedit": mean_of_groups(
                {kind: [score.overall for score in scores] for kind, scores in edited.items()}
            ).to_dict(),
        }
    report("sheet")
    write_sheet(arm, out, size)
    return result


def write_sheet(arm: Arm, out: Path, size: world.Size) -> None:
    """A row for some prompts and edits, spread over their kinds; a column a scale, edits' sources first."""
    grid = painting.scene_size(arm, 0)
    prompts = world.geneval_prompts(size)
    prompts = prompts[:: max(1, len(prompts) // SHOWN)][:SHOWN]
    edits = [e for e in world.sampled_edits(arm, size) if (e.source.height, e.source.width) == grid]
    edits = edits[:: max(1, len(edits) // SHOWN)][:SHOWN]
    sources = painting.encode_scenes(arm, [edit.source for edit in edits])
    blank = render(edits[0].source, arm.defaults.scale) * 0 + 255
    rows = [[blank] for _ in prompts] + [[render(e.source, arm.defaults.scale)] for e in edits]
    right: list[list[bool | None]] = [[None] for _ in rows]
    for scale in SCALES:
        drawing, editing = guidances(arm, scale)
        codes = arm.draw_prompts([p.text for p in prompts], guidance=drawing, seed=size.seed)
        codes += arm.edit_codes(
            sources, [e.instruction for e in edits], guidance=editing, seed=size.seed
        )
        for row, picture in enumerate(painting.paint_each(arm, codes)):
            reading = read(picture, arm.defaults.scale)
            edit = row - len(prompts)
            found = (
                satisfies(prompts[row], reading)
                if edit < 0
                else score_edit(edits[edit], reading).sc >= DONE
            )
            rows[row].append(picture)
            right[row].append(found)
    titles = [p.text for p in prompts] + [e.instruction for e in edits]
    columns = ["source", *(f"{scale:g}" for scale in SCALES)]
    drawn = sheet(rows, titles, columns, right, scale=2)
    write_picture(drawn, out / "guidance.png", optimize=True)
