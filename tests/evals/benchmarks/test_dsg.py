"""DSG-1k and DPG-Bench: scores worked out by hand, on tiny files in the authors' format."""

import json
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import dsg

CHAIN = {
    1: {"parents": []},
    2: {"parents": [1]},
    3: {"parents": [2]},
    4: {"parents": []},
}


def test_dependencies_are_transitive():
    settle = dsg.with_dependencies
    assert settle(CHAIN, {1: False, 2: True, 3: True, 4: True}) == {
        1: False,
        2: False,
        3: False,
        4: True,
    }
    assert settle(CHAIN, {1: True, 2: None, 3: True, 4: True}) == {
        1: True,
        2: None,
        3: None,
        4: True,
    }
    assert settle(CHAIN, {1: False, 2: None, 3: True, 4: True})[2] is False
    assert settle(CHAIN, {1: True, 2: None, 3: False, 4: True})[3] is False
    circle = {1: {"parents": [1, 2]}, 2: {"parents": [1]}}
    assert settle(circle, {1: True, 2: True}) == {1: True, 2: True}
    assert settle(circle, {1: False, 2: True}) == {1: False, 2: False}


def test_dsg_loads_and_scores(tmp_path: Path):
    head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
    rows = [
        'coco_1,"a dog, red",k,1,0,e,w,t,Is there a dog?',
        'coco_1,"a dog, red",k,2,1,a,c,t,Is it red?',
        'vrd_7,"x",k,1,0,e,w,t,Is there x?',
    ]
    (tmp_path / "dsg-1k-anns.csv").write_text(head + "\n".join(rows) + "\n")
    items = dsg.load_dsg(tmp_path, partial=True)
    assert [(i.id, i.text, i.group) for i in items] == [
        ("coco_1", "a dog, red", "coco"),
        ("vrd_7", "x", "vrd"),
    ]
    found = dsg.score(
        items, {"coco_1": [{1: True, 2: False}, {1: False, 2: True}], "vrd_7": [{1: True}]}
    )
    assert found.overall.value == pytest.approx((0.25 + 1.0) / 2)
    assert found.groups["coco"].value == 0.25
    assert found.details == {"questions": 5.0, "questions_missing": 0.0}
    part = dsg.score(items, {"coco_1": [{1: True, 2: None}, {1: None, 2: None}], "vrd_7": []})
    # Three of the four answers, and all about the prompt that nothing was asked about.
    assert (part.overall.value, part.missing, part.total, part.items) == (1.0, 4, 5, 2)
    (tmp_path / "dsg-1k-anns.csv").write_text("id,text\n1,x\n")
    with pytest.raises(DataError, match="lacks the columns dependency, item_id"):
        dsg.load_dsg(tmp_path, partial=True)
    (tmp_path / "dsg-1k-anns.csv").write_text(head + rows[0] + "\ncoco_2,x\n")
    with pytest.raises(DataError, match="csv:3: the line is incomplete"):
        dsg.load_dsg(tmp_path, partial=True)
    with pytest.raises(
        DataError,
        match=r"does not hold DPG-Bench: expected prompts/\*\.txt or dpg_bench/prompts/\*\.txt or prompts\.jsonl",
    ):
        dsg.load_dpg(tmp_path)


def test_a_text_may_hold_any_end_of_a_line(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    line = {"item_id": "a", "prompt": "one\u2028two"}
    path.write_text(json.dumps(line, ensure_ascii=False) + "\n")
    (item,) = dsg.load_dpg(tmp_path, partial=True)
    assert item.text == "one\u2028two"
