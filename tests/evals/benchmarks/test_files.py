"""Reading the authors' files: what other systems write into text files, and what is damaged."""

import json
from pathlib import Path

import pytest

from arm.errors import DataError, InputError
from arm.evals.benchmarks.base import Benchmark, Item
from arm.evals.benchmarks.files import (
    Fingerprints,
    find_file,
    image_folder,
    missing_hint,
    read_json,
    read_json_lines,
    read_json_object,
    require,
    require_list,
    require_text,
    shown_source,
    source_paths,
    table_rows,
)

CONTENT = {"prompt": "a café", "id": 7}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_marks_and_windows_line_endings(encoding: str, end: str, tmp_path: Path):
    line = json.dumps(CONTENT, ensure_ascii=False)
    path = tmp_path / "x.json"
    path.write_bytes(end.join(["[", line, "]", ""]).encode(encoding))
    assert read_json(path) == [CONTENT]
    path.write_bytes(end.join([line, "", line]).encode(encoding))
    assert list(read_json_lines(path)) == [(1, CONTENT), (3, CONTENT)]


@pytest.mark.parametrize("content", [b"{", b"\xff\xff", b"[" * 100_000, b""])
def test_what_is_not_json_is_one_line(content: bytes, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_json(path)
    assert "x.json" in str(error.value) and "\n" not in str(error.value)


def test_what_is_missing_is_named(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.json").write_text("[1]")
    assert find_file(tmp_path, ("x.json", "b/x.json"), "X") == tmp_path / "b/x.json"
    with pytest.raises(DataError, match=r"does not hold X: expected y\.json or b/y\.json in it"):
        find_file(tmp_path, ("y.json", "b/y.json"), "X")
    with pytest.raises(DataError, match="does not hold a JSON object"):
        read_json_object(tmp_path / "b/x.json")
    with pytest.raises(DataError, match="here: the field 'a' is missing"):
        require({}, "a", "here")
    with pytest.raises(DataError, match="here: the field 'a' is not a string"):
        require_text({"a": 1}, "a", "here")
    with pytest.raises(DataError, match="here is not a list"):
        require_list({}, "here")


def test_tables_of_both_kinds(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_stream(str(tmp_path / "t.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("t.parquet", "t.arrow"):
        path = tmp_path / name
        assert list(table_rows([path], ["a"])) == [{"a": 1}, {"a": 2}]
        assert list(table_rows([path], ["a"], ["b", "c"]))[1] == {"a": 2, "b": "y"}
        with pytest.raises(DataError, match="lacks the columns c"):
            list(table_rows([path], ["c"]))
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(DataError, match=name):
            list(table_rows([path], ["a"]))


def test_where_pictures_are(tmp_path: Path):
    benchmark = Benchmark("b", "questions", lambda d: [], lambda i, a: a, image_folders=("p", "q"))  # type: ignore[arg-type,return-value]
    items = [Item("1", "", "g", "1.png"), Item("2", "", "g", "2.png")]
    assert image_folder(benchmark, items, tmp_path) == tmp_path
    assert missing_hint(benchmark, items, tmp_path) == (
        f"; the pictures were looked for in {tmp_path}, {tmp_path}/p, {tmp_path}/q; "
        "name their folder with --images"
    )
    (tmp_path / "q").mkdir()
    (tmp_path / "q/2.png").write_bytes(b"one")
    assert image_folder(benchmark, items, tmp_path) == tmp_path / "q"
    assert missing_hint(benchmark, items, tmp_path / "q") == ""
    assert missing_hint(benchmark, [Item("1", "", "g")], tmp_path) == ""


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_pictures_outside_of_a_benchmark_are_not_shown(name: str, tmp_path: Path):
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "b").mkdir()
    item = Item("1", "", "g", name)
    with pytest.raises(InputError, match=r"secret\.png lies outside of .*b$"):
        source_paths(tmp_path / "b", item)
    assert shown_source(tmp_path / "b", item) is None
    inside = Item("1", "", "g", "a/1.png")
    assert shown_source(tmp_path / "b", inside) == tmp_path / "b/a/1.png"


def test_fingerprints_are_of_the_bytes_in_order(tmp_path: Path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    prints = Fingerprints()
    sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert prints.of([a]) == sha and prints.of([a, b]) != prints.of([b, a])
