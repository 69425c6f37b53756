"""What the tasks beside this file share: POPE's and MME's own scoring from lmms-eval, and for pictures
the world's reader in the place of a judge.
"""

import json
from typing import Any

import datasets
import numpy as np
from lmms_eval.tasks.mme.utils import mme_aggregate_results, mme_process_results  # noqa: F401
from lmms_eval.tasks.pope.utils import (  # noqa: F401
    pope_aggregate_accuracy,
    pope_aggregate_f1_score,
    pope_aggregate_precision,
    pope_aggregate_recall,
    pope_process_results,
)
from PIL import Image

from arm.config import from_json
from arm.world.edits import Edit, score_edit
from arm.world.reader import Reading, read
from arm.world.scoring import Prompt, satisfies

SCALE = 1


def with_pictures(dataset: Any) -> Any:
    return dataset.cast_column("image", datasets.Image())


def picture_of(doc: dict, kwargs: Any = None) -> list:
    return [doc["image"].convert("RGB")]


def no_picture(doc: dict, kwargs: Any = None) -> list:
    return []


def question_of(doc: dict, kwargs: dict) -> str:
    """The question between the task's prompts; they are empty for `arm` (micro knows 180 words)."""
    return f"{kwargs.get('pre_prompt', '')}{doc['question']}{kwargs.get('post_prompt', '')}"


def reading_of(results: list[str]) -> Reading | None:
    """What the reader sees in the picture that the model's reply names; None where there is none."""
    images = json.loads(results[0])["images"]
    if not images:
        return None
    with Image.open(images[0]) as picture:
        return read(np.asarray(picture.convert("RGB")), SCALE)


def score_drawing(doc: dict, results: list[str]) -> dict:
    reading = reading_of(results)
    prompt = from_json(Prompt, json.loads(doc["wanted"]))
    right = float(reading is not None and satisfies(prompt, reading))
    return {"world_geneval": {"group": doc["tag"], "score": right}}


def score_editing(doc: dict, results: list[str]) -> dict:
    reading = reading_of(results)
    edit = from_json(Edit, json.loads(doc["edit"]))
    score = 0.0 if reading is None else score_edit(edit, reading).overall
    return {"world_gedit_o": {"group": doc["kind"], "score": score}}


def mean_of_groups(results: list[dict]) -> float:
    groups: dict[str, list[float]] = {}
    for entry in results:
        groups.setdefault(entry["group"], []).append(entry["score"])
    return sum(sum(scores) / len(scores) for scores in groups.values()) / len(groups)
