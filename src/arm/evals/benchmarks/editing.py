"""GEdit-Bench (arXiv 2504.17761) and ImgEdit-Bench (arXiv 2505.20275): edits of pictures, scored by a judge.

GEdit: two questions with two scores from 0 to 10 each. SC = min(success, no over-editing), PQ =
min(naturalness, no artifacts), O = sqrt(SC PQ) of each sample; the mean of each of 11 groups, then of
the groups. ImgEdit: three scores from 1 to 5; their mean, the mean of each type, the mean of the types.
Judges change between versions: a score without the judge's name and date cannot be compared.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Benchmark,
    Item,
    JudgePrompt,
    Result,
    checked_items,
    first_replies,
    mean_of_groups,
)
from arm.evals.benchmarks.files import (
    find_file,
    find_tables,
    not_here,
    read_json_object,
    require,
    require_text,
    table_rows,
)
from arm.files import keep_picture
from arm.judge.asking import Asking
from arm.judge.scale import Scale
from arm.judge.verdicts import has_scores, read_score_list, read_scores, score_names

GEDIT_COUNTS = (606, 604)
"""English instructions of the authors' data set, and of a version that holds no repeated keys."""
GEDIT_GROUPS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human",
    "style_change", "subject-add", "subject-remove", "subject-replace", "text_change",
    "tone_transfer",
)  # fmt: skip
GEDIT_EDITS = "gedit_edit.json"
GEDIT_TABLES = (
    "data/*.parquet", "*.parquet", "snapshots/*/data/*.parquet", "train/*.arrow", "*.arrow"
)  # fmt: skip
"""The data set as `hf download` leaves it (a folder, or the cache) and as `save_to_disk` writes it."""
GEDIT_PROMPTS = "viescore_prompts.json"
IMGEDIT_COUNT = 737
IMGEDIT_TYPES = (
    "replace", "add", "adjust", "remove", "style", "action", "extract", "background", "compose"
)  # fmt: skip
IMGEDIT_EDITS = (
    "basic_edit.json", "Benchmark/Basic/basic_edit.json", "Basic/basic_edit.json",
    "singleturn.json", "Benchmark/singleturn/singleturn.json", "singleturn/singleturn.json",
)  # fmt: skip
IMGEDIT_PROMPTS = (
    "judge_prompts.json", "prompts.json", "Benchmark/Basic/prompts.json", "Basic/prompts.json"
)  # fmt: skip
IMGEDIT_FOLDERS = ("Benchmark/singleturn", "singleturn", "original_images")
"""Where the pictures lie after the authors' Benchmark.tar is unpacked."""

SC_PROMPT = """\
Grade an edit of a picture. You are shown two pictures: the original and, after it, the edited version. \
Where the edit failed, both can be the same. This was the instruction:

<instruction>

Give two scores from 0 to 10:
- success: 0 where the edited picture does not follow the instruction at all, 10 where it follows it perfectly;
- restraint: 0 where the edited picture has nothing left of the original, 10 where it differs from the original \
only as far as the instruction needs.

Reply with JSON of this form and nothing else, with a short reason:
{"score": [success, restraint], "reasoning": "..."}"""
PQ_PROMPT = """\
Grade the quality of one picture that a model generated. Nothing else is known about it.

Give two scores from 0 to 10:
- naturalness: 0 where the scene looks wrong, as by impossible distances, shadows or light, 10 where it looks natural;
- cleanliness: 0 where large parts are distorted, blurred, scratched or watermarked, where bodies or faces are \
malformed, or where things do not belong together, 10 where there is no such artifact.

Reply with JSON of this form and nothing else, with a short reason:
{"score": [naturalness, cleanliness], "reasoning": "..."}"""
OWN_PROMPTS = {"SC": SC_PROMPT, "PQ": PQ_PROMPT}
"""The two questions of VIEScore in our own words; the authors keep theirs inside their code."""

GEDIT_ASKING = Asking(max_tokens=1400, temperature=None)
IMGEDIT_ASKING = Asking(max_tokens=2000, temperature=None)
"""As the authors' code asks; ImgEdit's sets no number of tokens, and neither sets a temperature."""
VIESCORE_SCALE, IMGEDIT_SCALE = Scale(0, 10), Scale(1, 5, whole=True)
VIESCORE_NAMES = (
    (("score1", "score 1"), ("score2", "score 2")),
    (
        ("editing success", "success"),
        ("degree of overediting", "overediting", "over editing", "restraint"),
    ),
    (("naturalness", "image naturalness"), ("artifacts", "image artifacts", "cleanliness")),
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


def load_gedit(directory: Path, partial: bool = False) -> list[Item]:
    """The English instructions, from the authors' data set or from `gedit_edit.json`.

    Raises DataError.
    """
    path = directory / GEDIT_EDITS
    if path.is_file():
        items = _read_edits(path, GEDIT_GROUPS)
    else:
        items = [
            Item(name, require(row, "instruction", name), row["task_type"], _gedit_file(name, row))
            for name, row in _gedit_rows(directory)
        ]
        for item in items:
            _check_group(item.group, GEDIT_GROUPS, f"{directory}, '{item.id}'")
    return checked_items(items, GEDIT_COUNTS, "GEdit-Bench (EN)", partial)


def _gedit_rows(directory: Path, *more: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The English rows of the data set with their ids; a key that comes again gets a number."""
    paths = find_tables(directory, GEDIT_TABLES)
    if not paths:
        raise not_here(directory, (*GEDIT_TABLES, GEDIT_EDITS), "GEdit-Bench")
    columns = ("key", "task_type", "instruction", "instruction_language", *more)
    seen: Counter[str] = Counter()
    for row in table_rows(paths, columns):
        if row["instruction_language"] == "en":
            key = str(row["key"])
            seen[key] += 1
            yield (key if seen[key] == 1 else f"{key}-{seen[key]}"), row


def _gedit_file(name: str, row: Mapping[str, Any]) -> str:
    """Where an item's source picture lies, in the authors' layout of results."""
    return f"fullset/{row['task_type']}/en/{name}.png"


def unpack_gedit(directory: Path, items: Sequence[Item], folder: Path) -> bool:
    """Writes the source pictures of the data set into a folder; a file that is still right stays.

    Returns False, and writes nothing, where the pictures are files of their own.
    """
    if (directory / GEDIT_EDITS).is_file():
        return False
    needed = {item.image for item in items}
    for name, row in _gedit_rows(directory, "input_image"):
        content = (row["input_image"] or {}).get("bytes")
        if content and _gedit_file(name, row) in needed:
            keep_picture(content, folder / _gedit_file(name, row))
    return True


def load_imgedit(directory: Path, partial: bool = False) -> list[Item]:
    """The single-turn edits of `basic_edit.json`. Raises DataError."""
    items = _read_edits(find_file(directory, IMGEDIT_EDITS, "ImgEdit-Bench"), IMGEDIT_TYPES)
    return checked_items(items, IMGEDIT_COUNT, "ImgEdit-Bench", partial)


def _read_edits(path: Path, groups: Sequence[str]) -> list[Item]:
    """The items of a JSON object of edits by id, with `prompt`, `id` (the picture) and `edit_type`."""
    items = []
    for name, entry in read_json_object(path).items():
        where = f"{path}, '{name}'"
        group = require(entry, "edit_type", where)
        _check_group(group, groups, where)
        items.append(
            Item(name, require(entry, "prompt", where), group, require(entry, "id", where))
        )
    return items


def _check_group(group: str, groups: Sequence[str], where: str) -> None:
    if group not in groups:
        raise DataError(f"{where}: the type '{group}' is none of {', '.join(groups)}")


def gedit_prompt(directory: Path, item: Item, question: Literal["SC", "PQ"]) -> str:
    """The question SC, asked about source and edit, or PQ, asked about the edit alone."""
    path = directory / GEDIT_PROMPTS
    template = OWN_PROMPTS[question]
    if path.is_file():
        template = require_text(read_json_object(path), f"tie_{question}_prompt", str(path))
    return template.replace("<instruction>", item.text)


def imgedit_prompt(directory: Path, item: Item) -> str:
    """The authors' question about an edit of the item's type."""
    path = find_file(directory, IMGEDIT_PROMPTS, "the judge's prompts of ImgEdit-Bench")
    template = require_text(read_json_object(path), item.group, str(path))
    return template.replace("<edit_prompt>", item.text)


def gedit_note(directory: Path) -> str:
    """Whose words the judge is asked in."""
    if (directory / GEDIT_PROMPTS).is_file():
        return f"the judge is asked in the words of {GEDIT_PROMPTS}"
    return (
        "the judge is asked in our own words (the authors keep VIEScore's inside their code): compare this score only "
        "with scores that were judged in the same words"
    )


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


def gedit_prompts(directory: Path, item: Item) -> list[JudgePrompt]:
    """The two questions about an edit."""

    def readable(reply: str) -> bool:
        return read_viescore(reply) is not None

    return [
        JudgePrompt(gedit_prompt(directory, item, "SC"), True, readable),
        JudgePrompt(gedit_prompt(directory, item, "PQ"), False, readable),
    ]


def imgedit_prompts(directory: Path, item: Item) -> list[JudgePrompt]:
    """The one question about an edit."""
    text = imgedit_prompt(directory, item)
    return [JudgePrompt(text, True, lambda reply: read_imgedit(reply) is not None)]


def score_gedit(
    items: Sequence[Item], replies: Mapping[str, Sequence[Sequence[str | None]]]
) -> Result:
    """O from the replies `[item][picture][question]`; `details` has the means of SC and PQ."""
    values: dict[str, dict[str, float | None]] = {"sc": {}, "pq": {}, "o": {}}
    pairs = first_replies(replies)
    for item in items:
        sc, pq = [
            None if reply is None else read_viescore(reply)
            for reply in pairs.get(item.id, (None, None))
        ]
        if sc is None or pq is None:
            continue
        values["sc"][item.id], values["pq"][item.id] = min(sc), min(pq)
        values["o"][item.id] = math.sqrt(min(sc) * min(pq))
    details = {name: mean_of_groups(items, values[name]).overall.value for name in ("sc", "pq")}
    return mean_of_groups(items, values["o"], details=details)


def score_imgedit(
    items: Sequence[Item], replies: Mapping[str, Sequence[Sequence[str | None]]]
) -> Result:
    """The mean of the types' means, from the replies `[item][picture][question]`."""
    values: dict[str, float | None] = {}
    first = first_replies(replies)
    for item in items:
        reply = first[item.id][0] if item.id in first else None
        scores = None if reply is None else read_imgedit(reply)
        values[item.id] = None if scores is None else sum(scores) / 3
    return mean_of_groups(items, values)


BENCHMARKS = (
    Benchmark(
        "gedit",
        "editing",
        load_gedit,
        score_gedit,
        judge_prompts=gedit_prompts,
        unpack=unpack_gedit,
        judge_note=gedit_note,
        asking=GEDIT_ASKING,
        best=10.0,
    ),
    Benchmark(
        "imgedit",
        "editing",
        load_imgedit,
        score_imgedit,
        judge_prompts=imgedit_prompts,
        image_folders=IMGEDIT_FOLDERS,
        asking=IMGEDIT_ASKING,
        best=5.0,
    ),
)
