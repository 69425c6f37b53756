"""Scores on a domain's tasks by hand: F1, perfect and useless edits, answers word for word."""

from types import SimpleNamespace
from typing import Any

import pytest

from arm.evals import tasks
from arm.evals.painting import canvas_of, encode_pictures
from arm.pipeline import Arm
from arm.world.domain import World

WORLD = World()


def test_f1_by_hand():
    truth, said = [True, True, True, False, False], [True, True, False, True, False]
    # precision 2/3, recall 2/3
    assert tasks.f1(truth, said) == pytest.approx(2 / 3)
    assert tasks.f1([False], [False]) == 0.0


def test_edits_that_are_the_targets_score_ten(arm: Arm, monkeypatch: pytest.MonkeyPatch):
    """Codes stand for pictures here, so that nothing is lost by encoding them."""
    canvas = canvas_of(arm)
    edits = WORLD.edits("test", 2, 2026, canvas)
    monkeypatch.setattr(tasks, "encode_pictures", lambda arm, pictures: list(pictures))
    monkeypatch.setattr(tasks, "paint_each", lambda arm, codes: codes)
    targets = [edit.target for edit in edits]
    stand_in: Any = SimpleNamespace(edit_codes=lambda *a, **k: targets)
    referee = WORLD.referee(canvas)
    scores = tasks.edit_and_score(stand_in, referee, edits, tasks.SETTINGS[0], 0)
    assert all(s.sc == 10 and s.overall > 9.9 for kind in scores.values() for s in kind)


def test_the_right_codes_painted_are_what_a_perfect_editor_scores():
    arm = Arm.from_pretrained("micro")
    canvas = canvas_of(arm)
    edits, referee = WORLD.edits("test", 2, 2026, canvas), WORLD.referee(canvas)
    targets = encode_pictures(arm, [edit.target for edit in edits])
    stand_in: Any = SimpleNamespace(
        edit_codes=lambda *a, **k: targets, tokenizer=arm.tokenizer, detokenizer=arm.detokenizer
    )
    perfect = tasks.perfect_edits(arm, referee, edits)
    assert perfect == tasks.edit_and_score(stand_in, referee, edits, tasks.SETTINGS[0], 0)
    overall = [s.overall for kind in perfect.values() for s in kind]
    assert sum(overall) / len(overall) > 7
    sources = encode_pictures(arm, [edit.source for edit in edits])
    copied = tasks.score_edited(arm, referee, edits, sources)
    assert all(s.overall == 0 for kind in copied.values() for s in kind)


def test_answers_are_compared_word_for_word(arm: Arm, monkeypatch: pytest.MonkeyPatch):
    questions = WORLD.questions("test", 3, 2026, canvas_of(arm))
    monkeypatch.setattr(tasks, "encode_pictures", lambda arm, pictures: list(pictures))
    right: Any = SimpleNamespace(answer_codes=lambda codes, texts: [q.answer for q in questions])
    assert tasks.question_scores(right, questions)["accuracy"]["value"] == 1.0
    assert tasks.question_scores(right, questions)["yesno_f1"]["value"] == 1.0
    wrong: Any = SimpleNamespace(answer_codes=lambda codes, texts: ["banana"] * len(questions))
    assert tasks.question_scores(wrong, questions)["accuracy"]["value"] == 0.0


def test_the_mean_is_over_kinds_and_not_over_prompts():
    """Three prompts of one kind and one of another count the same."""
    table = tasks.drawing_table({"one": [1.0, 1.0, 1.0], "other": [0.0]})
    assert table["overall"]["value"] == 0.5 and table["tags"]["one"]["n"] == 3


def test_settings_beside_the_first_stand_under_their_names():
    table = tasks.by_setting(lambda setting: {"name": setting.name}, tasks.SETTINGS)
    assert table == {"name": "default", "greedy": {"name": "greedy"}, "cfg1": {"name": "cfg1"}}
