"""DSG-1k (arXiv 2310.18235) and DPG-Bench (arXiv 2403.05135): questions about pictures of long prompts.

A question counts 0 where any question it depends on was answered no, and so on up. DPG's published
score is the mean over prompts of the mean over pictures of the mean over questions, in percent.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    flat_result,
    json_lines,
    need,
    need_count,
    need_file,
)

DSG_COUNT, DPG_COUNT = 1060, 1065
COLUMNS = ("item_id", "text", "proposition_id", "dependency", "question_natural_language")


def load_dsg(directory: Path, partial: bool = False) -> list[Item]:
    """The prompts of `dsg-1k-anns.csv`, each with its questions by number; the group is the source
    that the id begins with. Raises DataError.
    """
    items = questions_of(need_file(directory, "dsg-1k-anns.csv", "DSG-1k"))
    return need_count(list(items.values()), DSG_COUNT, "DSG-1k", partial)


def load_dpg(directory: Path, partial: bool = False) -> list[Item]:
    """The prompts of `prompts.jsonl`, with the questions of `dpg_bench.csv` where that file is there.

    Without it pictures can be made and not scored. Raises DataError.
    """
    path = need_file(directory, "prompts.jsonl", "DPG-Bench")
    prompts = {
        str(need(line, "item_id", f"{path}:{n}")): need(line, "prompt", f"{path}:{n}")
        for n, line in json_lines(path)
    }
    asked = (
        questions_of(directory / "dpg_bench.csv") if (directory / "dpg_bench.csv").is_file() else {}
    )
    items = [
        Item(name, text, "all", data=asked[name].data if name in asked else {"questions": {}})
        for name, text in prompts.items()
    ]
    return need_count(items, DPG_COUNT, "DPG-Bench", partial)


def questions_of(path: Path) -> dict[str, Item]:
    """The prompts of a CSV file with a line for each question. Raises DataError."""
    found: dict[str, Item] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path} lacks the columns {', '.join(sorted(missing))}")
            for row in reader:
                if None in (row[column] for column in COLUMNS):
                    raise DataError(f"{path}:{reader.line_num}: the line is cut")
                name = row["item_id"]
                item = found.setdefault(
                    name, Item(name, row["text"], name.rpartition("_")[0], data={"questions": {}})
                )
                # Ten rows of the published file name a word beside a number; the number is meant.
                parents = [p.strip() for p in row["dependency"].split(",")]
                item.data["questions"][int(row["proposition_id"])] = {
                    "text": row["question_natural_language"],
                    "parents": [int(p) for p in parents if p.isdigit() and int(p)],
                }
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is no file of questions ({error})") from None
    return found


def with_dependencies(
    questions: Mapping[int, Mapping[str, Sequence[int]]], said: Mapping[int, bool | None]
) -> dict[int, bool | None]:
    """Answers after dependencies: no where a parent is no, missing where the answer is missing or a
    parent's is and none is no. Some questions of the published file depend on themselves; a link that
    leads back says nothing.
    """
    done: dict[int, bool | None] = {}
    for number in questions:
        above, todo = {number}, [number]
        while todo:
            parents = questions[todo.pop()]["parents"]
            new = [p for p in parents if p in questions and p not in above]
            above |= set(new)
            todo += new
        answers = [said.get(n) for n in above]
        done[number] = False if False in answers else None if None in answers else True
    return done


def score(
    items: Sequence[Item], answers: Mapping[str, Sequence[Mapping[int, bool | None]]]
) -> Result:
    """The score in [0, 1] from the answers to each question about each picture of a prompt.

    A prompt's score is the mean over its pictures of the mean over the questions that have an answer.
    The overall score is over prompts, whatever their group. Missing verdicts are answers; a prompt about
    which nothing was asked is one.
    """
    values: dict[str, float | None] = {}
    asked = missing = 0
    for item in items:
        pictures, before = [], asked
        for said in answers.get(item.id, ()):
            settled = with_dependencies(item.data["questions"], said)
            told = [v for v in settled.values() if v is not None]
            asked, missing = asked + len(settled), missing + len(settled) - len(told)
            if told:
                pictures.append(sum(told) / len(told))
        if asked == before:
            asked, missing = asked + 1, missing + 1
        values[item.id] = sum(pictures) / len(pictures) if pictures else None
    details = {"questions": float(asked), "questions_missing": float(missing)}
    return replace(flat_result(items, values, details), missing=missing, total=asked)
