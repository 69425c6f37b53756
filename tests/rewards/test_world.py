"""What the world's reward pays: an honest attempt more than any trick."""

from dataclasses import replace

import numpy as np
import pytest

from arm.grpo import gated
from arm.rewards.base import Attempt
from arm.rewards.world import WorldReward
from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.prompts import Prompt, Wanted, dense_prompt, satisfies
from arm.world.reader import read
from arm.world.render import render
from arm.world.sampling import sample_scene
from arm.world.scene import Scene, Thing

STAR = Thing("star", "red", "large", "plain", 14, 14)
RING = Thing("ring", "blue", "small", "plain", 40, 15)
HEART = Thing("heart", "green", "small", "plain", 40, 42)
PAIR = Prompt("position", "", (Wanted("star", "red"), Wanted("ring", "blue")), "left of")


def picture(*things: Thing) -> np.ndarray:
    return render(Scene(things, "white", 56, 56))


def drawing(prompt: Prompt, shown: np.ndarray) -> float:
    return pay(Attempt("", shown, truth=prompt))


def pay(attempt: Attempt) -> float:
    import torch

    (components,) = WorldReward()([attempt])
    assert components is not None
    assert all(0 <= value <= 1 for value in components.values())
    return float(gated({k: torch.tensor([v]) for k, v in components.items()}))


def test_drawings_are_paid_by_how_right_they_are():
    right = drawing(PAIR, picture(STAR, RING))
    mirrored = drawing(PAIR, picture(replace(STAR, x=40, y=40), replace(RING, x=14, y=40)))
    one_color_wrong = drawing(PAIR, picture(replace(STAR, color="green"), RING))
    one_missing = drawing(PAIR, picture(STAR))
    blank = drawing(PAIR, picture())
    assert right > 0.9
    assert right > mirrored + 0.3
    assert mirrored > one_missing > blank
    assert right > one_color_wrong + 0.3
    assert blank == 0.0


def test_a_crowd_is_no_answer():
    """Drawing more than was asked, of which some is right, earns less than drawing what was asked."""
    asked = Prompt("single_object", "", (Wanted("star"),))
    assert drawing(asked, picture(STAR)) > 0.9
    assert drawing(asked, picture(STAR, RING)) == pytest.approx(0.5, abs=0.05)
    assert drawing(asked, picture(STAR, RING, HEART)) < 0.4


def test_counting_pays_by_steps_and_exactness_most():
    three = Prompt("counting", "", (Wanted("ring", count=3),))
    rings = [replace(RING, x=x, y=y) for x, y in ((12, 12), (40, 12), (12, 40), (40, 40))]
    paid = [drawing(three, picture(*rings[:n])) for n in range(5)]
    assert paid[0] == 0.0 and paid[1] < paid[2] < paid[3]
    assert paid[3] > 0.9 and paid[4] < 0.5


def test_noise_earns_next_to_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    assert drawing(PAIR, noise) < 0.1


def test_dense_prompts_are_true_of_their_scene():
    rng = np.random.default_rng(3)
    for _ in range(50):
        scene = sample_scene(rng, 56, 56)
        prompt = dense_prompt(rng, scene)
        assert satisfies(prompt, read(render(scene)))
        assert all(f"{t.color} {t.shape}" in prompt.text for t in scene.things)
        assert scene.background in prompt.text
    with pytest.raises(ValueError, match="no truth"):
        WorldReward()([Attempt("", picture(STAR))])


def sampled(kind: str, count: int) -> list[Edit]:
    rng, found = np.random.default_rng(5), []
    while len(found) < count:
        edit = sample_edit(rng, sample_scene(rng, 56, 56), kind)
        if edit is not None and len(edit.source.things) > 1:
            found.append(edit)
    return found


@pytest.mark.parametrize("kind", EDITORS)
def test_edits_earn_more_than_tricks(kind: str):
    """The honest edit beats a copied source, a blank picture and one that changes everything."""
    for edit in sampled(kind, 8):
        source, target = render(edit.source), render(edit.target)
        blank = render(replace(edit.target, things=()))
        others = ("white", "sky") if edit.target.background != "white" else ("sky", "mint")
        over = render(replace(edit.target, things=(), background=others[0]))

        def paid(shown: np.ndarray, edit: Edit = edit, source: np.ndarray = source) -> float:
            return pay(Attempt(edit.instruction, shown, source, edit))

        honest = paid(target)
        assert honest > 0.9, edit
        assert paid(source) < 0.55 * honest, edit
        assert paid(blank) < 0.6 * honest, edit
        assert paid(over) < 0.6 * honest, edit


def test_an_over_edited_picture_loses_what_it_should_have_kept():
    """All things recoloured where one was to be: followed, but nothing is preserved."""
    scene = Scene((STAR, RING, HEART), "white", 56, 56)
    target = replace(scene, things=(replace(STAR, color="green"), RING, HEART))
    edit = Edit("recolor", "make the star green", scene, target, (0,), None)
    over = picture(*(replace(t, color="green") for t in (STAR, RING, HEART)))
    honest = pay(Attempt("", render(target), render(scene), edit))
    assert pay(Attempt("", over, render(scene), edit)) < 0.6 * honest
    assert pay(Attempt("", render(scene), render(scene), edit)) < 0.1
