"""The world's scores by hand: F1, equal tags, held-out inputs only, perfect and useless answers."""

from types import SimpleNamespace

import pytest

from arm.errors import InputError
from arm.evals import world
from arm.evals.painting import encode_scenes
from arm.evals.report import fill_block, markdown, rows
from arm.pipeline import Arm
from arm.world.edits import EDITORS
from arm.world.prompts import TAGS
from arm.world.render import render
from arm.world.sampling import held_out_scene

SMALL = world.Size(4, 2, 2, 2, 3, 6)


def test_f1_by_hand():
    truth, said = [True, True, True, False, False], [True, True, False, True, False]
    # precision 2/3, recall 2/3
    assert world.f1(truth, said) == pytest.approx(2 / 3)
    assert world.f1([False], [False]) == 0.0


def test_inputs_are_held_out_and_evenly_spread(arm: Arm):
    edits = world.sampled_edits(arm, SMALL)
    assert [e.kind for e in edits] == [kind for kind in EDITORS for _ in range(2)]
    assert all(held_out_scene(e.source) or held_out_scene(e.target) for e in edits)
    asked = world.held_out_questions(arm, SMALL)
    assert all(held_out_scene(scene) for scene, _ in asked) and len(asked) == 7 * 3
    assert [p.tag for p in world.geneval_prompts(SMALL)] == [t for t in TAGS for _ in range(2)]
    assert len(world.wise_prompts(SMALL)) == 6


def test_the_same_seed_asks_the_same(arm: Arm):
    assert world.sampled_edits(arm, SMALL) == world.sampled_edits(arm, SMALL)
    assert world.geneval_prompts(SMALL) == world.geneval_prompts(SMALL)


def test_perfect_edits_score_ten(arm: Arm, monkeypatch: pytest.MonkeyPatch):
    """A model whose pictures are the targets' renderings: the scores must be perfect."""
    from arm.world.reader import read

    edits = world.sampled_edits(arm, SMALL)
    targets = [read(render(e.target)) for e in edits]
    monkeypatch.setattr(world, "encode_scenes", lambda arm, scenes: list(scenes))
    monkeypatch.setattr(world, "read_codes", lambda arm, codes: targets)
    stand_in = SimpleNamespace(edit_codes=lambda *a, **k: targets)
    scores = world.edit_and_score(stand_in, edits, world.SETTINGS[0], 0)  # pyright: ignore[reportArgumentType]
    assert all(s.sc == 10 and s.overall > 9.9 for kind in scores.values() for s in kind)


def test_the_right_codes_painted_are_what_a_perfect_editor_scores():
    arm = Arm.from_pretrained("micro")
    edits = world.sampled_edits(arm, SMALL)
    targets = encode_scenes(arm, [edit.target for edit in edits])
    stand_in = SimpleNamespace(
        edit_codes=lambda *a, **k: targets, tokenizer=arm.tokenizer, detokenizer=arm.detokenizer,
        defaults=arm.defaults,
    )  # fmt: skip
    perfect = world.perfect_edits(arm, edits)
    assert perfect == world.edit_and_score(stand_in, edits, world.SETTINGS[0], 0)  # pyright: ignore[reportArgumentType]
    overall = [s.overall for kind in perfect.values() for s in kind]
    copied = world.score_edited(arm, edits, encode_scenes(arm, [e.source for e in edits]))
    assert sum(overall) / len(overall) > 7
    assert all(s.overall == 0 for kind in copied.values() for s in kind)


def test_answers_are_compared_word_for_word(arm: Arm, monkeypatch: pytest.MonkeyPatch):
    asked = world.held_out_questions(arm, SMALL)
    right = SimpleNamespace(answer_codes=lambda codes, questions: [q.answer for _, q in asked])
    monkeypatch.setattr(world, "encode_scenes", lambda arm, scenes: list(scenes))
    monkeypatch.setattr(world, "held_out_questions", lambda arm, size: asked)
    assert world.vqa_scores(right, SMALL)["accuracy"]["value"] == 1.0  # pyright: ignore[reportArgumentType]
    wrong = SimpleNamespace(answer_codes=lambda codes, questions: ["banana"] * len(asked))
    assert world.vqa_scores(wrong, SMALL)["accuracy"]["value"] == 0.0  # pyright: ignore[reportArgumentType]


def test_report_names_and_blocks(tmp_path):
    result = {"a": {"b": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}, "c": 0.125}}
    assert [name for name, _ in rows(result)] == ["a.b", "a.c"]
    table = markdown(result, {"a.b": "B", "a.c": "C"})
    assert "| B | 0.500 | 0.250 - 0.750 | 8 |" in table and "| C | 0.1250 |  |  |" in table
    page = tmp_path / "page.md"
    page.write_text("x\n<!-- scores -->\nold\n<!-- /scores -->\ny\n")
    fill_block(page, "scores", table)
    assert page.read_text() == f"x\n<!-- scores -->\n{table}\n<!-- /scores -->\ny\n"
    with pytest.raises(InputError, match="no block"):
        fill_block(page, "other", table)
