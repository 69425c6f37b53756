"""The check of a source before a run depends on it: reads all of it once, counts what is there and names every fault."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.data.conversation import task_of
from arm.data.records import Record, Source
from arm.data.sources import left_out
from arm.errors import DataError

Track = Callable[[Sequence[int]], Iterable[int]]
"""Wraps the indices of a long loop, for a progress bar."""


@dataclass(frozen=True)
class Spread:
    """The smallest, median and largest of many numbers."""

    least: int
    median: int
    largest: int


@dataclass(frozen=True)
class Report:
    """The contents of a source.

    width, height: in pixels, of the pictures that could be read; None without any. longest_text: characters of the
    longest conversation's words, and its place. faults: the first ones, each a line "place: what is wrong; what
    would be right"; num_faults counts all. left_out: the files of the folder that no record was made of, a line a
    reason.
    """

    name: str
    records: int
    images: int
    tasks: Mapping[str, int]
    width: Spread | None
    height: Spread | None
    longest_text: tuple[int, str]
    num_faults: int
    faults: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        data = {**vars(self), "tasks": dict(self.tasks)}
        return data | {
            key: vars(spread)
            for key in ("width", "height")
            if (spread := getattr(self, key)) is not None
        }


def check_source(
    source: Source, *, images: bool = True, max_faults: int = 20, track: Track = iter
) -> Report:
    """Parses every record and, with `images`, decodes every picture.

    max_faults: how many faults are named; all are counted.
    """
    tasks: Counter[str] = Counter()
    widths, heights = array("l"), array("l")
    longest = (0, "")
    num_images = num_faults = 0
    faults: list[str] = []

    def fault(error: DataError) -> None:
        nonlocal num_faults
        num_faults += 1
        if len(faults) < max_faults:
            faults.append(str(error))

    for index in track(range(len(source))):
        try:
            record = source.record(index)
        except DataError as error:
            fault(error)
            continue
        tasks[task_of(record.conversation)] += 1
        longest = max(longest, (text_length(record), record.where), key=lambda pair: pair[0])
        num_images += len(record.conversation.images)
        for k in range(len(record.conversation.images) if images else 0):
            try:
                width, height = record.image(k).size
            except DataError as error:
                fault(error)
                continue
            widths.append(width)
            heights.append(height)
    return Report(
        source.name,
        len(source),
        num_images,
        tasks,
        spread(widths),
        spread(heights),
        longest,
        num_faults,
        tuple(faults),
        tuple(map(str, left_out(source))),
    )


def text_length(record: Record) -> int:
    """The number of characters of all words of a conversation."""
    parts = (part for message in record.conversation.messages for part in message.parts)
    return sum(len(part) for part in parts if isinstance(part, str))


def spread(values: Sequence[int]) -> Spread | None:
    """The spread of some values, None without any. The median of an even count is the lower of the middle two."""
    if not values:
        return None
    ordered = sorted(values)
    return Spread(ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1])
