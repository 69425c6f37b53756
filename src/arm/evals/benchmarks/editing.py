"""GEdit-Bench (arXiv 2504.17761) and ImgEdit-Bench (arXiv 2505.20275): edits, by a judge.

GEdit: two questions, each with two scores from 0 to 10. SC = min(success, no over-editing), PQ = min(naturalness,
artifacts), O = sqrt(SC PQ) of each sample; mean of each of 11 groups, then of groups. ImgEdit: three
scores from 1 to 5; their mean, the mean of each type, the mean of types. The judge drifts between its
versions: a figure without its name and date is worth nothing.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    json_object,
    need,
    need_count,
    need_file,
    need_text,
    result,
)
from arm.judge.scale import Scale
from arm.judge.verdicts import has_scores, read_score_list, read_scores, score_names

GEDIT_COUNT, IMGEDIT_COUNT = 604, 737
GEDIT_GROUPS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human",
    "style_change", "subject-add", "subject-remove", "subject-replace", "text_change",
    "tone_transfer",
)  # fmt: skip
IMGEDIT_TYPES = (
    "replace", "add", "adjust", "remove", "style", "action", "extract", "background", "compose"
)  # fmt: skip

VIESCORE_SCALE, IMGEDIT_SCALE = Scale(0, 10), Scale(1, 5, whole=True)
VIESCORE_NAMES = (
    (("score1", "score 1"), ("score2", "score 2")),
    (("editing success", "success"), ("degree of overediting", "overediting", "over editing")),
    (("naturalness", "image naturalness"), ("artifacts", "image artifacts")),
)
"""What a judge may call the two scores where it gives no list: as the prompts do, for SC and PQ."""
IMGEDIT_CRITERIA = (
    ("Prompt Compliance", "Instruction Compliance", "Style Fidelity", "Action Fidelity", "Object Identity"),
    (
        "Visual Naturalness", "Visual Seamlessness", "Content Preservation", "Identity Preservation",
        "Mask Precision",
    ),
    (
        "Physical & Detail Integrity", "Physical & Detail Coherence", "Physical & Detail Fidelity",
        "Rendering Quality", "Visual & Anatomical Coherence", "Visual Quality", "Physical Consistency",
        "Physical Consistency & Fine Detail",
    ),
)  # fmt: skip
"""The first, second and third criterion of each of the authors' prompts."""


def _load(path: Path, groups: Sequence[str]) -> list[Item]:
    items = []
    for name, entry in json_object(path).items():
        where = f"{path}, '{name}'"
        group = need(entry, "edit_type", where)
        if group not in groups:
            raise DataError(f"{where}: '{group}' is none of {', '.join(groups)}")
        items.append(Item(name, need(entry, "prompt", where), group, need(entry, "id", where)))
    return items


def load_gedit(directory: Path, partial: bool = False) -> list[Item]:
    """The English instructions of `gedit_edit.json`; `image` is below the authors' image folder."""
    items = _load(need_file(directory, "gedit_edit.json", "GEdit-Bench"), GEDIT_GROUPS)
    return need_count(items, GEDIT_COUNT, "GEdit-Bench (EN)", partial)


def load_imgedit(directory: Path, partial: bool = False) -> list[Item]:
    """The single-turn edits of `basic_edit.json`."""
    items = _load(need_file(directory, "basic_edit.json", "ImgEdit-Bench"), IMGEDIT_TYPES)
    return need_count(items, IMGEDIT_COUNT, "ImgEdit-Bench", partial)


def gedit_prompt(directory: Path, item: Item, question: Literal["SC", "PQ"]) -> str:
    """VIEScore's prompt; SC is asked of source and edit, PQ of the edit alone."""
    path = need_file(directory, "viescore_prompts.json", "GEdit-Bench")
    template = need_text(json_object(path), f"tie_{question}_prompt", str(path))
    return template.replace("<instruction>", item.text)


def imgedit_prompt(directory: Path, item: Item) -> str:
    """The judge's prompt of the item's type."""
    path = need_file(directory, "judge_prompts.json", "ImgEdit-Bench")
    return need_text(json_object(path), item.group, str(path)).replace("<edit_prompt>", item.text)


def read_viescore(reply: str) -> tuple[float, float] | None:
    """The two scores of a reply, from 0 to 10; None where they are missing or ambiguous.

    The authors' reader puts random numbers where it cannot read; this one does not.
    """
    scores = read_score_list(reply, ("score", "scores"), 2, VIESCORE_SCALE)
    for names in VIESCORE_NAMES:
        if scores is None and not has_scores(reply, [("score", "scores")], VIESCORE_SCALE):
            scores = read_scores(reply, names, VIESCORE_SCALE)
    return None if scores is None else (scores[0], scores[1])


def read_imgedit(reply: str) -> tuple[int, int, int] | None:
    """The three scores of a reply, integers from 1 to 5; None where one is missing or ambiguous.

    They are those of the authors' criteria; without any of these, of the three names that begin a line and
    are followed by a number.
    """
    criteria: Sequence[Sequence[str]] = IMGEDIT_CRITERIA
    if not has_scores(reply, criteria, IMGEDIT_SCALE):
        criteria = [[name] for name in score_names(reply)]
    scores = read_scores(reply, criteria, IMGEDIT_SCALE) if len(criteria) == 3 else None
    return None if scores is None else (int(scores[0]), int(scores[1]), int(scores[2]))


def score_gedit(
    items: Sequence[Item], replies: Mapping[str, tuple[str | None, str | None]]
) -> Result:
    """O from the replies to the SC and the PQ question of each item; `details` has G_SC and G_PQ."""
    values: dict[str, dict[str, float | None]] = {"sc": {}, "pq": {}, "o": {}}
    for item in items:
        read = [None if r is None else read_viescore(r) for r in replies.get(item.id, (None, None))]
        if read[0] is None or read[1] is None:
            continue
        sc, pq = min(read[0]), min(read[1])
        values["sc"][item.id], values["pq"][item.id] = sc, pq
        values["o"][item.id] = math.sqrt(sc * pq)
    details = {name: result(items, values[name]).overall.value for name in ("sc", "pq")}
    return result(items, values["o"], details=details)


def score_imgedit(items: Sequence[Item], replies: Mapping[str, str | None]) -> Result:
    """The mean of types from each item's reply."""
    values: dict[str, float | None] = {}
    for item in items:
        reply = replies.get(item.id)
        scores = None if reply is None else read_imgedit(reply)
        values[item.id] = None if scores is None else sum(scores) / 3
    return result(items, values)
