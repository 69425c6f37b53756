"""Tiny samples of each public layout become records that can be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from arm.data.layouts import FORMATS, LayoutError, omniedit
from converted import BLUE, GREEN, RED, converted, parquet
from user_data import write_pictures


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
    assert not list((tmp_path / "out/images").iterdir())  # they are linked, not copied


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("row", [{}, {"a": None}, {"\x1b[31m" + "x" * 1000: 1}])
def test_a_row_of_another_layout_is_one_line(name: str, row: dict[str, Any]):
    with pytest.raises(
        LayoutError, match=r"^x:1: needs the column '\w+'; the columns are "
    ) as error:
        list(FORMATS[name](row, "x:1"))
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def test_phrasings_that_are_no_words():
    row = {"src_img": b"x", "edited_img": b"y", "edited_prompt_list": [5]}
    with pytest.raises(LayoutError, match="the column 'instruction' must be text, not 5"):
        list(omniedit(row, "x:1"))
