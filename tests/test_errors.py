"""What users are told: one kind of error, and the nearest name."""

import numpy as np
import pytest
import torch

from arm.errors import (
    ArmError,
    ConfigError,
    DataError,
    InputError,
    WeightsError,
    checked_int,
    did_you_mean,
    nearest,
    not_utf8,
    shown,
)


def test_every_error_is_an_arm_error() -> None:
    assert all(issubclass(e, ArmError) for e in (ConfigError, DataError, WeightsError, InputError))


def test_nearest() -> None:
    assert nearest("hiden_size", ["num_heads", "hidden_size"]) == ["hidden_size"]
    assert nearest("MICRO", ["tiny", "Micro"]) == ["Micro"]
    assert nearest("step", ["steps", "stop", "lr"], n=2) == ["steps", "stop"]
    assert nearest("zzz", ["lr"]) == [] and nearest("x", []) == []
    assert did_you_mean("stpes", ["steps"]) == " Did you mean 'steps'?"
    assert did_you_mean("zzz", ["steps"]) == ""


def test_texts_that_no_file_can_hold() -> None:
    assert not_utf8("ein roter Stern \U0001f31f") == ""
    assert not_utf8("a star \ud83d").startswith("holds '\\ud83d', half a character")


def test_what_is_shown_is_one_short_line() -> None:
    assert shown("ein süßer Stern.png") == "ein süßer Stern.png"
    assert shown("a\nb\x1b\udce4") == "a\\nb\\x1b\\udce4"
    long = shown("a" * 500 + "b" * 500)
    assert long == "a" * 160 + "..." + "b" * 40 + " (1,000 characters)"


@pytest.mark.parametrize(
    "value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor([3])]
)
def test_whole_numbers_of_any_library(value: object) -> None:
    number = checked_int("seed", value)
    assert number == 3 and type(number) is int


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (3.0, r"seed must be a whole number, not 3\.0"),
        ("3", "seed must be a whole number, not '3'"),
        (None, "seed must be a whole number, not None"),
        (np.float32(3), "seed must be a whole number, not"),
        (torch.tensor([3, 4]), "seed must be a whole number, not tensor"),
        (-1, "seed must be at least 0, not -1"),
        (2**63, "seed must be at most"),
    ],
)
def test_other_values_are_no_whole_numbers(value: object, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        checked_int("seed", value)
