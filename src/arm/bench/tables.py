"""Measured trials for people and as JSON."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from arm.bench.rounds import Row, Spread, Table, spread

WIDE = 140
"""Columns where the output is no terminal."""


def heading(machine: Mapping[str, Any], repeats: int) -> str:
    """Two lines: the machine, and how to read the tables."""
    load = "" if machine["load"] is None else f", load {machine['load']:g}"
    return (
        f"{machine['device']}; {machine['cores']} cores, {machine['threads']} threads{load}; torch "
        f"{machine['torch']}, Python {machine['python']}, {machine['system']}\n"
        f"medians of {repeats} rounds after a warm-up, quartiles behind them; each round runs every row once"
    )


def to_dict(table: Table) -> dict[str, Any]:
    """JSON types, with what is computed from the seconds."""
    return {
        "title": table.title,
        "unit": table.unit,
        "yardstick": None if table.yardstick is None else _figures(table, table.yardstick),
        "rows": [_figures(table, row) for row in table.rows],
    }


def _figures(table: Table, row: Row) -> dict[str, Any]:
    if not row.seconds:
        return {"name": row.name, "left_out": row.left_out}
    ratio, share = table.ratio(row), table.share(row)
    figures = {
        "name": row.name,
        f"{table.unit}_a_second": row.rate,
        "seconds": asdict(spread(row.seconds)),
        "rounds": list(row.seconds),
        "peak_bytes": row.peak_bytes,
        "ratio_to_first": ratio and asdict(ratio),
        "share_of_products": share and asdict(share),
    }
    if row is table.yardstick:
        return {
            "name": row.name,
            "flops_a_second": row.flops / spread(row.seconds).median,
            "seconds": figures["seconds"],
        }
    return figures


def print_table(table: Table) -> None:
    """One line a variant; those that were left out say why."""
    unit = {"tokens": "tokens/s", "pictures": "pictures/s"}.get(table.unit, f"{table.unit}/s")
    columns = ["seconds", "(quartiles)", unit, "peak memory", "vs first", "(quartiles)"]
    if table.yardstick is not None:
        columns.append("share of products")
    shown = RichTable("", *columns, title=table.title, title_justify="left")
    for row in table.rows:
        if row.seconds:
            shown.add_row(row.name, *_cells(table, row))
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    if any(row.seconds for row in table.rows):
        console.print(shown)
    else:
        console.print(table.title)
    if table.yardstick is not None:
        rate = table.yardstick.flops / spread(table.yardstick.seconds).median
        console.print(f"products of {table.yardstick.name}: {rate / 1e9:,.1f} GFLOP/s")
    for row in table.rows:
        if row.left_out:
            console.print(f"left out: {row.name}: {row.left_out}", markup=False)


def _cells(table: Table, row: Row) -> list[str]:
    time = spread(row.seconds)
    peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.1f} MB"
    ratio = table.ratio(row)
    times = ("", "") if ratio is None else (f"{ratio.median:.2f}x", _quartiles(ratio))
    cells = [f"{time.median:.4g}", _quartiles(time), f"{row.rate:,.4g}", peak, *times]
    if table.yardstick is not None:
        share = table.share(row)
        cells.append("" if share is None else f"{share.median:.1%}")
    return cells


def _quartiles(found: Spread) -> str:
    return f"{found.low:.3g} - {found.high:.3g}"
