"""What users are told: one kind of error, and the nearest name."""

from arm.errors import (
    ArmError,
    ConfigError,
    DataError,
    InputError,
    WeightsError,
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
