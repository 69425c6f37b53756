"""Scores as a table in the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def rows(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every score of a nested result with its dotted name."""
    for name, value in result.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and "value" not in value:
            yield from rows(value, f"{full}.")
        else:
            yield full, value


def shown(value: Any) -> tuple[str, str, str]:
    """Value, interval and sample count as text."""
    if isinstance(value, Mapping):
        interval = f"{value['low']:.3f} - {value['high']:.3f}"
        return f"{value['value']:.3f}", interval, str(value["n"])
    return (f"{value:.4f}" if isinstance(value, float) else str(value)), "", ""


def print_scores(result: Mapping[str, Any]) -> None:
    table = Table("score", "value", "95 % interval", "n")
    for name, value in rows(result):
        table.add_row(name, *shown(value))
    Console().print(table)
