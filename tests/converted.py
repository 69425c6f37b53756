"""Helps tests of conversions: rows with pictures as Parquet has them, and what became of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arm.data.convert import convert
from arm.data.records import Record
from arm.data.sources import open_source
from user_data import COLORS, png

RED, GREEN, BLUE = ({"bytes": png(name), "path": None} for name in COLORS)


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """As the hub has it: a folder with data/*.parquet."""
    (folder / "set/data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "set/data/train-0.parquet")
    return folder / "set"


def told(record: Record) -> list[str]:
    """The words of each message, pictures by their colour."""
    names = {value: name.removesuffix(".png") for name, value in COLORS.items()}

    def part(piece: str | int) -> str:
        if isinstance(piece, str):
            return piece
        return names[tuple(np.array(record.image(piece))[0, 0])].upper()

    return [" ".join(map(part, message.parts)) for message in record.conversation.messages]


def converted(name: str, source: Path, **options: Any) -> dict[str, list[str]]:
    out = source.parent / "out"
    count, skipped = convert(name, source, out, **options)
    assert skipped == 0 and not list(out.glob("*.tmp"))
    found = open_source(out / "train.jsonl")
    assert len(found) == count
    return {r.conversation.id: told(r) for r in map(found.record, range(count))}
