"""The world's checks of drawings and edits, on pictures whose score is known."""

from dataclasses import replace

import numpy as np
import pytest

from arm.domain import Split
from arm.world.edits import EDITORS, Edit, sample_edit, score_edit
from arm.world.reader import read
from arm.world.sampling import HELD_OUT_COLORED, HELD_OUT_COUNTS, HELD_OUT_RELATIONS, sample_scene
from arm.world.scene import BACKGROUND_PALETTE, Scene, Thing, render
from arm.world.scoring import (
    TAGS,
    Prompt,
    Wanted,
    knowledge_facts,
    knowledge_prompt,
    sample_prompt,
    satisfies,
)

STAR = Thing("star", "red", "large", "plain", 14, 14)
RING = Thing("ring", "blue", "small", "plain", 40, 15)
HEART = Thing("heart", "green", "small", "plain", 40, 42)


def _read(*things: Thing):
    return read(render(Scene(things, "white", 56, 56)))


@pytest.mark.parametrize(
    ("prompt", "right"),
    [
        (Prompt("single_object", "", (Wanted("star"),)), True),
        (Prompt("single_object", "", (Wanted("moon"),)), False),
        (Prompt("colors", "", (Wanted("star", "red"),)), True),
        (Prompt("colors", "", (Wanted("star", "blue"),)), False),
        (Prompt("two_object", "", (Wanted("star"), Wanted("ring"))), True),
        (Prompt("color_attr", "", (Wanted("star", "blue"), Wanted("ring", "red"))), False),
        (Prompt("position", "", (Wanted("star"), Wanted("ring")), "left of"), True),
        (Prompt("position", "", (Wanted("star"), Wanted("ring")), "right of"), False),
        (Prompt("position", "", (Wanted("ring"), Wanted("star")), "above"), False),
    ],
)
def test_satisfies(prompt: Prompt, right: bool):
    assert satisfies(prompt, _read(STAR, RING)) is right


def test_counting_is_exact():
    three = Prompt("counting", "", (Wanted("star", count=3),))
    stars = [
        replace(STAR, size="small", x=x, y=y) for x, y in ((12, 12), (40, 12), (12, 40), (40, 40))
    ]
    assert satisfies(three, _read(*stars[:3]))
    assert not satisfies(three, _read(*stars[:2]))
    assert not satisfies(three, _read(*stars))
    assert not satisfies(three, _read(*stars[:3], replace(RING, x=40, y=40)))


def test_prompts_keep_to_their_split():
    rng = np.random.default_rng(0)
    splits: tuple[Split, ...] = ("train", "dev", "test")
    for split in splits:
        for tag in TAGS:
            for _ in range(40):
                prompt = sample_prompt(rng, tag, split=split)
                new = (
                    any((w.color, w.shape) in HELD_OUT_COLORED for w in prompt.wanted)
                    or any((w.count, w.shape) in HELD_OUT_COUNTS for w in prompt.wanted)
                    or (len(prompt.wanted) == 2 and (prompt.wanted[0].shape, prompt.relation, prompt.wanted[1].shape) in HELD_OUT_RELATIONS)
                )  # fmt: skip
                if tag in ("counting", "colors", "position", "color_attr"):
                    assert new == (split != "train"), prompt
    with pytest.raises(ValueError, match="none of"):
        sample_prompt(rng, "colours", split="test")


def test_knowledge_prompts_never_name_what_they_ask_for():
    rng = np.random.default_rng(0)
    for fact in knowledge_facts("test"):
        assert fact.value not in knowledge_prompt(rng, fact).text.split()


@pytest.mark.parametrize("kind", list(EDITORS))
def test_the_right_edit_scores_ten_and_a_copied_source_less(kind: str):
    rng = np.random.default_rng(5)
    done = 0
    while done < 10:
        edit = sample_edit(rng, sample_scene(rng, 56, 56), kind)
        if edit is None:
            continue
        done += 1
        right = score_edit(edit, read(render(edit.target)))
        assert right.sc == 10 and right.overall > 9.9, edit
        copied = score_edit(edit, read(render(edit.source)))
        assert copied.follow == 0 or (kind == "swap" and edit.source.things), edit
        assert copied.sc <= 5, edit


@pytest.mark.parametrize("kind", [kind for kind in EDITORS if kind != "background"])
def test_a_blank_picture_scores_nothing(kind: str):
    rng = np.random.default_rng(6)
    blank = {name: np.full((56, 56, 3), rgb, np.uint8) for name, rgb in BACKGROUND_PALETTE.items()}
    done = 0
    while done < 10:
        edit = sample_edit(rng, sample_scene(rng, 56, 56), kind)
        if edit is not None:
            done += 1
            assert score_edit(edit, read(blank[edit.source.background])).sc == 0, edit


def test_an_unasked_background_halves_what_was_preserved():
    rng = np.random.default_rng(8)
    scene = Scene((STAR, RING, HEART), "white", 56, 56)
    edit = None
    while edit is None:
        edit = sample_edit(rng, scene, "recolor")
    moved = replace(edit.target, background="sky")
    assert score_edit(edit, read(render(moved))).preserve == 0.5


def test_changing_more_than_asked_costs():
    rng = np.random.default_rng(7)
    scene = Scene((STAR, RING, HEART), "white", 56, 56)
    edit = None
    while edit is None:
        edit = sample_edit(rng, scene, "recolor")
    untouched = next(i for i in range(3) if i not in edit.changed)
    over = edit.target.with_thing(untouched, color="yellow")
    score = score_edit(edit, read(render(over)))
    assert score.follow == 1 and score.preserve == 1 / 3


def edit_of(kind: str, source: Scene, target: Scene, changed: tuple[int, ...], place=None) -> Edit:
    return Edit(kind, "", source, target, changed, place)


FOUR = Scene(
    (
        Thing("star", "red", "small", "plain", 10, 10),
        Thing("ring", "blue", "small", "plain", 46, 10),
        Thing("heart", "pink", "small", "plain", 10, 46),
        Thing("arch", "teal", "small", "plain", 46, 46),
    ),
    "white", 56, 56,
)  # fmt: skip


def scored(edit: Edit, picture: Scene) -> tuple[float, float]:
    """(follow, preserve) of a picture."""
    score = score_edit(edit, read(render(picture)))
    return score.follow, score.preserve


def test_a_thing_that_was_moved_is_not_removed():
    """The removed star is found 6 units beside its old place, and everything else is as it was."""
    edit = edit_of("remove", FOUR, FOUR.without(0), ())
    assert scored(edit, FOUR.without(0)) == (1, 1)
    assert scored(edit, FOUR.with_thing(0, x=16))[0] == 0
    assert scored(edit, FOUR.with_thing(0, x=28, y=28)) == (0, 1)


def test_a_thing_that_was_copied_is_not_moved():
    target = FOUR.with_thing(0, x=28, y=28)
    edit = edit_of("move", FOUR, target, (0,), "center")
    assert scored(edit, target) == (1, 1)
    copy = replace(target, things=(*target.things, FOUR.things[0]))
    # Three other things are as they were, and there is one too many.
    assert scored(edit, copy) == (0, 0.75)


def test_a_swap_leaves_no_copy():
    star, ring = FOUR.things[:2]
    target = FOUR.with_thing(0, x=46).with_thing(1, x=10)
    edit = edit_of("swap", FOUR, target, (0, 1))
    assert scored(edit, target) == (1, 1)
    copy = replace(target, things=(*target.things, replace(star, x=28, y=28)))
    assert scored(edit, copy)[0] == 0
    assert scored(edit, FOUR) == (0, 1)
    assert ring.shape == "ring"


def test_an_edit_that_moves_another_thing_preserves_nothing():
    """4 units are within the tolerance, 6 are not; a thing that is gone costs its share alone."""
    edit = edit_of("remove", FOUR, FOUR.without(0), ())
    assert scored(edit, edit.target.with_thing(0, x=42)) == (1, 1)
    assert scored(edit, edit.target.with_thing(0, x=40)) == (1, 0)
    assert scored(edit, edit.target.without(0)) == (1, 2 / 3)
