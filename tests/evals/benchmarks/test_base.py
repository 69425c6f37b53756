"""What the benchmarks share: their list, published scores, and clear errors for damaged files."""

from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import BENCHMARKS, short_answers
from arm.evals.benchmarks.base import published_scores

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
    rows = published_scores(name).rows
    assert len(rows) >= 4 and len({row.system for row in rows}) == len(rows)
    for row in rows:
        assert row.source and row.judge and row.scores
        if "overall" in row.scores:
            assert 0 < row.scores["overall"] <= BENCHMARKS[name].best


def test_the_papers_own_numbers():
    def of(name: str, system: str) -> dict[str, float]:
        return dict(next(row.scores for row in published_scores(name).rows if row.system == system))

    assert of("geneval", "ARM-RL") == {"overall": 0.86}
    assert of("dpg", "ARM-RL") == {"overall": pytest.approx(0.86)}
    assert of("gedit", "ARM") == {"sc": 5.73, "pq": 7.67, "overall": 5.75}
    assert of("pope-random", "ARM") == {"overall": pytest.approx(0.873)}
    assert of("mme", "ARM") == {"perception": 1463.0}


def test_what_the_sources_leave_open_is_said():
    for name in ("pope", "pope-random", "pope-popular", "pope-adversarial"):
        assert all("measure not stated" in row.source for row in published_scores(name).rows)
        assert "mean F1" in published_scores(name).note and published_scores(name).own_measures == (
            "f1",
        )
    assert published_scores("mme").note == "" and published_scores("mme").own_measures == ()


def test_the_judge_of_dpg_is_its_protocol_s():
    assert {row.judge for row in published_scores("dpg").rows} == {"mPLUG-large, by DPG's protocol"}
    assert "not stated" in {row.judge for row in published_scores("wise").rows}


def test_no_row_belongs_to_an_unknown_benchmark():
    assert published_scores("nothing").rows == ()
    assert {*NAMES, *UNDERSTANDING} <= BENCHMARKS.keys()


def test_all_are_offered_by_name():
    names = {"geneval", "pope", "mmmu", "mmbench", "seed", "seed-letters", "gqa", "vqav2"}
    assert names <= BENCHMARKS.keys()
    assert all(BENCHMARKS[n].notes for n in ("mmmu", "mmbench", "seed", "gqa", "vqav2"))
    for name in ("dsg", "dpg"):
        assert "replaces the authors' VQA model" in " ".join(BENCHMARKS[name].notes)
    assert BENCHMARKS["geneval"].images_per_item == 4 and BENCHMARKS["geneval"].uses_detector


@pytest.mark.parametrize("content", ["[]", "{}", "3", '"x"', "[1]", '{"a": 1}', "null", "", "{"])
@pytest.mark.parametrize(
    "name",
    [
        "geneval", "dpg", "gedit", "imgedit", "wise", "pope", "mme", "seed", "gqa", "vqav2"
    ],
)  # fmt: skip
def test_files_of_another_shape_are_one_clear_line(name: str, content: str, tmp_path: Path):
    files = (
        "evaluation_metadata.jsonl", "prompts.jsonl", "gedit_edit.json", "basic_edit.json",
        "legacy/cultural_common_sense.json", "legacy/spatio-temporal_reasoning.json",
        "legacy/natural_science.json", "coco/coco_pope_random.json", "mme_questions.jsonl",
        "SEED-Bench.json", "testdev_balanced_questions.json", short_answers.QUESTIONS, short_answers.ANNOTATIONS,
    )  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    with pytest.raises(DataError) as error:
        BENCHMARKS[name].load(tmp_path)
    assert "\n" not in str(error.value)
