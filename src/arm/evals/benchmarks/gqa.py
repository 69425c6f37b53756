"""GQA (arXiv 1902.09506): the balanced testdev questions, by exact match. Image folder: images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from arm.evals.benchmarks.base import (
    Item,
    Result,
    flat_result,
    json_object,
    need,
    need_count,
    need_file,
)
from arm.evals.benchmarks.choices import short_prompt

COUNT = 12_578


def load(directory: Path, partial: bool = False) -> list[Item]:
    """The questions of `testdev_balanced_questions.json`; a group is the question's structure."""
    path = need_file(directory, "testdev_balanced_questions.json", "GQA")
    items = []
    for name, entry in json_object(path).items():
        where = f"{path}, '{name}'"
        question, image = need(entry, "question", where), need(entry, "imageId", where)
        group = need(need(entry, "types", where), "structural", where)
        answer = {"answer": need(entry, "answer", where)}
        items.append(Item(name, short_prompt(question), group, f"{image}.jpg", answer))
    return need_count(items, COUNT, "GQA (testdev, balanced)", partial)


def read_answer(answer: str) -> str:
    """Lower case, without a full stop at the end."""
    return answer.strip().rstrip(".").lower()


def score(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """The share of answers that are the very words; `details` has open and binary questions."""
    values: dict[str, float | None] = {}
    kinds: dict[str, list[float]] = {"open": [], "binary": []}
    for item in items:
        said = answers.get(item.id)
        if said is not None:
            right = float(read_answer(said) == item.data["answer"])
            values[item.id] = right
            kinds["open" if item.group == "query" else "binary"].append(right)
    details = {name: sum(found) / len(found) for name, found in kinds.items() if found}
    return flat_result(items, values, details)
