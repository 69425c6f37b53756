"""SEED-Bench (arXiv 2307.16125): the questions about single pictures, its dimensions 1 to 9.

Its authors rank the four options by their likelihood; here the model answers with a letter, as in the
papers that ARM compares itself with. Questions about videos are left out. Image folder: SEED-Bench-image.
"""

from pathlib import Path

from arm.errors import DataError
from arm.evals.benchmarks.base import Item, json_object, need, need_count, need_file, need_list
from arm.evals.benchmarks.choices import LETTERS, choice_prompt

COUNTS = (14_232, 14_233)
"""Published counts of questions about pictures; a later version of the file has one less."""

NOTE = "pictures alone, by the letter answered; the authors rank options by likelihood and have videos too"


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The picture questions of `SEED-Bench.json`; a group is one of the nine dimensions."""
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
        text = choice_prompt(need(entry, "question", where), options)
        image = str(need(entry, "data_id", where))
        checks = {"options": options, "answer": need(entry, "answer", where)}
        items.append(Item(str(need(entry, "question_id", where)), text, names[kind], image, checks))
    count = len(items) if len(items) in COUNTS else COUNTS[0]
    return need_count(items, count, "SEED-Bench (pictures)", partial)
