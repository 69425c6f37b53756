"""Tiny samples of each public layout become records that can be read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arm.data.convert import convert
from arm.data.records import Record
from arm.data.sources import open_source
from arm.errors import DataError, InputError
from user_data import COLORS, png, turn, write_pictures

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


def test_magicbrush(tmp_path: Path):
    rows = [
        {"img_id": "17", "turn_index": n, "source_img": a, "mask_img": b, "instruction": text, "target_img": b}
        for n, a, b, text in ((1, RED, GREEN, "make it green"), (2, GREEN, BLUE, "make it blue"))
    ]  # fmt: skip
    assert converted("magicbrush", parquet(tmp_path, rows)) == {
        "17-1": ["RED make it green", "GREEN"],
        "17-2": ["GREEN make it blue", "BLUE"],
    }


def test_hqedit_with_its_inverse(tmp_path: Path):
    row = {
        "input": "a red square", "input_image": RED, "edit": "make it blue", "inverse_edit": "make it red",
        "output": "a blue square", "output_image": BLUE,
    }  # fmt: skip
    one_way = {**row, "inverse_edit": None}
    assert converted("hqedit", parquet(tmp_path, [row, one_way])) == {
        "train-0.parquet:row 0 edit": ["RED make it blue", "BLUE"],
        "train-0.parquet:row 0 inverse": ["BLUE make it red", "RED"],
        "train-0.parquet:row 1 edit": ["RED make it blue", "BLUE"],
    }
    assert len(list((tmp_path / "out/images").iterdir())) == 4  # the inverse shares its pictures


def test_omniedit(tmp_path: Path):
    row = {
        "omni_edit_id": "task_obj_swap_7", "task": "swap", "src_img": RED, "edited_img": GREEN,
        "edited_prompt_list": ["Make it green.", "Change red to green."], "width": 8, "height": 8, "o_score": 9.0,
    }  # fmt: skip
    assert converted("omniedit", parquet(tmp_path, [row])) == {
        "task_obj_swap_7": ["RED Make it green.", "GREEN"]
    }


def test_ultraedit(tmp_path: Path):
    row = {
        "source_image": BLUE, "edited_image": RED, "mask_image": GREEN, "edit_prompt": "make it red",
        "source_caption": "blue", "target_caption": "red",
    }  # fmt: skip
    assert converted("ultraedit", parquet(tmp_path, [row])) == {
        "train-0.parquet:row 0": ["BLUE make it red", "RED"]
    }


def test_seededit_in_one_turn_and_in_several(tmp_path: Path):
    folder = tmp_path / "multi_turn_editing"
    write_pictures(folder / "images")
    (folder / "annotations").mkdir()
    lines = [
        {
            "source_image": "red.png", "instruction_1": "make it green", "edit_image_1": "green.png",
            "instruction_2": "make it blue", "edit_image_2": "blue.png",
        },
        {"source_image": "red.png", "target_image": "blue.png", "instruction": "make it blue"},
    ]  # fmt: skip
    path = folder / "annotations/split_0.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert converted("seededit", folder) == {
        "split_0.jsonl:1": ["RED make it green", "GREEN", "make it blue", "BLUE"],
        "split_0.jsonl:2": ["RED make it blue", "BLUE"],
    }
    assert not list((tmp_path / "out/images").iterdir())  # they are named where they lie


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
