"""The table of the synergy experiment: its file of scores, and what it compares."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arm.errors import WeightsError
from arm.evals.synergy import TASKS, at_best, markdown, read_scores, table, write_scores


def scores_of(right: float, edited: float, seed: int) -> dict[str, Any]:
    """One model's scores at two temperatures: 40 items a task, `right` of them 1, edits around `edited`."""
    rng = np.random.default_rng(seed)
    yes = [float(i < 40 * right) for i in range(40)]
    edits = (edited + rng.normal(0, 0.01, 40)).tolist()
    worse = {"geneval": [0.0] * 40, "gedit": [0.0] * 40, "wise": [0.0] * 40}
    return {
        "best": {"geneval": 0.3, "gedit": 0.3},
        "settings": {"t0": worse, "t0.3": {"geneval": yes, "gedit": edits, "wise": yes}},
        "vqa": [1.0] * 40,
    }


def test_the_best_temperature_is_that_of_the_model():
    scores = {
        "best": {"geneval": 0.3, "gedit": 0.0},
        "settings": {
            "t0": {"geneval": [0.1], "gedit": [2.0], "wise": [0.0]},
            "t0.3": {"geneval": [0.4], "gedit": [1.0], "wise": [0.5]},
        },
        "vqa": [1.0],
    }
    best = {task: at_best(scores, task) for task in TASKS}
    assert best == {"geneval": [0.4], "gedit": [2.0], "wise": [0.5], "vqa": [1.0]}


def test_a_difference_is_to_the_supervised_model():
    result = table(
        {
            "SFT": [scores_of(0.5, 6.0, 0)],
            "SFT continued": [scores_of(0.5, 6.0, 1)],
            "Edit RL": [scores_of(0.5, 7.0, 2), scores_of(0.5, 7.02, 3)],
        }
    )
    assert result["sft"]["geneval"] == 0.5 and result["sft"]["gedit"] == pytest.approx(6, abs=0.01)
    assert result["to_sft"].keys() == {"SFT continued", "Edit RL"}
    edited = result["to_sft"]["Edit RL"]["gedit"]
    assert edited["value"] == pytest.approx(1.01, abs=0.01)
    assert edited["low"] < edited["value"] < edited["high"] and len(edited["seeds"]) == 2
    drawn = result["to_sft"]["SFT continued"]["geneval"]
    assert (drawn["value"], drawn["low"], drawn["high"], drawn["p_holm"]) == (0, 0, 0, 1)
    assert result["to_sft"]["Edit RL"]["vqa"]["kept"]
    assert result["to_continued"].keys() == {"Edit RL"}
    assert result["means"]["Edit RL"]["t0"] == {"geneval": 0, "gedit": 0, "wise": 0}
    lines = markdown(result).splitlines()
    assert lines[2] == "| SFT, best temperature | 0.500 | 6.00 | 0.500 | 1.000 | |"
    assert lines[3].startswith("| SFT continued | 0.500 (+0.000 to +0.000) |")
    assert lines[4].endswith("| yes |") and "| **7.0" in lines[4]


def test_scores_are_kept_in_one_file_of_deterministic_bytes(tmp_path: Path):
    path = tmp_path / "scores.json.gz"
    assert read_scores(path) == {}
    scores = {"seed1/edit": scores_of(0.5, 6.0, 1), "seed0/start": scores_of(0.25, 5.0, 0)}
    write_scores(scores, path)
    first = path.read_bytes()
    assert read_scores(path) == scores
    write_scores(dict(reversed(scores.items())), path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("damage", [b"", b"no gzip", b"cut"])
def test_a_damaged_file_is_one_clear_error(damage: bytes, tmp_path: Path):
    path = tmp_path / "scores.json.gz"
    write_scores({"seed0/start": scores_of(0.5, 6.0, 0)}, path)
    path.write_bytes(path.read_bytes()[:-20] if damage == b"cut" else damage)
    with pytest.raises(
        WeightsError, match=r"scores\.json\.gz is not gzipped JSON .*restore or delete"
    ):
        read_scores(path)
