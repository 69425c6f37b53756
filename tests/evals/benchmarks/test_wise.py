"""WISE: scores worked out by hand, on tiny files in the authors' format."""

from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import wise
from arm.evals.benchmarks.base import Item


def test_wise_by_hand():
    assert wise.wiscore(2, 2, 2) == pytest.approx(1.0)
    assert wise.wiscore(1, 2, 0) == pytest.approx(0.55)
    items = [Item("1", "", "culture"), Item("450", "", "time"), Item("999", "", "chemistry")]
    replies = {
        "1": "Consistency: 2\nRealism: 1\nAesthetic Quality: 0",
        "450": "**Consistency:** 1\n**Realism:** 2\n**Aesthetic Quality:** 2",
        "999": "I cannot judge this.",
    }
    found = wise.score(items, {n: [[r]] for n, r in replies.items()}, "legacy")
    expected = (0.4 * 0.8 + 0.167 * 0.65) / (0.4 + 0.167)
    assert found.overall.value == pytest.approx(expected)
    assert (found.missing, found.missing_share) == (1, pytest.approx(1 / 3))
    binary = wise.score(items[:2], {"1": [["Score: 1"]], "450": [["Score: 0"]]}, "verified")
    assert binary.overall.value == pytest.approx(0.4 / 0.52)


def test_wise_protocols_are_not_mixed(tmp_path: Path):
    assert (wise.category(450, "legacy"), wise.category(530, "legacy")) == ("time", "time")
    assert (wise.category(450, "verified"), wise.category(530, "verified")) == ("time", "space")
    with pytest.raises(DataError, match="1 to 1000, not 1001"):
        wise.category(1001, "legacy")
    path = tmp_path
    for theme in wise.THEMES:
        path = tmp_path / f"legacy/{theme}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    path.write_text('[{"Prompt": "p", "Explanation": "e", "prompt_id": 801}]')
    (item,) = wise.load(tmp_path, "legacy", partial=True)
    assert (item.id, item.group, item.data["explanation"]) == ("801", "physics", "e")
    with pytest.raises(
        DataError,
        match=r"does not hold WISE \(verified\): expected verified/cultural_common_sense_verified\.json or data_verified/",
    ):
        wise.load(tmp_path, "verified")
    path.write_text('[{"Prompt": "p"}]')
    with pytest.raises(DataError, match="entry 0: the field 'prompt_id' is missing"):
        wise.load(tmp_path, "legacy", partial=True)
