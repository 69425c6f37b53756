"""Tables for people and for programs."""

import json

import pytest

from arm.bench.rounds import Row, Table
from arm.bench.tables import heading, print_table, to_dict

ROWS = (
    Row("plain", 10.0, 4e9, (2.0, 2.0), 5e6),
    Row("fast", 10.0, 4e9, (1.0, 1.0), None),
    Row("huge", 10.0, 4e9, left_out="it needs about 9.0 GB, 1.0 GB are free"),
)
TABLE = Table("one step", "tokens", ROWS, Row("matrices", 1.0, 8e9, (1.0, 1.0)))


def test_as_json():
    found = json.loads(json.dumps(to_dict(TABLE)))
    plain, fast, huge = found["rows"]
    assert plain["tokens_a_second"] == 5.0 and plain["peak_bytes"] == 5e6
    assert plain["share_of_products"]["median"] == 0.25
    assert fast["ratio_to_first"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert fast["peak_bytes"] is None and fast["rounds"] == [1.0, 1.0]
    assert huge == {"name": "huge", "left_out": "it needs about 9.0 GB, 1.0 GB are free"}
    assert found["yardstick"]["flops_a_second"] == 8e9


def test_in_the_terminal(capsys: pytest.CaptureFixture[str]):
    print_table(TABLE)
    out = capsys.readouterr().out
    assert "2.00x" in out and "25.0%" in out and "5.0 MB" in out
    assert "products of matrices: 8.0 GFLOP/s" in out
    assert "left out: huge: it needs about 9.0 GB" in out


def test_a_table_of_nothing_says_why(capsys: pytest.CaptureFixture[str]):
    print_table(Table("one step", "tokens", ROWS[2:], None))
    out = capsys.readouterr().out.splitlines()
    assert out == ["one step", "left out: huge: it needs about 9.0 GB, 1.0 GB are free"]


def test_heading_names_the_machine():
    machine = {
        "device": "X1", "cores": 2, "threads": 1, "load": 3.5, "torch": "2.13", "python": "3.11",
        "system": "Linux",
    }  # fmt: skip
    assert heading(machine, 5).startswith("X1; 2 cores, 1 threads, load 3.5; torch 2.13")
