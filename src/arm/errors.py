"""Errors that a user can cause and correct, and what messages show of a user's own text.

Exit codes of the command line, by which a script can tell what is at fault:

    0    done
    2    the command, its configuration, its data or its weights, or the machine (a full disk, a forbidden
         folder): one line on stderr says what is wrong and what would be right
    1    a defect of this package: a traceback
    130  interrupted (Ctrl-C); what was finished is kept

A training run that was killed, by whatever, resumes when the same command is given again.
"""

import difflib
import operator
from collections.abc import Iterable
from typing import Any

LONG = 200
"""Characters of a user's own text that an error repeats."""


class ArmError(Exception):
    """One clear line: what is wrong and what would be right."""


class ConfigError(ArmError):
    """A run, a configuration key or a value that does not exist or does not fit."""


class DataError(ArmError):
    """Training or evaluation data that is missing, broken, or not in the stated format."""


class WeightsError(ArmError):
    """Weights that are missing, damaged, or made for another model."""


class TrainingError(ArmError):
    """A training run that cannot continue."""


class InputError(ArmError):
    """A picture, a text or an argument that the model cannot take."""


def checked_int(name: str, value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    """An argument as a Python int: an int, or a NumPy or torch scalar of an integer type.

    Raises InputError for other types, and for numbers outside of [least, most].
    """
    try:
        number = operator.index(value)
    except (TypeError, RuntimeError, ValueError):
        raise InputError(f"{name} must be a whole number, not {shown(repr(value))}") from None
    if not least <= number <= most:
        limit = f"at least {least}" if number < least else f"at most {most}"
        raise InputError(f"{name} must be {limit}, not {number}")
    return number


def not_utf8(text: str) -> str:
    """What is wrong with a text that no UTF-8 file can hold, as "holds ...; ..."; "" where nothing is.

    JSON can write half a character, as a cut emoji leaves it, and Python reads a byte that is not UTF-8 in an
    argument or a file's name as one.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        return f"holds {half}, half a character or a byte that is not UTF-8; write it as UTF-8"
    return ""


def escaped(text: str) -> str:
    """A text on one line, with control characters and lone surrogates as their Python escapes, so that a terminal
    neither obeys nor refuses it.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(text: str) -> str:
    """A user's name or value as an error shows it: `escaped`, and without its middle where it is long."""
    line = escaped(text if len(text) <= 2 * LONG else text[:LONG] + text[-LONG:])
    if len(line) <= LONG and len(text) <= LONG:
        return line
    return f"{line[: LONG - 40]}...{line[-40:]} ({len(text):,} characters)"


def nearest(word: str, options: Iterable[str], n: int = 1) -> list[str]:
    """At most `n` options that look like `word` whatever the case, the best first."""
    if len(word) > LONG:  # comparing is quadratic in the length
        return []
    spelled = {option.lower(): option for option in options}
    return [spelled[close] for close in difflib.get_close_matches(word.lower(), spelled, n)]


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """ " Did you mean 'x'?" with the nearest option, or "" where none is near."""
    return "".join(f" Did you mean '{option}'?" for option in nearest(word, options))
