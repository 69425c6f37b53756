"""DSG-1k (arXiv 2310.18235) and DPG-Bench (arXiv 2403.05135): yes/no questions about pictures of prompts.

A question counts 0 where a question that it depends on, directly or through others, was answered no.
DPG's published score is the mean over prompts of the mean over pictures of the mean over questions, in
percent; here it is in [0, 1].
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Benchmark,
    Item,
    JudgePrompt,
    Result,
    checked_items,
    mean_of_items,
)
from arm.evals.benchmarks.files import (
    find_file,
    not_here,
    read_json_lines,
    require,
    require_text,
    text_of,
)
from arm.judge.choices import read_yes_no

DSG_COUNT, DPG_COUNT = 1060, 1065
DSG_FILES = ("dsg-1k-anns.csv", "dsg/data/dsg-1k-anns.csv", "data/dsg-1k-anns.csv")
DPG_TEXTS = ("prompts", "dpg_bench/prompts")
"""The authors' folders with one .txt file a prompt; the file's stem is the prompt's id."""
DPG_LINES = "prompts.jsonl"
"""All prompts in one file, with `item_id` and `prompt` on each line."""
DPG_QUESTIONS = ("dpg_bench.csv", "dpg_bench/dpg_bench.csv")
COLUMNS = ("item_id", "text", "proposition_id", "dependency", "question_natural_language")
CHAT_NOTE = "a chat judge that answers yes or no replaces the authors' VQA {}: its scores are on another scale"
DSG_NOTE = CHAT_NOTE.format("models, PaLI, mPLUG-large and InstructBLIP")
DPG_NOTE = CHAT_NOTE.format("model, mPLUG-large")


def load_dsg(directory: Path, partial: bool = False) -> list[Item]:
    """The prompts of `dsg-1k-anns.csv`, each with its questions by number.

    A group is the source of a prompt, which its id begins with. Raises DataError.
    """
    items = read_questions(find_file(directory, DSG_FILES, "DSG-1k"))
    return checked_items(list(items.values()), DSG_COUNT, "DSG-1k", partial)


def load_dpg(directory: Path, partial: bool = False) -> list[Item]:
    """DPG-Bench's prompts, with the questions of `dpg_bench.csv` where that file is present.

    Without it pictures can be made but not scored. Raises DataError.
    """
    prompts = dpg_prompts(directory)
    asked = next((directory / n for n in DPG_QUESTIONS if (directory / n).is_file()), None)
    questions = {} if asked is None else read_questions(asked)
    items = [
        Item(
            name,
            text,
            "all",
            data=questions[name].data if name in questions else {"questions": {}},
        )
        for name, text in prompts.items()
    ]
    return checked_items(items, DPG_COUNT, "DPG-Bench", partial)


def dpg_prompts(directory: Path) -> dict[str, str]:
    """The prompts by id, sorted, from the authors' text files or from one JSON Lines file."""
    path = directory / DPG_LINES
    if path.is_file():
        return {
            str(require(line, "item_id", f"{path}:{n}")): require_text(
                line, "prompt", f"{path}:{n}"
            )
            for n, line in read_json_lines(path)
        }
    for folder in DPG_TEXTS:
        if files := sorted((directory / folder).glob("*.txt"), key=lambda file: file.stem):
            return {
                file.stem: text_of(file).strip() for file in files if not file.name.startswith(".")
            }
    expected = (*(f"{folder}/*.txt" for folder in DPG_TEXTS), DPG_LINES)
    raise not_here(directory, expected, "DPG-Bench")


def read_questions(path: Path) -> dict[str, Item]:
    """The prompts of a CSV file that has a line for each question. Raises DataError."""
    items: dict[str, Item] = {}
    try:
        reader = csv.DictReader(StringIO(text_of(path), newline=""))
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        for row in reader:
            if None in (row[column] for column in COLUMNS):
                raise DataError(f"{path}:{reader.line_num}: the line is incomplete")
            name = row["item_id"]
            group = name.rpartition("_")[0]
            item = items.setdefault(name, Item(name, row["text"], group, data={"questions": {}}))
            # Ten rows of the published file name a word beside a number; the number is meant.
            parents = [p.strip() for p in row["dependency"].split(",")]
            item.data["questions"][int(row["proposition_id"])] = {
                "text": row["question_natural_language"],
                "parents": [int(p) for p in parents if p.isdigit() and int(p)],
            }
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is not a file of questions ({error})") from None
    return items


def with_dependencies(
    questions: Mapping[int, Mapping[str, Sequence[int]]], answers: Mapping[int, bool | None]
) -> dict[int, bool | None]:
    """Each question's answer after its dependencies.

    False where the question or one that it depends on was answered no; None where none of them was
    answered no and an answer is missing. Some published questions depend on themselves; such cycles
    have no effect.
    """
    settled: dict[int, bool | None] = {}
    for number in questions:
        chain, todo = {number}, [number]
        while todo:
            parents = questions[todo.pop()]["parents"]
            new = [p for p in parents if p in questions and p not in chain]
            chain |= set(new)
            todo += new
        given = [answers.get(n) for n in chain]
        settled[number] = False if False in given else None if None in given else True
    return settled


def score(
    items: Sequence[Item], answers: Mapping[str, Sequence[Mapping[int, bool | None]]]
) -> Result:
    """The score in [0, 1] from the answers by item, picture and question.

    The score of a prompt is the mean over its pictures of the mean over the questions that have an
    answer; the overall score is the mean over prompts, regardless of group. Verdicts are counted as
    answers; a prompt about which nothing was asked is one missing verdict.
    """
    values: dict[str, float | None] = {}
    asked = missing = 0
    for item in items:
        pictures, before = [], asked
        for given in answers.get(item.id, ()):
            settled = with_dependencies(item.data["questions"], given)
            known = [v for v in settled.values() if v is not None]
            asked, missing = asked + len(settled), missing + len(settled) - len(known)
            if known:
                pictures.append(sum(known) / len(known))
        if asked == before:
            asked, missing = asked + 1, missing + 1
        values[item.id] = sum(pictures) / len(pictures) if pictures else None
    details = {"questions": float(asked), "questions_missing": float(missing)}
    return replace(mean_of_items(items, values, details), missing=missing, total=asked)


def judge_prompts(directory: Path, item: Item) -> list[JudgePrompt]:
    """One question to the judge for each of the item's."""
    return [
        JudgePrompt(
            f"{question['text']} Answer with one word, yes or no.",
            False,
            lambda reply: read_yes_no(reply) is not None,
        )
        for question in item.data["questions"].values()
    ]


def score_replies(items: Sequence[Item], replies: Mapping[str, Any]) -> Result:
    """The score from the judge's replies `[item][picture][question]`."""
    answers = {}
    for item in items:
        numbers = list(item.data["questions"])
        answers[item.id] = [
            {n: None if r is None else read_yes_no(r) for n, r in zip(numbers, given, strict=True)}
            for given in replies.get(item.id, [])
        ]
    return score(items, answers)


BENCHMARKS = (
    Benchmark(
        "dsg",
        "drawing",
        load_dsg,
        score_replies,
        judge_prompts=judge_prompts,
        notes=(DSG_NOTE,),
    ),
    Benchmark(
        "dpg",
        "drawing",
        load_dpg,
        score_replies,
        images_per_item=4,
        judge_prompts=judge_prompts,
        notes=(DPG_NOTE,),
    ),
)
