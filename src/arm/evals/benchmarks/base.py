"""What all published benchmarks share: their items, what a judge is asked, and the means that make a score."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from arm.errors import DataError
from arm.evals.statistics import Score, weighted_mean_of_groups
from arm.judge.asking import Asking

Kind = Literal["drawing", "editing", "questions"]
"""What the model is asked for: pictures of prompts, edits of pictures, or answers to questions."""


@dataclass(frozen=True)
class Item:
    """One prompt, edit instruction or question of a benchmark."""

    id: str
    text: str
    """What the model is given."""
    group: str
    """The category whose mean it counts towards."""
    image: str | None = None
    """The picture to edit, or the (first) picture asked about: a path below the image folder."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the score needs, under the authors' own names."""
    images: Mapping[str, str] = field(default_factory=dict)
    """For a question that places its pictures: each marker in `text` and the path of its picture."""
    ranked: Mapping[str, str] = field(default_factory=dict)
    """Options by letter, where the answer is the likeliest option and not text of the model's own."""


@dataclass(frozen=True)
class Submission:
    """Answers in the form that the authors' server takes, which alone has the right ones."""

    entries: Sequence[Mapping[str, Any]]
    advice: str
    """What to do with the file."""


@dataclass(frozen=True)
class JudgePrompt:
    """One question to the judge about one picture."""

    text: str
    shows_source: bool
    """Whether the judge sees the source picture before the made one."""
    readable: Callable[[str], bool]
    """Whether a reply holds a verdict."""


@dataclass(frozen=True)
class AnswerMatching:
    """How a judge reads answers that the benchmark's rules cannot read."""

    ask: Callable[[Item, str], str | None]
    """The question to the judge about an answer; None where the rules can read it."""
    read: Callable[[Item, str], str | None]
    """What replaces the answer, from the judge's reply; None where the reply is unreadable."""
    again: str
    """What the judge is told after an unreadable reply."""
    no_option: str = ""
    """What replaces an answer that means none of the options."""


@dataclass(frozen=True)
class Result:
    """The score of a benchmark with its parts."""

    overall: Score
    groups: Mapping[str, Score]
    missing: int
    """How many of `total` verdicts are missing."""
    total: int
    """Verdicts that a complete run has: one an item, or several where an item has several."""
    details: Mapping[str, float] = field(default_factory=dict)
    """What else the benchmark reports."""
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The score of each item that has one, by group and id, for comparisons of two runs."""
    items: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    """The weight of each group's mean in `overall`; empty where `overall` is the mean over items."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """By item id, the key in `values` of a score that several items share."""

    @property
    def missing_share(self) -> float:
        return self.missing / self.total

    def key_of(self, item: Item) -> str:
        """The key of an item's score among its group's values."""
        return self.keys.get(item.id, item.id)

    def value_of(self, item: Item) -> float | None:
        """An item's score, or the one that it shares; None where it has none."""
        return self.values.get(item.group, {}).get(self.key_of(item))


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark: how it is read, what is made for it, who judges, and how it is scored."""

    name: str
    kind: Kind
    load: Callable[[Path], list[Item]]
    """Reads the items from the folder that the user names. Raises DataError."""
    score: Callable[[Sequence[Item], Mapping[str, Any]], Result]
    """The result, from the replies of a judge `[item][picture][prompt]` (None where missing); for
    "questions" from the answers by item; with a detector from whether each picture is right."""
    images_per_item: int = 1
    """How many pictures the authors ask for."""
    judge_prompts: Callable[[Path, Item], list[JudgePrompt]] = field(
        default=lambda directory, item: []
    )
    """What the judge is asked about each picture of an item."""
    uses_detector: bool = False
    """Whether an object detector takes the judge's place."""
    image_folders: tuple[str, ...] = ()
    """Where the benchmark's own pictures may lie below the folder that the user names."""
    unpack: Callable[[Path, Sequence[Item], Path], bool] | None = None
    """Writes pictures that the authors keep inside their tables into a folder; returns False where they
    are files of their own."""
    submission: Callable[[Path, Sequence[Item], Mapping[str, str]], Submission | None] | None = None
    """The answers for the authors' server; None where the right answers are at hand."""
    matching: AnswerMatching | None = None
    notes: tuple[str, ...] = ()
    """What a reader of the score must know: the prompt, and where the rules are not the authors'."""
    judge_note: Callable[[Path], str] | None = None
    """Whose wording the judge's prompts are, given the user's folder."""
    asking: Asking = field(default_factory=Asking)
    """How the authors ask their judge: temperature, longest reply, thinking."""
    best: float = 1.0
    """The highest possible score, for the axes of plots."""


def checked_items(
    items: Sequence[Item], counts: int | Sequence[int], benchmark: str, partial: bool
) -> list[Item]:
    """The items, after checks of their number, texts and ids.

    counts: the published number, or numbers of several versions. partial: accept any number.

    Raises DataError where a check fails.
    """
    known = (counts,) if isinstance(counts, int) else tuple(counts)
    if len(items) not in known and not partial:
        raise DataError(
            f"{benchmark} has {' or '.join(f'{n:,}' for n in known)} items, this folder has "
            f"{len(items):,}: its files are incomplete or of another version"
        )
    for item in items:
        texts = (item.text, item.group, item.image or "", *item.ranked.values())
        if not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{benchmark}: the prompt, category, option or picture of item {item.id} is not a string"
            )
    if len({item.id for item in items}) != len(items):
        raise DataError(f"{benchmark}: two items have the same id")
    return list(items)


def mean_of_groups(
    items: Sequence[Item],
    values: Mapping[str, float | None],
    weights: Mapping[str, float] | None = None,
    details: Mapping[str, float] | None = None,
) -> Result:
    """The mean of each group, then their mean (weighted where weights are given).

    A group without any value has no score and does not enter the mean; items without a value count
    as missing. Raises DataError where no item has a value.
    """
    scored: dict[str, dict[str, float]] = {}
    for item in items:
        value = values.get(item.id)
        if value is not None:
            scored.setdefault(item.group, {})[item.id] = value
    groups = {name: list(by_id.values()) for name, by_id in scored.items()}
    if not groups:
        raise DataError("all verdicts are missing: there is nothing to score")
    missing = len(items) - sum(map(len, groups.values()))
    each = {name: weighted_mean_of_groups({name: scores}) for name, scores in groups.items()}
    overall = weighted_mean_of_groups(groups, weights)
    shares = {name: 1.0 if weights is None else weights[name] for name in groups}
    return Result(overall, each, missing, len(items), details or {}, scored, len(items), shares)


def mean_of_items(
    items: Sequence[Item],
    values: Mapping[str, float | None],
    details: Mapping[str, float] | None = None,
) -> Result:
    """The mean over all items regardless of group, with the mean of each group beside it."""
    flat = mean_of_groups([Item(item.id, "", "all") for item in items], values)
    grouped = mean_of_groups(items, values, details=details)
    return replace(grouped, overall=flat.overall, weights={})


def first_replies(replies: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, Sequence[Any]]:
    """The replies about the first picture of each item that has one."""
    return {name: by_picture[0] for name, by_picture in replies.items() if by_picture}


@dataclass(frozen=True)
class PublishedScore:
    """What one system reached on a benchmark, as its source states it."""

    system: str
    scores: Mapping[str, float]
    """By measure, in the unit of our reports; "overall" is the main score, the others are `details`."""
    source: str
    judge: str
    """"not stated" where the source does not name it, "none" where there is none."""


@dataclass(frozen=True)
class Published:
    """The published scores of a benchmark, to stand beside ours."""

    rows: Sequence[PublishedScore] = ()
    note: str = ""
    """What must be known before they are compared."""
    own_measures: Sequence[str] = ()
    """Measures of our reports that belong beside them though no source states them."""


@cache
def _published_entries() -> list[dict[str, Any]]:
    text = files("arm.evals.benchmarks").joinpath("published.json").read_text(encoding="utf-8")
    return json.loads(text)


def published_scores(benchmark: str) -> Published:
    """The published scores of a benchmark; no rows for one that has none."""
    for entry in _published_entries():
        if benchmark in entry["benchmarks"]:
            rows = [
                PublishedScore(system, scores, table["source"], table["judge"])
                for table in entry["tables"]
                for system, scores in table["scores"].items()
            ]
            return Published(rows, entry.get("note", ""), tuple(entry.get("own_measures", ())))
    return Published()
