"""`arm demo`: the main job on held-out inputs - answer, draw, edit - with a sheet and a table."""

import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from arm.evals import painting, world
from arm.evals.report import print_scores
from arm.files import make_folder, write_picture
from arm.pipeline import Arm
from arm.world.edits import EDITORS, sample_edit
from arm.world.prompts import TAGS, sample_prompt, satisfies
from arm.world.questions import ASKERS, ask
from arm.world.reader import read
from arm.world.render import render
from arm.world.sampling import sample_scene
from arm.world.scoring import score_edit

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


def _answers(
    arm: Arm, rng: np.random.Generator, size: tuple[int, int]
) -> list[tuple[Image.Image, str, bool]]:
    scenes, questions = [], []
    for kind in ASKERS:
        scene, question = sample_scene(rng, *size, held_out=True), None
        while question is None:
            scene = sample_scene(rng, *size, held_out=True)
            question = ask(rng, scene, kind)
        scenes.append(scene)
        questions.append(question)
    codes = painting.encode_scenes(arm, scenes)
    answers = arm.answer_codes(codes, [q.text for q in questions])
    return [
        (
            Image.fromarray(render(scene, arm.defaults.scale)),
            f"{q.text} {answer}",
            answer == q.answer,
        )
        for scene, q, answer in zip(scenes, questions, answers, strict=True)
    ]


def run(arm: Arm, out: Path, seed: int = 0) -> None:
    """Writes `out`/sheet.png, one input of every kind, and the pictures on it; prints what was asked and a
    table of scores.
    """
    begun = time.monotonic()
    console = Console()
    rng = np.random.default_rng([2026, seed])
    make_folder(out)
    height, width = painting.scene_size(arm, 0)
    scale = arm.defaults.scale
    table = Table(
        "task", "input", "right", title="Held-out inputs (single_object has nothing to hold out)"
    )
    rows: list[tuple[str, list[Image.Image]]] = []

    answered = _answers(arm, rng, (height, width))
    rows.append(("understand: picture + question -> answer", [cell(*item) for item in answered]))

    prompts = [sample_prompt(rng, tag, held_out=True) for tag in TAGS]
    painted = painting.paint(arm, arm.draw_prompts([p.text for p in prompts], seed=seed))
    drawn = [Image.fromarray(image) for image in painted]
    checks = [satisfies(p, read(np.asarray(i), scale)) for p, i in zip(prompts, drawn, strict=True)]
    drawing = list(zip(drawn, [p.text for p in prompts], checks, strict=True))
    rows.append(("draw: prompt -> picture", [cell(*item) for item in drawing]))

    edits = []
    for kind in EDITORS:
        edit = None
        while edit is None:
            scene = sample_scene(rng, height, width, held_out=True)
            edit = sample_edit(rng, scene, kind, held_out=True)
        edits.append(edit)
    sources = painting.encode_scenes(arm, [e.source for e in edits])
    edited = painting.paint(arm, arm.edit_codes(sources, [e.instruction for e in edits], seed=seed))
    changed = [Image.fromarray(image) for image in edited]
    scores = [
        score_edit(e, read(np.asarray(i), scale)) for e, i in zip(edits, changed, strict=True)
    ]
    before = [Image.fromarray(render(e.source, scale)) for e in edits]
    rows.append(
        (
            "edit: picture + instruction ...",
            [cell(i, e.instruction) for i, e in zip(before, edits, strict=True)],
        )
    )
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
    result = world.evaluate(arm, world.quick(), settings=world.SETTINGS[:1])
    shown = {
        "reconstruction exact": result["recon"]["exact"],
        "world-vqa accuracy": result["vqa"]["accuracy"],
        "world-geneval": result["geneval"]["overall"],
        "world-gedit O (of 10)": result["gedit"]["o"],
    }
    print_scores(shown)
    console.print(f"{out / 'sheet.png'} written; {time.monotonic() - begun:.0f} s after loading")
