"""The world as a domain: its tasks are held out, evenly spread, and pure functions of the seed."""

import numpy as np
from typing_extensions import get_protocol_members

from arm.data.images import GridWeight
from arm.domain import Canvas, Domain
from arm.world.domain import World
from arm.world.edits import EDITORS
from arm.world.questions import ASKERS
from arm.world.sampling import held_out_scene
from arm.world.scene import SHAPES
from arm.world.scoring import TAGS, WorldReferee

CANVAS = Canvas((GridWeight(7, 7), GridWeight(6, 8), GridWeight(8, 6)), 8)
WORLD = World()


def test_the_world_offers_all_of_the_protocol():
    domain: Domain = WORLD  # pyright checks the signatures
    assert {"pictures", "chain_samples", "edits", "referee"} <= get_protocol_members(Domain)
    assert all(hasattr(domain, name) for name in get_protocol_members(Domain))


def test_tasks_are_held_out_and_evenly_spread():
    edits = WORLD.edits("test", 2, 2026, CANVAS)
    assert [edit.kind for edit in edits] == [kind for kind in EDITORS for _ in range(2)]
    for edit in edits:
        assert held_out_scene(edit.truth.source) or held_out_scene(edit.truth.target)
    questions = WORLD.questions("test", 3, 2026, CANVAS)
    assert [q.kind for q in questions] == [kind for kind in ASKERS for _ in range(3)]
    prompts = WORLD.prompts("test", 2, 2026)
    assert [p.kind for p in prompts] == [tag for tag in TAGS for _ in range(2)]
    assert len(WORLD.knowledge_prompts("test", 6, 2026)) == 6


def test_training_tasks_hold_training_combinations():
    for edit in WORLD.edits("train", 2, 2026, CANVAS):
        assert not held_out_scene(edit.truth.target)
    rng = np.random.default_rng(0)
    for index in range(12):
        edit = WORLD.sample_editing(rng, CANVAS, index)
        assert not held_out_scene(edit.truth.target)
        assert edit.source.shape[:2] == edit.target.shape[:2] == CANVAS.size(index)


def test_the_same_seed_asks_the_same():
    def texts(seed: int) -> list[str]:
        questions = WORLD.questions("test", 2, seed, CANVAS)
        return [
            *(edit.instruction for edit in WORLD.edits("test", 1, seed, CANVAS)),
            *(prompt.text for prompt in WORLD.prompts("test", 2, seed)),
            *(question.text for question in questions),
        ]

    assert texts(1) == texts(1) != texts(2)


def test_pictures_have_the_size_of_the_canvas():
    small = Canvas((GridWeight(4, 3),), 16, scale=2)
    assert small.size(0) == small.size(5) == (64, 48)
    batch = WORLD.pictures("test", 1, 0, 4, small, singles=1.0)
    assert batch.images.shape == (4, 3, 64, 48)
    assert [WORLD.class_of(truth) for truth in batch.truths] == [
        SHAPES.index(scene.things[0].shape) for scene in batch.truths
    ]
    assert WORLD.class_names[SHAPES.index("arrow")] == "an arrow"


def test_the_referee_tells_pictures_apart():
    referee = WORLD.referee(CANVAS)
    assert referee == WorldReferee(scale=1)
    edit = WORLD.edits("test", 1, 3, CANVAS)[0]
    assert referee.look_alike(edit.source, edit.source)
    assert not referee.look_alike(edit.source, edit.target)
    assert referee.recognize(edit.truth.source, edit.source).clear
    assert not referee.recognize(edit.truth.source, edit.target).exact
    assert referee.score_edit(edit, edit.target).sc == 10
    assert referee.score_edit(edit, edit.source).sc == 0
