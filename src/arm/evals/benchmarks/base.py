"""What the benchmarks share: items, reading the authors' files, and means over groups."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from arm.errors import DataError
from arm.evals.statistics import Score, weighted_mean_of_groups

V = TypeVar("V")


@dataclass(frozen=True)
class Item:
    """One prompt, instruction or question. `image`: its source or the (first) picture asked about, as a
    path below the benchmark's own folder of images; `images`: all pictures of a question that says where
    they stand, by the marks for them in `text`; `ranked`: by letter, the options of a question whose answer
    is the likeliest of them, not words of the model's own; `data`: what its score needs, as its authors
    name it.
    """

    id: str
    text: str
    group: str
    image: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    ranked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HandIn:
    """Answers as a server takes them that alone has the right ones. `advice`: what to do with them."""

    entries: Sequence[Mapping[str, Any]]
    advice: str


@dataclass(frozen=True)
class Result:
    """The score over all items with its interval, that of each group, and how many verdicts are
    missing of how many (`total`), of a benchmark with several verdicts an item those themselves.
    `details`: what else the benchmark reports. `values`: the score of each item that has one, by group
    and then by id, so that two runs can be compared item by item. `weights`: what each group's mean weighs
    in `overall`; none where that is the mean over all items. `items`: how many there are. `keys`: by an
    item's id, the key in `values` of a score that several items share.
    """

    overall: Score
    groups: Mapping[str, Score]
    missing: int
    total: int
    details: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    items: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing_share(self) -> float:
        return self.missing / self.total

    def key_of(self, item: Item) -> str:
        """Under which key of its group's values an item's score stands."""
        return self.keys.get(item.id, item.id)

    def value_of(self, item: Item) -> float | None:
        """An item's score, or the one that it shares; None where it has none."""
        return self.values.get(item.group, {}).get(self.key_of(item))


def need_file(directory: Path, name: str, benchmark: str) -> Path:
    """A file of a benchmark's directory. Raises DataError that says what should be there."""
    path = directory / name
    if not path.is_file():
        raise DataError(f"{directory} is no {benchmark} directory: it has no {name}")
    return path


def read_json(path: Path) -> Any:
    """Raises DataError for a file that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON file ({error})") from None


def json_object(path: Path) -> dict[str, Any]:
    """Raises DataError for a file that holds anything else than one JSON object."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object; is this another version of the file?")
    return found


def need_list(found: Any, where: str) -> list[Any]:
    """Raises DataError for anything else than a list."""
    if not isinstance(found, list):
        raise DataError(f"{where} holds no list; is this another version of the file?")
    return found


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects. Raises DataError that names the line at fault."""
    try:
        # Not splitlines: a text may hold other ends of a line, as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: no JSON ({error})") from None
        if not isinstance(found, dict):
            raise DataError(f"{path}:{number}: no JSON object")
        yield number, found


def need(data: Mapping[str, Any], key: str, where: str) -> Any:
    """A field. Raises DataError that names where it is missing."""
    if not isinstance(data, Mapping) or key not in data:
        raise DataError(
            f"{where}: the field '{key}' is missing; is this another version of the file?"
        )
    return data[key]


def need_text(data: Mapping[str, Any], key: str, where: str) -> str:
    """A field that is a text. Raises DataError for anything else."""
    found = need(data, key, where)
    if not isinstance(found, str):
        raise DataError(
            f"{where}: the field '{key}' is no text; is this another version of the file?"
        )
    return found


def need_count(items: Sequence[Item], count: int, benchmark: str, partial: bool) -> list[Item]:
    """The items. Raises DataError where they are not as many as published and `partial` is False."""
    if len(items) != count and not partial:
        raise DataError(
            f"{benchmark} has {count:,} items, this directory {len(items):,}: it is of another version, "
            "or cut"
        )
    for item in items:
        texts = (item.text, item.group, item.image or "", *item.ranked.values())
        if not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{benchmark}: the text, category, option or picture of item {item.id} is no text"
            )
    if len({item.id for item in items}) != len(items):
        raise DataError(f"{benchmark}: two items have the same id")
    return list(items)


def result(
    items: Sequence[Item],
    values: Mapping[str, float | None],
    weights: Mapping[str, float] | None = None,
    details: Mapping[str, float] | None = None,
) -> Result:
    """Mean of each group, then their mean (weighted where weights are given). A group of which all
    values are missing has no score and no say; items without a value count as missing.

    Raises DataError where nothing is left to score.
    """
    scored: dict[str, dict[str, float]] = {}
    for item in items:
        value = values.get(item.id)
        if value is not None:
            scored.setdefault(item.group, {})[item.id] = value
    groups = {name: list(found.values()) for name, found in scored.items()}
    if not groups:
        raise DataError("all verdicts are missing: there is nothing to score")
    missing = len(items) - sum(map(len, groups.values()))
    each = {name: weighted_mean_of_groups({name: found}) for name, found in groups.items()}
    overall = weighted_mean_of_groups(groups, weights)
    shares = {name: 1.0 if weights is None else weights[name] for name in groups}
    return Result(overall, each, missing, len(items), details or {}, scored, len(items), shares)


def flat_result(
    items: Sequence[Item],
    values: Mapping[str, float | None],
    details: Mapping[str, float] | None = None,
) -> Result:
    """The mean over all items whatever their group, and that of each group beside it."""
    flat = result([Item(item.id, "", "all") for item in items], values)
    return replace(result(items, values, details=details), overall=flat.overall, weights={})
