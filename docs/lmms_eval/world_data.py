"""Writes questions, prompts and edits of the built-in world, all on held-out combinations:

    python docs/lmms_eval/world_data.py --out world_data

    world_data/pope/  POPE's own layout, for `arm eval pope-random --data world_data/pope`
    world_data/mme/   MME's own layout, for `arm eval mme --data world_data/mme`
    world_data/*.jsonl  the same questions and more for lmms-eval, with absolute paths of pictures

The counts of the first two are the published ones, so both commands read all of it.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from arm.config import to_json
from arm.world.edits import EDITORS, sample_edit
from arm.world.questions import ASKERS, OPPOSITE, ask
from arm.world.sampling import sample_scene
from arm.world.scene import Scene, render
from arm.world.scoring import TAGS, sample_prompt

SIDE, SCALE = 56, 1
"""Units a side and pixels a unit, of the first grid of the shipped model."""
POPE_PICTURES, POPE_EACH = 500, 6
MME_PICTURES = 1187


def scene_of(rng: np.random.Generator) -> Scene:
    return sample_scene(rng, SIDE, SIDE, split="test")


def save(scene: Scene, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(scene, SCALE)).save(path)
    return str(path.resolve())


def write_lines(path: Path, lines: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def pope(out: Path, rng: np.random.Generator) -> None:
    """Six questions for each of 500 pictures: three of what is there, three of what is not."""
    official, lines = [], []
    for p in range(POPE_PICTURES):
        scene, name = scene_of(rng), f"{p:04d}.png"
        path = save(scene, out / "pope" / name)
        left = {"yes": POPE_EACH // 2, "no": POPE_EACH // 2}
        while any(left.values()):
            question = ask(rng, scene, "existence")
            if question is None or not left[question.answer]:
                continue
            left[question.answer] -= 1
            shared = {"question_id": len(lines) + 1}
            official.append(
                {**shared, "image": name, "text": question.text, "label": question.answer}
            )
            lines.append(
                {**shared, "image": path, "question": question.text, "answer": question.answer}
            )
    write_lines(out / "pope" / "coco" / "coco_pope_random.json", official)
    write_lines(out / "pope.jsonl", lines)


def pair(rng: np.random.Generator, task: str) -> tuple[Scene, list[tuple[str, str]]]:
    """A picture and two questions about it, one to be answered by yes and one by no."""
    while True:
        scene, found = scene_of(rng), {}
        for _ in range(40):
            question = ask(rng, scene, "existence" if task == "existence" else "comparison")
            if question is None:
                continue
            if task == "existence" or any(word in question.text for word in OPPOSITE):
                found.setdefault(question.answer, question.text)
            if len(found) == 2:
                return scene, [(found[answer], answer) for answer in ("yes", "no")]


def mme(out: Path, rng: np.random.Generator) -> None:
    """Pairs of questions of two of MME's subtasks."""
    official, lines = [], []
    for p in range(MME_PICTURES):
        task = ("existence", "position")[p % 2]
        scene, asked = pair(rng, task)
        name = f"{p:04d}.png"
        path = save(scene, out / "mme" / task / name)
        for text, answer in asked:
            official.append({"task": task, "image": name, "question": text, "answer": answer})
            lines.append(
                {
                    "question_id": f"{task}/{name}",
                    "category": task,
                    "image": path,
                    "question": text,
                    "answer": answer,
                }
            )
    write_lines(out / "mme" / "mme_questions.jsonl", official)
    write_lines(out / "mme.jsonl", lines)


def gqa(out: Path, rng: np.random.Generator, count: int = 100) -> None:
    """Questions of every kind with one short answer, `count` of each."""
    lines = []
    for kind in ASKERS:
        for n in range(count):
            question = None
            while question is None:
                scene = scene_of(rng)
                question = ask(rng, scene, kind)
            path = save(scene, out / "gqa" / f"{kind}_{n:03d}.png")
            lines.append({"image": path, "question": question.text, "answer": question.answer})
    write_lines(out / "gqa.jsonl", lines)


def choice(out: Path, rng: np.random.Generator, count: int = 200) -> None:
    """Multiple choice among four colours, answered by likelihood."""
    lines = []
    while len(lines) < count:
        scene = scene_of(rng)
        question = ask(rng, scene, "color")
        if question is None:
            continue
        others = sorted({"red", "blue", "green", "yellow", "purple"} - {question.answer})[:3]
        choices = [str(c) for c in rng.permutation([question.answer, *others])]
        path = save(scene, out / "choice" / f"{len(lines):03d}.png")
        lines.append(
            {
                "image": path,
                "question": question.text,
                "choices": choices,
                "answer": choices.index(question.answer),
            }
        )
    write_lines(out / "choice.jsonl", lines)


def drawing(out: Path, rng: np.random.Generator, count: int = 10) -> None:
    """Prompts of GenEval's six tags, with what must be seen."""
    prompts = [sample_prompt(rng, tag, split="test") for tag in TAGS for _ in range(count)]
    write_lines(
        out / "draw.jsonl",
        ({"tag": p.tag, "prompt": p.text, "wanted": json.dumps(asdict(p))} for p in prompts),
    )


def editing(out: Path, rng: np.random.Generator, count: int = 10) -> None:
    """Edits of every kind, with the scene that each asks for."""
    lines = []
    for kind in EDITORS:
        for n in range(count):
            edit = None
            while edit is None:
                edit = sample_edit(rng, scene_of(rng), kind, split="test")
            path = save(edit.source, out / "edit" / f"{kind}_{n:02d}.png")
            lines.append(
                {
                    "kind": kind,
                    "image": path,
                    "instruction": edit.instruction,
                    "edit": json.dumps(to_json(edit)),
                }
            )
    write_lines(out / "edit.jsonl", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Data of the built-in world for lmms-eval.")
    parser.add_argument("--out", type=Path, default=Path("world_data"))
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    for part, write in enumerate((pope, mme, gqa, choice, drawing, editing)):
        write(options.out, np.random.default_rng([options.seed, part]))


if __name__ == "__main__":
    main()
