"""Skipped items: once each, counted over processes, whatever became of the file."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arm.data.records import Skipped, without_place
from arm.errors import DataError


def test_once_each_over_processes(tmp_path: Path):
    path = tmp_path / "run" / "skipped.jsonl"
    one = Skipped(path)
    assert len(one) == 0 and not path.exists()
    one.add("a:1", "broken")
    two: Skipped = pickle.loads(pickle.dumps(one))  # as another process has it
    two.add("a:1", "broken")
    two.add("ä:2", "missing")
    assert len(one) == len(two) == 2 and "ä:2" in one and "b" not in one
    one.add("ä:2", "missing")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"where": "a:1", "reason": "broken"},
        {"where": "ä:2", "reason": "missing"},
    ]


def test_a_name_that_is_not_utf8(tmp_path: Path):
    path = tmp_path / "skipped.jsonl"
    Skipped(path).add("st\udce4r.png", "why \ud83d")
    assert path.read_bytes().startswith(b'{"where": "st\\udce4r.png"')
    again = Skipped(path)
    assert len(again) == 1 and "st\udce4r.png" in again


def test_many_threads(tmp_path: Path):
    skipped = Skipped(tmp_path / "skipped.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: skipped.add(f"x:{i % 50}", "why"), range(400)))
    assert len(skipped) == 50
    assert len(skipped.path.read_text().splitlines()) == 50


def test_a_line_that_was_cut(tmp_path: Path):
    path = tmp_path / "skipped.jsonl"
    path.write_text('{"where": "a", "reason": "b"}\n{"where": \n{"where": "c", "rea')
    assert len(Skipped(path)) == 1


def test_without_place():
    error = DataError("train.jsonl:3: a.jpg does not exist")
    assert without_place("train.jsonl:3", error) == "a.jpg does not exist"
