"""Reads a score, or a list of scores, at a position of a plain answer (`answer.py`)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The numbers that a score may be, both ends included. whole: integers alone."""

    low: float
    high: float
    whole: bool = False

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high and (not self.whole or value == int(value))


Value = tuple[tuple[float, ...] | None, int]
"""Scores, None where they are ambiguous, and the position behind them."""
Reader = Callable[[str, int], Value | None]
"""Reads the value at a position of a text; None where none stands there."""


_NUMBER = r"[-+]?\d{1,9}(?:\.\d{1,9})?"
_OF = r"(?: ?(?:/|out of|of) ?(?:a (?:possible|maximum) )?(\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d))?"
_OF_ASIDE = r"(?: ?\( ?(?:/|out of|of|max\w*:?) ?(\d{1,9}) ?\))?"
_SCORE = re.compile(
    rf"([\[({{<]? ?)({_NUMBER}){_OF}{_OF_ASIDE}(?: (?:points?|pts|stars?)\b| ?\u5206)?"
)
_GOES_ON = re.compile(
    r"[^\W_]|[+±%‰°²³½¼¾]|\.\d|,\d|\s?(?:[-~/+±<>=]|->|→|=>|\.{2,}|…|(?:to|or|and|through|til|until|but)\b) ?[(\[]?\d"
    r"|\s?,\s?\d|\s?\|\s?\d|\s?[\])]? ?\?",
    re.IGNORECASE,
)
"""What makes the number before it a part of something else: a unit, a range, a list, a question."""


def read_number(text: str, at: int, scale: Scale) -> Value | None:
    """One score and what belongs to it, as 4/5 or [4]."""
    match = _SCORE.match(text, at)
    if match is None:
        return None
    end = match.end()
    if match[1].strip() and text[end : end + 2].strip()[:1] in ("]", ")", "}", ">"):
        end = text.index(text[end : end + 2].strip()[0], end) + 1
    value = _in_scale(match[2], (match[3], match[4]), scale)
    if match[1].strip() == "<" and text[end - 1] != ">":
        value = None  # "below 2", not a number in brackets
    if _GOES_ON.match(text, end) or _GOES_ON.match(text, match.end()):
        value = None
    return (None if value is None else (value,)), end


def _in_scale(number: str, of: Sequence[str | None], scale: Scale) -> float | None:
    if any(most is not None and float(most) != scale.high for most in of):
        return None
    return float(number) if scale.contains(float(number)) else None


_ITEM = rf"{_NUMBER}{_OF}(?: ?\([^()\n]{{0,60}}\))?"
_ITEMS = re.compile(rf"[\[(]\s?{_ITEM}(?:\s?[,;]\s?{_ITEM}){{0,9}}\s?,?\s?[\])]")
_EACH = re.compile(rf"({_NUMBER}){_OF}(?: ?\([^()\n]{{0,60}}\))?")


def read_list(text: str, at: int, count: int, scale: Scale) -> Value | None:
    """Scores in brackets; a number without brackets is ambiguous."""
    match = _ITEMS.match(text, at)
    if match is None:
        number = re.compile(rf"[\[(]?\s?{_NUMBER}").match(text, at)
        return None if number is None else (None, number.end())
    values = [_in_scale(m[1], (m[2],), scale) for m in _EACH.finditer(match[0])]
    known = [v for v in values if v is not None]
    after = re.compile(r"\s?\?|\s?(?:or|to|and|/|-|->|→)\s?[\[(]?\d", re.I).match(text, match.end())
    whole = len(known) == len(values) == count and after is None
    return (tuple(known) if whole else None), match.end()
