"""Where lines begin, by hand; files that other programs wrote, lines without bounds, and pictures outside."""

import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm.data import source_jsonl
from arm.data.check import check_source
from arm.data.source_jsonl import index_lines, read_at
from arm.data.sources import open_source
from arm.errors import DataError
from user_data import RECORDS, SHORT, TEXT, png, write_jsonl


@contextmanager
def _file(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(content)
        yield path


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


@given(st.lists(st.sampled_from([b"a", b"\n", b" ", b"\r", b"bc"]), max_size=40))
def test_blocks_do_not_matter(pieces: list[bytes]):
    """Lines that cross the end of a block are those that Python's own reading of lines finds."""
    content = b"".join(pieces)
    expected, offset = [], 0
    for number, line in enumerate(BytesIO(content), 1):
        if line.strip():
            expected.append((number, offset))
        offset += len(line)
    with pytest.MonkeyPatch.context() as patch, _file(content) as path:
        patch.setattr(source_jsonl, "BLOCK_BYTES", 7)
        lines = index_lines([path])
    assert list(zip(lines.number_N, lines.offset_N, strict=True)) == expected


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_and_line_endings(tmp_path: Path, newline: bytes, mark: bytes):
    write_jsonl(tmp_path / "x.jsonl")
    lines = [json.dumps(record).encode() for record in RECORDS]
    (tmp_path / "x.jsonl").write_bytes(mark + newline.join([*lines, b"", mark]))
    report = check_source(open_source(tmp_path))
    assert (report.records, report.num_faults, report.images) == (6, 0, 7)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
def test_wide_characters_are_refused(tmp_path: Path, encoding: str):
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "x.jsonl").write_bytes((mark + json.dumps(TEXT)).encode(encoding))
    with pytest.raises(
        DataError, match=r"x\.jsonl is written in UTF-16 or UTF-32; save it as UTF-8"
    ):
        open_source(tmp_path)


def test_a_line_without_bounds_is_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A line of 256 MiB where 4 MiB are allowed."""
    monkeypatch.setattr(source_jsonl, "MAX_LINE_BYTES", 4 * 2**20)
    path = write_jsonl(tmp_path / "x.jsonl", [TEXT])
    line = path.read_bytes()
    with path.open("r+b") as file:
        file.write(line + b'{"a": "')
        file.seek(2**28, 1)  # a hole
        file.write(b'"}\n' + line)
    tracemalloc.start()
    report = check_source(open_source(path))
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
    assert report.records == 3
    assert report.faults == ("x.jsonl:2: the line has more than 4 MiB; give one record a line",)


def test_the_first_line_is_as_any_other(tmp_path: Path):
    for lines, fault in (
        ([{"version": 1}, SHORT], "x.jsonl:1: its keys are version; a record needs"),
        (["a header", SHORT], "x.jsonl:1: a record is a JSON object, not text"),
        ([*[{"version": k} for k in range(50)], SHORT], "x.jsonl:1: its keys are version"),
    ):
        report = check_source(open_source(write_jsonl(tmp_path / "x.jsonl", lines)))
        assert report.num_faults == len(lines) - 1 and report.faults[0].startswith(fault)
    write_jsonl(tmp_path / "x.jsonl", [{"a": 1}] * 3)
    with pytest.raises(DataError, match=r"x\.jsonl:1: its keys are a; a record needs"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "name", ["../red.png", "a/../../red.png", "..", "/etc/x.png", "C:\\x.png", "..\\x.png"]
)
def test_pictures_outside_of_the_folder(tmp_path: Path, name: str):
    (tmp_path / "red.png").write_bytes(png("red.png"))
    path = write_jsonl(tmp_path / "set/x.jsonl", [{**SHORT, "image": name}])
    fault = "x.jsonl:1: the picture .* lies outside of .*set; copy it there, or allow it with --allow-out"
    record = open_source(path).record(0)
    for read in (record.image, record.size, lambda k: record.fitted_image(k, ((1, 1),), 8)):
        with pytest.raises(DataError, match=fault):
            read(0)
    if name == "../red.png":
        assert open_source(path, allow_outside=True).record(0).image(0).size == (8, 8)


@pytest.mark.parametrize(
    "name", ["red.png", "./red.png", "a/../red.png", "a/b/red.png", "link/red.png", "..red.png"]
)
def test_pictures_inside_of_the_folder(tmp_path: Path, name: str):
    """Also through a link to elsewhere that the user made."""
    path = write_jsonl(tmp_path / "set/x.jsonl", [{**SHORT, "image": name}])
    for folder in (tmp_path / "elsewhere", tmp_path / "set/a/b"):
        folder.mkdir(parents=True)
        (folder / "red.png").write_bytes(png("red.png"))
    (tmp_path / "set/..red.png").write_bytes(png("red.png"))
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere")
    assert open_source(path).record(0).image(0).size == (8, 8)


def test_text_of_a_record_is_printed_without_escapes_and_cut(tmp_path: Path):
    escape = "\x1b[31m" + "x" * 5000
    records = [
        {escape: 1},
        {"image": escape, "text": "red"},
        {"messages": [{"role": escape, "content": "x"}]},
        {"messages": [{"role": "user", escape: "x"}]},
        {"messages": [{"role": "assistant", "content": "x", "weight": escape}]},
    ]
    report = check_source(open_source(write_jsonl(tmp_path / "\x1b[31m.jsonl", [TEXT, *records])))
    assert report.num_faults == 5
    assert all(fault.isprintable() and len(fault) < 1000 for fault in report.faults), report.faults
