"""Published benchmarks' files in their authors' layout, tiny, of words that the model partly knows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arm.evals.benchmarks import editing, wise

WORDS = ("a red star", "two blue rings", "draw a Zanzibar cow", "a green moon")


def wise_files(root: Path) -> Path:
    """All thousand prompts."""
    ranges = {0: (1, 400), 1: (401, 700), 2: (701, 1000)}
    for index, theme in enumerate(wise.THEMES):
        path = root / f"legacy/{theme}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        first, last = ranges[index]
        entries = [
            {"Prompt": WORDS[n % 4], "Explanation": f"it is {n}", "prompt_id": n}
            for n in range(first, last + 1)
        ]
        path.write_text(json.dumps(entries))
    template = (
        "Judge. PROMPT: \"{prompt_data['Prompt']}\" EXPLANATION: \"{prompt_data['Explanation']}\""
    )
    (root / wise.JUDGE_FILES["legacy"]).write_text(json.dumps([template]))
    return root


def gedit_files(root: Path) -> Path:
    """Edits of three pictures, of which the third is broken."""
    root.mkdir(parents=True, exist_ok=True)
    entries = {}
    for n in range(604):
        group = editing.GEDIT_GROUPS[n % 11]
        entries[f"k{n}"] = {
            "prompt": "make the star green",
            "id": f"en/{n % 3}.png",
            "edit_type": group,
        }
    (root / "gedit_edit.json").write_text(json.dumps(entries))
    prompts = {"tie_SC_prompt": "SC of <instruction>", "tie_PQ_prompt": "PQ"}
    (root / "viescore_prompts.json").write_text(json.dumps(prompts))
    (root / "en").mkdir(exist_ok=True)
    for n in range(2):
        Image.fromarray(np.full((56, 56, 3), 80 * n, dtype=np.uint8)).save(root / f"en/{n}.png")
    (root / "en/2.png").write_bytes(b"no picture")
    return root


def pope_files(root: Path) -> Path:
    """3,000 questions about one picture."""
    (root / "coco").mkdir(parents=True)
    lines = [
        {
            "question_id": n,
            "image": "0.png",
            "text": "is there a star ?",
            "label": ("yes", "no")[n % 2],
        }
        for n in range(3000)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (root / "coco/coco_pope_random.json").write_text(text)
    Image.fromarray(np.full((56, 56, 3), 90, dtype=np.uint8)).save(root / "0.png")
    return root


def reply(body: dict[str, Any], _: int = 0) -> str:
    """A judge of WISE and GEdit that likes red."""
    text = body["messages"][0]["content"][0]["text"]
    if text.startswith("Judge"):
        return f"Consistency: {2 if 'red' in text else 1}\nRealism: 2\nAesthetic Quality: 0"
    return '{"score": [8, 6]}' if text.startswith("SC") else '{"score": [9, 9], "reasoning": "-"}'
