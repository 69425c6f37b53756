"""Published rows: whole, cited, and in the unit of our reports."""

import pytest

from arm.evals.benchmarks.registry import BENCHMARKS
from arm.evals.published import highest, own_measures, published_note, published_rows

NAMES = (
    "geneval",
    "dpg",
    "wise",
    "wise-verified",
    "gedit",
    "imgedit",
    "pope-random",
    "pope",
    "mme",
)
UNDERSTANDING = ("mmbench", "mmmu", "gqa", "vqav2", "seed")


@pytest.mark.parametrize("name", [*NAMES, *UNDERSTANDING])
def test_rows_are_cited_and_in_range(name: str):
    rows = published_rows(name)
    assert len(rows) >= 4 and len({row.system for row in rows}) == len(rows)
    for row in rows:
        assert row.source and row.judge and row.scores
        if "overall" in row.scores:
            assert 0 < row.scores["overall"] <= highest(name)


def test_the_papers_own_numbers():
    def of(name: str, system: str) -> dict[str, float]:
        return dict(next(row.scores for row in published_rows(name) if row.system == system))

    assert of("geneval", "ARM-RL") == {"overall": 0.86}
    assert of("dpg", "ARM-RL") == {"overall": pytest.approx(0.86)}
    assert of("gedit", "ARM") == {"sc": 5.73, "pq": 7.67, "overall": 5.75}
    assert of("pope-random", "ARM") == {"overall": pytest.approx(0.873)}
    assert of("mme", "ARM") == {"perception": 1463.0}


def test_what_the_sources_leave_open_is_said():
    for name in ("pope", "pope-random", "pope-popular", "pope-adversarial"):
        assert all("measure not stated" in row.source for row in published_rows(name))
        assert "mean F1" in published_note(name) and own_measures(name) == ("f1",)
    assert published_note("mme") == "" and own_measures("mme") == ()


def test_the_judge_of_dpg_is_its_protocol_s():
    assert {row.judge for row in published_rows("dpg")} == {"mPLUG-large, by DPG's protocol"}
    assert "not stated" in {row.judge for row in published_rows("wise")}


def test_no_row_belongs_to_an_unknown_benchmark():
    assert published_rows("nothing") == []
    assert {*NAMES, *UNDERSTANDING} <= BENCHMARKS.keys()
