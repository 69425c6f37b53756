"""What users are told: one kind of error, and the nearest name."""

from arm.errors import (
    ArmError,
    ConfigError,
    DataError,
    InputError,
    WeightsError,
    did_you_mean,
    nearest,
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
