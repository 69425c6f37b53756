"""What is written, linked and skipped in a conversion."""

import json
from pathlib import Path
from typing import Any

import pytest

from arm.data import convert as module
from arm.data.check import check_source
from arm.data.convert import convert
from arm.data.sources import open_source
from arm.errors import DataError, InputError
from converted import BLUE, GREEN, RED, converted, parquet, told
from user_data import turn, write_pictures


def llava_rows() -> list[dict[str, Any]]:
    def said(*values: str) -> list[dict[str, str]]:
        return [{"from": ("human", "gpt")[i % 2], "value": v} for i, v in enumerate(values)]

    return [
        {
            "id": "1",
            "image": "red.png",
            "conversations": said("<image>\nwhat color?", "red", "sure?", "yes"),
        },
        {
            "id": "2",
            "image": ["red.png", "blue.png"],
            "conversations": said("<image> <image> the same?", "no"),
        },
        {"id": "3", "conversations": said("hello", "hi")},
    ]


def test_llava(tmp_path: Path):
    write_pictures(tmp_path / "pictures")
    path = tmp_path / "llava.json"
    path.write_text(json.dumps(llava_rows()))
    assert converted("llava", path, images=tmp_path / "pictures") == {
        "1": ["RED what color?", "red", "sure?", "yes"],
        "2": ["RED BLUE the same?", "no"],
        "3": ["hello", "hi"],
    }


def test_rows_that_do_not_fit_are_skipped_and_named(tmp_path: Path):
    write_pictures(tmp_path)
    rows = llava_rows()
    rows.insert(1, {"id": "x", "image": "none.png", "conversations": rows[0]["conversations"]})
    rows.append({"id": "y", "conversations": [{"from": "system", "value": "hm"}]})
    rows.append({"id": "z", "image": "red.png", "conversations": rows[-2]["conversations"]})
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    assert convert("llava", tmp_path / "llava.json", tmp_path / "out") == (3, 3)
    lines = [json.loads(x) for x in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert [line["where"] for line in lines] == [f"llava.json:row {i}" for i in (1, 4, 5)]
    reasons = ("picture 0 is not at", "from human or gpt, not 'system'", "0 <image> in messages")
    assert all(reason in line["reason"] for reason, line in zip(reasons, lines, strict=True))


@pytest.mark.parametrize(
    ("name", "row", "fault"),
    [
        (
            "ultraedit",
            {"source_image": RED, "edited_image": RED, "edit_promt": "x"},
            "needs the column 'edit_prompt'; the columns are source_image, edited_image, edit_promt. "
            "Did you mean 'edit_promt'?",
        ),
        ("magicbrush", {"image": RED}, "needs the column 'target_img'; the columns are image."),
        (
            "hqedit",
            {"input_image": RED, "output_image": RED, "edit": None},
            "needs the column 'edit'",
        ),
        (
            "omniedit",
            {"src_img": RED, "edited_img": RED, "edited_prompt_list": "x"},
            "must be a list of phrasings",
        ),
        (
            "ultraedit",
            {
                "source_image": RED,
                "edited_image": {"bytes": None, "path": None},
                "edit_prompt": "x",
            },
            "picture 1 has neither bytes nor a path",
        ),
        ("llava", {"conversations": [turn("user", "x")]}, "from human or gpt, not None"),
        ("llavva", {"a": 1}, "there is no format 'llavva'; there are magicbrush, hqedit"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, name: str, row: dict[str, Any], fault: str):
    with pytest.raises(DataError) as error:
        convert(name, parquet(tmp_path, [row]), tmp_path / "out")
    assert fault in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("train.jsonl*"))


def test_files_that_hold_no_rows(tmp_path: Path):
    for name, text, fault in (
        ("a.json", "{}", "must be a list of rows"),
        ("b.json", "[]", "holds no rows"),
        ("c.jsonl", "[1]", "a row must be an object"),
        ("d.csv", "x", "must end in .parquet, .jsonl or .json"),
        ("e.parquet", "x", "no whole Parquet file"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=fault):
            convert("llava", tmp_path / name, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder with any"):
        convert("llava", tmp_path / "empty", tmp_path / "out")


def test_broken_lines_are_skipped_and_named(tmp_path: Path):
    """One broken line, the first as any other, ends nothing; a file of nothing else holds no rows."""
    write_pictures(tmp_path)
    lines = ["{", *map(json.dumps, llava_rows()), '{"id": "4", ', "[1]", "\xff"]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="latin-1")
    assert convert("llava", tmp_path / "x.jsonl", tmp_path / "out") == (3, 4)
    found = [json.loads(x) for x in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert [line["where"] for line in found] == [f"x.jsonl:{i}" for i in (1, 5, 6, 7)]
    (tmp_path / "y.jsonl").write_text("{\n{\n")
    with pytest.raises(DataError, match=r"holds no rows that can be read; see .*skipped\.jsonl$"):
        convert("llava", tmp_path / "y.jsonl", tmp_path / "other")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"conversations": 5}, "'conversations' must be a list of turns, not 5"),
        ({"conversations": [{"from": [], "value": "x"}]}, "from human or gpt, not []"),
        ({"conversations": [5]}, "from human or gpt, not 5"),
        ({"image": "w" * 300}, "picture 0 is not at"),
        ({"image": 5}, "picture 0 has neither bytes nor a path"),
        ({"id": "\ud83d"}, "id holds"),
    ],
)
def test_llava_of_other_values_is_one_line(tmp_path: Path, row: dict[str, Any], fault: str):
    write_pictures(tmp_path)
    (tmp_path / "llava.json").write_text(json.dumps([{**llava_rows()[0], **row}]))
    with pytest.raises(DataError) as error:
        convert("llava", tmp_path / "llava.json", tmp_path / "out")
    assert fault in str(error.value) and "\n" not in str(error.value)


def test_nothing_that_is_there_is_replaced(tmp_path: Path):
    """Neither the source, nor an earlier conversion, nor its pictures."""
    write_pictures(tmp_path)
    for name in ("train.jsonl", "skipped.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, llava_rows())))
        before = (tmp_path / name).read_bytes()
        with pytest.raises(DataError, match=rf"{name} is there already .* name a new folder"):
            convert("llava", tmp_path / name, tmp_path)
        assert (tmp_path / name).read_bytes() == before
        (tmp_path / name).unlink()
    rows = [{"source_image": RED, "edited_image": BLUE, "edit_prompt": "make it blue"}]
    table, out = parquet(tmp_path, rows), tmp_path / "out"
    assert convert("ultraedit", table, out) == (1, 0)
    with pytest.raises(DataError, match=r"train\.jsonl is there already"):
        convert("ultraedit", table, out)
    (out / "train.jsonl").rename(out / "a.jsonl")
    assert convert("ultraedit", table, out) == (1, 0)  # the same pictures, as after a killed run
    (out / "train.jsonl").unlink()
    other = parquet(tmp_path / "b", [{**rows[0], "source_image": GREEN}])
    with pytest.raises(DataError, match=r"00000000-0\.png is there already and another picture"):
        convert("ultraedit", other, out)
    assert told(open_source(out / "a.jsonl").record(0)) == ["RED make it blue", "BLUE"]


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"source_image": RED, "edited_image": BLUE, "edit_prompt": "make it blue"}]

    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    table = parquet(tmp_path, rows)
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(DataError, match=r"out cannot be written .*No space left"):
        convert("ultraedit", table, tmp_path / "out")
    assert not list((tmp_path / "out/images").iterdir())
    with pytest.raises(InputError, match=r"cannot be written .* name another folder"):
        convert("ultraedit", table, table / "data/train-0.parquet")


def skipped_places(out: Path) -> list[str]:
    return [json.loads(line)["where"] for line in (out / "skipped.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("fault", ["picture", "layout"])
@pytest.mark.parametrize("count", [1, 7])
def test_the_first_rows_are_skipped_as_any_others(tmp_path: Path, fault: str, count: int):
    write_pictures(tmp_path)
    row = llava_rows()[0]
    broken = (
        {**row, "image": "none.png"} if fault == "picture" else {"id": "other", "image": "red.png"}
    )
    rows = [broken] * count + llava_rows() + [broken]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, out in (("x.json", tmp_path / "a"), ("x.jsonl", tmp_path / "b")):
        assert convert("llava", tmp_path / name, out) == (3, count + 1)
        assert len(skipped_places(out)) == count + 1
        assert [told(r) for r in map(open_source(out).record, range(3))][2] == ["hello", "hi"]


def test_another_layout_is_noticed_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows without the columns, but not rows whose pictures are missing."""
    write_pictures(tmp_path)
    monkeypatch.setattr(module, "FIRST_ROWS", 5)
    read: list[int] = []

    def track(rows: Any) -> Any:
        for row in rows:
            read.append(1)
            yield row

    (tmp_path / "x.json").write_text(json.dumps([{"a": 1}] * 9 + llava_rows()))
    with pytest.raises(DataError, match=r"^x\.json:row 0: needs the column 'conversations'"):
        convert("llava", tmp_path / "x.json", tmp_path / "a", track=track)
    assert len(read) == 5
    missing = [{**llava_rows()[0], "image": "none.png"}] * 9
    (tmp_path / "y.json").write_text(json.dumps(missing + llava_rows()))
    assert convert("llava", tmp_path / "y.json", tmp_path / "b") == (3, 9)


def test_a_damaged_file_among_several_is_skipped(tmp_path: Path):
    write_pictures(tmp_path / "set/images")
    (tmp_path / "set/b.json").write_text(json.dumps(llava_rows()))
    for name, text in (("a.json", "{"), ("c.json", '{"rows": []}'), ("d.json", "[]")):
        (tmp_path / "set" / name).write_text(text)
    assert convert("llava", tmp_path / "set", tmp_path / "out") == (3, 2)
    places = skipped_places(tmp_path / "out")
    assert places == [str(tmp_path / "set" / name) for name in ("a.json", "c.json")]


def test_folders_of_pictures_are_linked(tmp_path: Path):
    """Two files whose pictures lie beside each: two links, and every picture is inside the data."""
    for name in ("one", "two"):
        write_pictures(tmp_path / "set" / name / "images")
        row = {"source_image": "red.png", "target_image": "./blue.png", "instruction": name}
        (tmp_path / "set" / name / "x.jsonl").write_text(json.dumps(row))
    out = tmp_path / "out"
    assert convert("seededit", tmp_path / "set", out) == (2, 0)
    links = sorted(path.name for path in out.iterdir() if path.is_symlink())
    assert links == ["pictures-0", "pictures-1"] and not list((out / "images").iterdir())
    report = check_source(open_source(out))
    assert (report.num_faults, report.images, report.left_out) == (0, 4, ())
    (out / "train.jsonl").unlink()
    assert convert("seededit", tmp_path / "set", out) == (2, 0)  # the links are there already
    (out / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"pictures-0 is there already and another folder"):
        convert("seededit", tmp_path / "set/two", out)


def test_pictures_outside_need_a_flag(tmp_path: Path):
    write_pictures(tmp_path / "set")
    write_pictures(tmp_path)
    rows = []
    for name in (str(tmp_path / "red.png"), "../red.png", "red.png"):
        rows.append({**llava_rows()[0], "image": name})
    (tmp_path / "set/x.json").write_text(json.dumps(rows))
    assert convert("llava", tmp_path / "set/x.json", tmp_path / "a") == (1, 2)
    assert convert("llava", tmp_path / "set/x.json", tmp_path / "b", allow_outside=True) == (3, 0)
    assert check_source(open_source(tmp_path / "b")).num_faults == 2
    assert check_source(open_source(tmp_path / "b", allow_outside=True)).num_faults == 0


def test_marks_line_endings_and_hidden_files(tmp_path: Path):
    write_pictures(tmp_path)
    text = "\r\n".join(map(json.dumps, llava_rows()))
    (tmp_path / "x.jsonl").write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "._x.jsonl").write_bytes(b"junk of a Mac")
    assert convert("llava", tmp_path, tmp_path / "out") == (3, 0)
    (tmp_path / "y.json").write_bytes(json.dumps(llava_rows()).encode("utf-8-sig"))
    assert convert("llava", tmp_path / "y.json", tmp_path / "other") == (3, 0)
