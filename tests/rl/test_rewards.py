"""Rewards: the shipped towers' text-image score, a judge's verdict, the world's scores, and accepted values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from arm.errors import ConfigError, TrainingError, WeightsError
from arm.judge import JudgeConfig
from arm.model_directory import find_model
from arm.rl.objective import gated
from arm.rl.rewards import Attempt, JudgeReward, SiglipReward, as_components
from arm.world.domain import World
from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.language import short_caption
from arm.world.reader import read
from arm.world.sampling import sample_scene
from arm.world.scene import Scene, Thing, render
from arm.world.scoring import Prompt, Wanted, WorldReward, dense_prompt, satisfies
from judge_server import good, judge_server


def test_a_picture_fits_its_own_caption_best():
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng, *((56, 56), (48, 64))[i % 2], max_things=2) for i in range(16)]
    pictures, texts = [render(s) for s in scenes], [short_caption(rng, s) for s in scenes]
    reward = SiglipReward(find_model("micro") / "siglip")
    reward.check("drawing", domain=World(), scale=1)
    own = reward([Attempt(t, p) for t, p in zip(texts, pictures, strict=True)])
    other = reward([Attempt(texts[i - 1], pictures[i]) for i in range(16)])
    mine, theirs = ([c["fit"] for c in found if c is not None] for found in (own, other))
    assert len(mine) == 16 and all(0 <= v <= 1 for v in mine + theirs)
    assert np.mean(np.greater(mine, theirs)) > 0.9


def test_missing_towers_are_one_line(tmp_path: Path):
    with pytest.raises(WeightsError, match="weights are missing"):
        SiglipReward(tmp_path / "nothing").check("drawing", domain=World(), scale=1)
    with pytest.raises(ConfigError, match="cannot tell what an edit changed"):
        SiglipReward(tmp_path / "nothing").check("editing", domain=World(), scale=1)


GREY = np.full((8, 8, 3), 128, dtype=np.uint8)


def test_components_and_missing_ones():
    def answer(body, _):
        return "?" if "odd" in body["messages"][1]["content"][0]["text"] else good(body)

    with judge_server(answer) as server:
        config = JudgeConfig(server.url, "judge-1", retries=0)
        drawn = JudgeReward(config, "drawing")([Attempt("a star", GREY), Attempt("odd", GREY)])
        edited = JudgeReward(config, "editing")([Attempt("remove it", GREY, GREY)])
    assert drawn == [{"objects": 0.8, "attributes": 1.0, "relations": 0.5}, None]
    assert edited == [{"instruction": 0.9, "preservation": 1.0, "quality": 0.4}]
    assert len(server.bodies[-1]["messages"][1]["content"]) == 3
    with pytest.raises(ValueError, match="beside its source"):
        JudgeReward(config, "editing")([Attempt("remove it", GREY)])


def test_a_step_that_waits_asks_for_what_it_lacks(tmp_path: Path):
    """Each call finds out anew whether the judge is there, and asks again for what could not be read."""
    state = {"dead": True}

    def answer(body, n):
        if n == 1:
            return "hm"
        return None if state["dead"] and n > 2 else "hm" if n == 2 else good(body)

    attempts = [Attempt(f"star {n}", GREY) for n in range(6)]
    with judge_server(answer) as server:
        config = JudgeConfig(
            server.url, "judge-1", retries=0, concurrency=1, give_up=2, cache=tmp_path
        )
        reward = JudgeReward(config, "drawing")
        found = reward(attempts)
        # One verdict, one that cannot be read twice over, two failures, and two that are not asked.
        assert [r is not None for r in found] == [True, *[False] * 5] and len(server.bodies) == 5
        assert [r is None for r in reward(attempts[1:])] == [True] * 5 and len(server.bodies) == 7
        state["dead"] = False
        assert None not in reward(attempts[1:]) and len(server.bodies) == 7 + 5
        assert reward(attempts[:1]) == found[:1] and len(server.bodies) == 12


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


# Values that a reward may return

HALVES = (0.5, np.float32(0.5), np.float64(0.5), np.float16(0.5), np.array(0.5), np.array([0.5]),
          torch.tensor(0.5), torch.tensor([0.5], dtype=torch.bfloat16))  # fmt: skip


@pytest.mark.parametrize("half", HALVES, ids=repr)
def test_scalars_of_any_library_are_rewards(half: object):
    for value, name in (({"fit": half}, "fit"), (half, "reward")):
        components = as_components(value)
        assert components == {name: 0.5} and type(components[name]) is float
    assert as_components({"a": np.int64(1), "b": np.bool_(True)}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    "missing",
    [None, float("nan"), float("inf"), -float("inf"), np.float32("nan"), torch.tensor(float("inf")), 1e39,
     {"a": 1.0, "b": float("nan")}, {"a": None, "b": 1.0}],
    ids=repr,
)  # fmt: skip
def test_what_is_not_finite_is_missing(missing: object):
    assert as_components(missing) is None


@pytest.mark.parametrize("wrong", ["0.5", {"a": "0.5"}, [0.5, 0.5], np.zeros(2), 1j, 10**400, {}])
def test_other_values_are_one_line(wrong: object):
    with pytest.raises(TrainingError, match=r"^the reward returned [^\n]*$"):
        as_components(wrong)


def test_all_attempts_have_the_same_names():
    assert as_components({"b": 1, "a": 0}, ("a", "b")) == {"a": 0.0, "b": 1.0}
    with pytest.raises(TrainingError, match="the components a, but a, b for another attempt"):
        as_components({"a": 1}, ("a", "b"))
