"""Where lines begin, by hand."""

from pathlib import Path

import pytest

from arm.data.source_jsonl import index_lines, read_at
from arm.errors import DataError


def test_offsets_and_numbers_by_hand(tmp_path: Path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_bytes("é\n\n  \nb\n".encode())
    two.write_bytes(b"\nlast")
    lines = index_lines([one, two])
    assert len(lines) == 3
    assert lines.offset_N.tolist() == [0, 7, 1]  # é is two bytes
    assert lines.number_N.tolist() == [1, 4, 2] and lines.file_N.tolist() == [0, 0, 1]
    assert [lines.read(i) for i in range(3)] == ["é\n".encode(), b"b\n", b"last"]
    assert [lines.where(i) for i in range(3)] == ["one.jsonl:1", "one.jsonl:4", "two.jsonl:2"]


def test_no_files():
    assert len(index_lines([])) == 0


def test_reading_at_an_offset(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    assert read_at(path, 2, 3, "x:1") == b"cde"
    with pytest.raises(DataError, match=r"^x:1: .* cannot be read any more \(No such file"):
        read_at(tmp_path / "y", 0, 1, "x:1")
