"""Every edit's target, worked out again from its instruction and its source."""

import re
from dataclasses import replace

import numpy as np
import pytest

from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.sampling import held_out_scene, sample_scene
from arm.world.scene import BACKGROUNDS, COLORS, SHAPES, Scene, Thing
from worlds import fits_words, lies_free, ninth, referents, training_scenes

SCENES = training_scenes(1000)
COLOR, SHAPE = "|".join(COLORS), "|".join(SHAPES)


def edits(kind: str) -> list[Edit]:
    rng = np.random.default_rng(6)
    found = [sample_edit(rng, scene, kind) for scene in SCENES]
    return [edit for edit in found if edit is not None]


def said(pattern: str, edit: Edit) -> tuple[str, ...]:
    match = re.fullmatch(pattern, edit.instruction)
    assert match is not None, edit.instruction
    return match.groups()


def index_of(edit: Edit, phrase: str) -> int:
    (index,) = referents(edit.source, phrase)
    return index


def altered(edit: Edit, index: int) -> Thing:
    """The changed thing, after a check that it alone is changed and nothing else is."""
    assert edit.changed == (index,)
    assert edit.target == edit.source.with_thing(index, **vars(edit.target.things[index]))
    return edit.target.things[index]


def check_add(edit: Edit) -> None:
    phrase, where = said(r"(?:add|put|draw) an? (.+) (?:at|in) the (.+)", edit)
    *old, new = edit.target.things
    assert edit.target == replace(edit.source, things=(*old, new))
    assert tuple(old) == edit.source.things and edit.changed == (len(old),)
    assert fits_words(new, phrase) and {new.size, new.color, new.shape} <= set(phrase.split())
    assert (new.pattern == "striped") == ("striped" in phrase)
    assert edit.place == where == ninth(new, edit.target)


def check_remove(edit: Edit) -> None:
    (phrase,) = said(r"(?:remove|delete|take away) the (.+)", edit)
    index = index_of(edit, phrase)
    left = [thing for i, thing in enumerate(edit.source.things) if i != index]
    assert edit.target == replace(edit.source, things=tuple(left)) and left
    assert edit.changed == ()


def check_replace(edit: Edit) -> None:
    phrase, color, shape = said(
        rf"(?:replace|turn) the (.+) (?:with|into) an? ({COLOR}) ({SHAPE})", edit
    )
    index = index_of(edit, phrase)
    old, new = edit.source.things[index], altered(edit, index)
    assert new == replace(old, color=color, shape=shape) and new.shape != old.shape


def check_recolor(edit: Edit) -> None:
    phrase, color = said(
        rf"(?:make the|change the color of the|paint the) (.+?)(?: to)? ({COLOR})", edit
    )
    index = index_of(edit, phrase)
    old, new = edit.source.things[index], altered(edit, index)
    assert new == replace(old, color=color) != old


def check_resize(edit: Edit) -> None:
    phrase, size = said(r"make the (.+) (smaller|larger|small|large)", edit)
    index = index_of(edit, phrase)
    old, new = edit.source.things[index], altered(edit, index)
    assert new == replace(old, size={"smaller": "small", "larger": "large"}.get(size, size)) != old


def check_move(edit: Edit) -> None:
    phrase, where = said(r"move the (.+) to the (.+)", edit)
    index = index_of(edit, phrase)
    old, new = edit.source.things[index], altered(edit, index)
    assert new.kind == old.kind
    assert edit.place == where == ninth(new, edit.target)
    assert ninth(old, edit.source) != where


def check_swap(edit: Edit) -> None:
    first, second = said(r"(?:swap|exchange) the (.+) and the (.+)", edit)
    i, j = index_of(edit, first), index_of(edit, second)
    a, b = edit.source.things[i], edit.source.things[j]
    things = list(edit.source.things)
    things[i], things[j] = replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)
    assert edit.target == replace(edit.source, things=tuple(things))
    assert i != j and set(edit.changed) == {i, j}


def check_background(edit: Edit) -> None:
    (color,) = said(
        rf"(?:make the background|change the background to) ({'|'.join(BACKGROUNDS)})", edit
    )
    assert edit.target == replace(edit.source, background=color) != edit.source
    assert edit.changed == ()


CHECKS = {
    "add": check_add,
    "remove": check_remove,
    "replace": check_replace,
    "recolor": check_recolor,
    "resize": check_resize,
    "move": check_move,
    "swap": check_swap,
    "background": check_background,
}


def test_every_kind_is_checked():
    assert set(CHECKS) == set(EDITORS) and len(EDITORS) == 8


@pytest.mark.parametrize("kind", list(EDITORS))
def test_the_target_is_what_the_instruction_says(kind: str):
    found = edits(kind)
    assert len(found) > 400
    for edit in found:
        assert edit.kind == kind
        CHECKS[kind](edit)
        assert lies_free(edit.target), edit
        assert 1 <= len(edit.target.things) <= 4
        assert not held_out_scene(edit.target)
        if kind not in ("add", "move"):
            assert edit.place is None


def test_the_source_is_the_scene():
    rng = np.random.default_rng(0)
    for scene in SCENES[:100]:
        edit = sample_edit(rng, scene)
        assert edit is not None and edit.source == scene and edit.target != scene


def test_any_kind_is_drawn():
    rng = np.random.default_rng(1)
    found = [sample_edit(rng, scene) for scene in SCENES[:300]]
    assert {edit.kind for edit in found if edit is not None} == set(EDITORS)


def test_held_out_edits_hold_a_held_out_combination():
    rng = np.random.default_rng(2)
    for scene in [sample_scene(rng, 48, 48, split="test") for _ in range(50)]:
        edit = sample_edit(rng, scene, split="test")
        assert edit is not None and held_out_scene(edit.source)
        assert sample_edit(rng, scene) is None  # its source is held out already
    found = [sample_edit(rng, scene, "replace", split="test") for scene in SCENES[:100]]
    made = [edit for edit in found if edit is not None]
    assert len(made) > 30 and all(held_out_scene(edit.target) for edit in made)


def test_edits_that_a_scene_does_not_allow():
    rng = np.random.default_rng(3)
    thing = Thing("star", "red", "small", "plain", 10, 10)
    one = Scene((thing,), "white", 48, 48)
    assert sample_edit(rng, one, "remove") is None and sample_edit(rng, one, "swap") is None
    corners = [replace(thing, x=x, y=y) for x in (10, 38) for y in (10, 38)]
    twins = Scene(tuple(corners), "white", 48, 48)
    for kind in ("add", "remove", "replace", "recolor", "resize", "move", "swap"):
        assert sample_edit(rng, twins, kind) is None, kind
