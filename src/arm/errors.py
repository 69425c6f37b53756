"""Errors that a user can cause and mend. The command line prints them as one line, exit code 2."""

import difflib
from collections.abc import Iterable


class ArmError(Exception):
    """One clear line: what is wrong and what would be right."""


class ConfigError(ArmError):
    """A run or an override that does not exist or does not fit."""


class DataError(ArmError):
    """Training or evaluation data that is missing, broken, or of another form than said."""


class WeightsError(ArmError):
    """Weights that are missing, damaged, or made for another model."""


class TrainingError(ArmError):
    """A training run cannot go on."""


class InputError(ArmError):
    """A picture, a text or an option that the model cannot take."""


def nearest(word: str, options: Iterable[str], n: int = 1) -> list[str]:
    """At most `n` options that look like `word` whatever the case, the best first."""
    spelled = {option.lower(): option for option in options}
    return [spelled[close] for close in difflib.get_close_matches(word.lower(), spelled, n)]


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """ " Did you mean 'x'?" with the nearest option, or "" where none is near."""
    return "".join(f" Did you mean '{option}'?" for option in nearest(word, options))
