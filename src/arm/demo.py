"""`arm demo`: the main job on held-out inputs - answer, draw, edit - with a sheet and a table."""

import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from arm.domain import EditingTask, QuestionTask
from arm.evals import tasks
from arm.evals.painting import canvas_of, encode_pictures, paint_each
from arm.evals.report import print_scores
from arm.files import make_folder, write_picture
from arm.pipeline import Arm
from arm.world.domain import World, drawing_task, editing_task, evaluate, scene_size
from arm.world.edits import EDITORS, sample_edit
from arm.world.questions import ASKERS, ask
from arm.world.sampling import sample_scene
from arm.world.scene import render
from arm.world.scoring import TAGS, sample_prompt

CELL = 168
TEXT = 34


def _wrapped(text: str, width: int = 27) -> str:
    """The text in lines of at most `width` characters, three at most."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:3])


def cell(image: Image.Image, text: str, right: bool | None = None) -> Image.Image:
    """A picture enlarged to a cell with its words below; the words are green or red by `right`."""
    canvas = Image.new("RGB", (CELL, CELL + TEXT + 8), "white")
    enlarged = image.resize((CELL - 8, CELL - 8), Image.Resampling.NEAREST)
    canvas.paste(enlarged, (4, 4))
    color = {None: (60, 60, 60), True: (20, 120, 50), False: (190, 40, 40)}[right]
    ImageDraw.Draw(canvas).multiline_text((6, CELL), _wrapped(text), fill=color, spacing=1)
    return canvas


def assemble(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Titled rows of cells as one sheet."""
    height = sum(24 + row[0].height for _, row in rows)
    widest = max(len(row) for _, row in rows)
    sheet = Image.new("RGB", (widest * CELL, height), "white")
    top = 0
    for title, cells in rows:
        ImageDraw.Draw(sheet).text((6, top + 6), title, fill=(20, 20, 20))
        for i, picture in enumerate(cells):
            sheet.paste(picture, (i * CELL, top + 24))
        top += 24 + cells[0].height
    return sheet


def _questions(rng: np.random.Generator, size: tuple[int, int], scale: int) -> list[QuestionTask]:
    """A question of each kind about a held-out picture of `size` units."""
    questions = []
    for kind in ASKERS:
        scene, question = sample_scene(rng, *size, split="test"), None
        while question is None:
            scene = sample_scene(rng, *size, split="test")
            question = ask(rng, scene, kind)
        picture = render(scene, scale)
        questions.append(QuestionTask(kind, picture, question.text, question.answer))
    return questions


def _edits(rng: np.random.Generator, size: tuple[int, int], scale: int) -> list[EditingTask]:
    """An edit of each kind of a held-out picture of `size` units."""
    edits = []
    for kind in EDITORS:
        edit = None
        while edit is None:
            edit = sample_edit(rng, sample_scene(rng, *size, split="test"), kind, split="test")
        edits.append(editing_task(edit, scale))
    return edits


def run(arm: Arm, out: Path, seed: int = 0) -> None:
    """Writes `out`/sheet.png, one input of every kind, and the pictures on it; prints what was asked and a
    table of scores.
    """
    begun = time.monotonic()
    console = Console()
    rng = np.random.default_rng([2026, seed])
    make_folder(out)
    canvas = canvas_of(arm)
    size, referee = scene_size(canvas, 0), World().referee(canvas)
    table = Table(
        "task", "input", "right", title="Held-out inputs (single_object has nothing to hold out)"
    )
    rows: list[tuple[str, list[Image.Image]]] = []

    questions = _questions(rng, size, canvas.scale)
    answered = [
        (Image.fromarray(task.picture), f"{task.text} {answer}", answer == task.answer)
        for task, answer in zip(questions, tasks.answer_questions(arm, questions), strict=True)
    ]
    rows.append(("understand: picture + question -> answer", [cell(*item) for item in answered]))

    prompts = [drawing_task(sample_prompt(rng, tag, split="test")) for tag in TAGS]
    painted = paint_each(arm, arm.draw_prompts([p.text for p in prompts], seed=seed))
    drawing = [
        (Image.fromarray(picture), task.text, referee.draws_right(task, picture))
        for task, picture in zip(prompts, painted, strict=True)
    ]
    rows.append(("draw: prompt -> picture", [cell(*item) for item in drawing]))

    edits = _edits(rng, size, canvas.scale)
    sources = encode_pictures(arm, [edit.source for edit in edits])
    codes = arm.edit_codes(sources, [edit.instruction for edit in edits], seed=seed)
    edited = paint_each(arm, codes)
    scores = [referee.score_edit(e, picture) for e, picture in zip(edits, edited, strict=True)]
    changed = [Image.fromarray(picture) for picture in edited]
    before = [cell(Image.fromarray(edit.source), edit.instruction) for edit in edits]
    rows.append(("edit: picture + instruction ...", before))
    after = [
        cell(i, f"SC {s.sc:.1f}  PQ {s.pq:.1f}", s.sc >= 9.9)
        for i, s in zip(changed, scores, strict=True)
    ]
    rows.append(("... -> picture (SC: done and nothing else changed, PQ: cleanliness)", after))

    for task, items in (("understand", answered), ("draw", drawing)):
        for i, (picture, text, right) in enumerate(items, 1):
            write_picture(picture, out / f"{task}-{i}.png")
            table.add_row(task, text, "yes" if right else "no")
    for i, (edit, picture, score) in enumerate(zip(edits, changed, scores, strict=True), 1):
        write_picture(picture, out / f"edit-{i}.png")
        table.add_row("edit", edit.instruction, f"SC {score.sc:.1f} PQ {score.pq:.1f}")
    write_picture(assemble(rows), out / "sheet.png")
    console.print(table)
    console.print("A quick measure on more of them (`arm eval world` is the full one):")
    result = evaluate(arm, tasks.quick_size(), settings=tasks.SETTINGS[:1])
    shown = {
        "reconstruction exact": result["recon"]["exact"],
        "world-vqa accuracy": result["vqa"]["accuracy"],
        "world-geneval": result["geneval"]["overall"],
        "world-gedit O (of 10)": result["gedit"]["o"],
    }
    print_scores(shown)
    console.print(f"{out / 'sheet.png'} written; {time.monotonic() - begun:.0f} s after loading")
