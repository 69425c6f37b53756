"""SEED-Bench (arXiv 2307.16125): the questions about single pictures, its dimensions 1 to 9.

As its authors do it, the question stands alone in the prompt, and the option counts whose text is the
likeliest answer; papers mostly show the options and read the letter answered (`load_letters`). Questions
about videos are left out. Image folder: SEED-Bench-image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    flat_result,
    json_object,
    need,
    need_count,
    need_file,
    need_list,
)
from arm.evals.benchmarks.choices import LETTERS, choice_prompt

COUNTS = (14_232, 14_233)
"""Published counts of questions about pictures; a later version of the file has one less."""

PICTURES_NOTE = "the questions about pictures alone; the authors have videos too"
RANK_NOTE = (
    "prompt: the question alone; of four options the one counts whose text is likeliest as the answer, by "
    "the mean log-likelihood of its tokens and its end, as in the authors' code for transformers and for "
    "SEED-Bench-2 (their first, for LAVIS, takes the sum; answers.jsonl has sums and numbers of tokens); "
    "papers mostly read the letter answered instead: seed-letters"
)
LETTERS_NOTE = (
    "by the letter answered, as most papers; the authors rank the options by likelihood: seed"
)


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The picture questions of `SEED-Bench.json`, whose options are ranked; a group is one of the nine
    dimensions. Raises DataError.
    """
    path = need_file(directory, "SEED-Bench.json", "SEED-Bench")
    data = json_object(path)
    kinds = need(data, "question_type", str(path))
    names = {number: name for name, number in kinds.items()} if isinstance(kinds, dict) else {}
    items = []
    for n, entry in enumerate(
        need_list(need(data, "questions", str(path)), f"{path}, 'questions'")
    ):
        where = f"{path}, question {n}"
        if need(entry, "data_type", where) == "video":
            continue
        if entry["data_type"] != "image":
            raise DataError(
                f"{where}: data_type '{entry['data_type']}' belongs to SEED-Bench-2; this reads SEED-Bench"
            )
        kind = need(entry, "question_type_id", where)
        if kind not in names:
            raise DataError(f"{where}: question_type_id {kind} is not among its question types")
        options = {c: str(need(entry, f"choice_{c.lower()}", where)) for c in LETTERS[:4]}
        text, image = need(entry, "question", where), str(need(entry, "data_id", where))
        checks = {"options": options, "answer": need(entry, "answer", where)}
        name = str(need(entry, "question_id", where))
        items.append(Item(name, text, names[kind], image, checks, ranked=options))
    count = len(items) if len(items) in COUNTS else COUNTS[0]
    return need_count(items, count, "SEED-Bench (pictures)", partial)


def load_letters(directory: Path, partial: bool = False) -> list[Item]:
    """The same questions with their options in the prompt, to be answered by a letter. Raises DataError."""
    return [
        replace(item, text=choice_prompt(item.text, item.ranked), ranked={})
        for item in load(directory, partial)
    ]


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy of the letters of the likeliest options, over all questions and of each dimension."""
    right: dict[str, float | None] = {
        item.id: float(said == item.data["answer"])
        for item in items
        if (said := answers.get(item.id)) is not None
    }
    return flat_result(items, right)
