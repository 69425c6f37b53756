"""GEdit-Bench and ImgEdit-Bench: scores worked out by hand, on tiny files in the authors' format."""

import json
import math
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import editing
from arm.evals.benchmarks.base import Item


def test_gedit_by_hand():
    items = [
        Item("a", "", "color_alter"),
        Item("b", "", "color_alter"),
        Item("c", "", "text_change"),
    ]
    replies = {
        "a": [('{"score" : [9, 4], "reasoning": "x"}', '{"score": [9, 9]}')],
        "b": [('{"score": [8, 8]}', '{"score": [2, 5]}')],
        "c": [('{"score": [5, 5]}', "none")],
    }
    found = editing.score_gedit(items, replies)
    assert found.groups["color_alter"].value == pytest.approx((6 + 4) / 2)
    assert found.overall.value == 5 and found.missing == 1
    assert found.details == {"sc": 6.0, "pq": 5.5}
    replies["c"] = [('{"score": [5, 5]}', '{"score": [5, 5]}')]
    # Means of groups, not of samples, and of sqrt(SC PQ), not sqrt of means.
    assert editing.score_gedit(items, replies).overall.value == pytest.approx((5 + 5) / 2)
    assert math.sqrt(6 * 5.5) != pytest.approx(5)


def test_imgedit_by_hand():
    reply = "Brief reasoning: fine.\nPrompt Compliance: 5\nVisual Naturalness: 4\nPhysical & Detail Integrity: 3"
    assert editing.read_imgedit(reply) == (5, 4, 3)
    assert editing.read_imgedit(reply.replace(" 3", " 7")) is None
    items = [Item("1", "", "add"), Item("2", "", "add"), Item("3", "", "style")]
    found = editing.score_imgedit(
        items, {"1": [[reply]], "2": [[reply.replace(": 3", ": 3/5")]], "3": [[None]]}
    )
    assert found.overall.value == 4 and found.missing == 1


def test_gedit_files(tmp_path: Path):
    (tmp_path / "gedit_edit.json").write_text(
        json.dumps({"k": {"prompt": "Make it red.", "id": "a/b.png", "edit_type": "color_alter"}})
    )
    (item,) = editing.load_gedit(tmp_path, partial=True)
    assert (item.id, item.text, item.image, item.group) == (
        "k",
        "Make it red.",
        "a/b.png",
        "color_alter",
    )
    (tmp_path / "gedit_edit.json").write_text(
        json.dumps({"k": {"prompt": "x", "id": "a", "edit_type": "colour"}})
    )
    with pytest.raises(DataError, match="the type 'colour' is none of background_change"):
        editing.load_gedit(tmp_path, partial=True)
    (tmp_path / "gedit_edit.json").write_text("{")
    with pytest.raises(DataError, match="is not a JSON file"):
        editing.load_gedit(tmp_path)
