"""The loop of reinforcement learning: what it trains, what it keeps, what a kill costs it."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import launch
import rl_run
from arm.errors import ConfigError, TrainingError
from arm.generate import Guidance
from arm.judge import JudgeConfig
from arm.models.weights import load_tensors
from arm.pipeline import Arm
from arm.rl import grpo, rollout, update
from arm.rl.problems import drawing_of, editing_of
from arm.rl.rewards import Attempt, JudgeReward
from arm.rl.update import Anchors, Objective, advantages_of
from arm.sampling import Sampling
from arm.train.training import Loop
from arm.world.domain import World
from arm.world.scoring import WorldReward
from conftest import TinyChain
from judge_server import judge_server


class Stopped(Exception):
    pass


def weights(directory: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted((directory / "model").glob("model*.safetensors")):
        found |= load_tensors(path)
    return found


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def scalars(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(chain: TinyChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("rl") / "run"
    grpo.main(rl_run.world(str(chain.model), out, watch=4, watch_size=1))
    return out


def test_it_trains_and_tells(whole: Path, chain: TinyChain):
    lines = scalars(whole)
    held_out = [line for line in lines if "held_out/vqa" in line]
    assert [line["step"] for line in held_out] == [0, 4]
    assert {"held_out/geneval", "held_out/gedit"} <= held_out[0].keys()
    assert (whole / "pictures/drawings_000004.png").is_file()
    assert Image.open(whole / "pictures/edits_000000.png").size[1] == 2 * 56
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    common = "reward follow quality spread constant_groups missing entropy kl null_kl ratio max_ratio clipped"
    names = {f"{task}/{name}" for task in ("drawing", "editing") for name in common.split()}
    names |= {"drawing/restraint", "editing/preserve", "understanding_kl", "grad_norm"}
    names |= {f"seconds/{phase}" for phase in ("sample", "paint", "score", "update")}
    assert names <= steps[0].keys()
    # The first update of a rollout is exactly on policy, the second one is not.
    for on, off in ((steps[0], steps[1]), (steps[2], steps[3])):
        assert on["drawing/ratio"] == pytest.approx(1, abs=1e-4)
        assert on["drawing/max_ratio"] == pytest.approx(1, abs=1e-3)
        assert off["drawing/max_ratio"] > on["drawing/max_ratio"]
    assert abs(steps[0]["drawing/kl"]) < 1e-6 < steps[3]["drawing/kl"]
    before = load_tensors(chain.model / "model.safetensors")
    assert not all(torch.equal(before[k], v) for k, v in weights(whole).items() if k in before)
    assert Arm.from_pretrained(whole / "model").vocab.num_codes == 4096


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (rollout, "generate", 1), (rollout, "generate", 2), (rollout, "generate", 3),
        (rollout, "paint_each", 1), (rollout, "paint_each", 4), (update, "policy_loss", 1),
        (update, "policy_loss", 5), (update, "answer_kl", 3), (update, "answer_kl", 4),
    ],
)  # fmt: skip
def test_stopped_in_any_phase_it_ends_in_the_same_bits(
    whole: Path, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    module: Any, name: str, call: int,
):  # fmt: skip
    run = rl_run.world(str(chain.model), tmp_path / "run", watch=4, watch_size=1)
    original, calls = getattr(module, name), 0

    def stops(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Stopped
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, stops)
    with pytest.raises(Stopped):
        grpo.main(run)
    monkeypatch.setattr(module, name, original)
    grpo.main(run)
    assert same(whole, tmp_path / "run")


def test_what_was_sampled_and_scored_is_not_done_again(
    whole: Path, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = rl_run.world(str(chain.model), tmp_path / "run")
    monkeypatch.setattr(update, "policy_loss", lambda *a, **k: (_ for _ in ()).throw(Stopped()))
    with pytest.raises(Stopped):
        grpo.main(run)
    monkeypatch.undo()
    calls: list[int] = []
    original = rollout.generate
    monkeypatch.setattr(rollout, "generate", lambda *a, **k: calls.append(1) or original(*a, **k))
    grpo.main(run)
    assert len(calls) == 2  # both tasks of the second rollout; the first one was in the journal
    assert same(whole, tmp_path / "run")


def test_another_reference_is_refused(chain: TinyChain, tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(chain.model, model)
    run = rl_run.world(str(model), tmp_path / "run", loop=Loop(steps=2, seed=3, save_every=1))
    grpo.main(run)
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="holds rollouts of another model; choose another `out`"):
        grpo.main(replace(run, loop=Loop(steps=3, seed=3, save_every=1)))


def test_a_journal_belongs_to_one_run(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed before its first checkpoint, a run of other settings may not take over what was sampled."""
    run = rl_run.world(str(chain.model), tmp_path / "run")
    monkeypatch.setattr(update, "policy_loss", lambda *a, **k: (_ for _ in ()).throw(Stopped()))
    with pytest.raises(Stopped):
        grpo.main(run)
    monkeypatch.undo()
    assert run.drawing is not None
    with pytest.raises(ConfigError, match=r"trained with drawing\.samples=3, now it is 2"):
        grpo.main(replace(run, drawing=replace(run.drawing, samples=2)))


def test_a_reward_that_does_not_fit_its_task_is_named_at_the_start(
    chain: TinyChain, tmp_path: Path
):
    judged = JudgeReward(JudgeConfig("http://127.0.0.1:9/v1", "judge-1"), "editing")
    cases = (
        (replace(rl_run.DRAWING, data=tmp_path), "scores only what the world asks for"),
        (replace(rl_run.DRAWING, reward=judged), r"set drawing\.reward\.rubric=drawing"),
        (replace(rl_run.DRAWING, reward=WorldReward(scale=3)), r"set drawing\.reward\.scale=1"),
    )
    for drawing, message in cases:
        with pytest.raises(ConfigError, match=message):
            grpo.main(rl_run.world(str(chain.model), tmp_path / "run", drawing=drawing))
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"journal cannot be created .*choose another `out`"):
        grpo.main(rl_run.world(str(chain.model), tmp_path / "file"))


def darkness(attempts: Sequence[Attempt]) -> list[float]:
    """1 for black, 0 for white."""
    return [1 - float(attempt.picture.mean()) / 255 for attempt in attempts]


def test_a_plain_function_is_a_reward(chain: TinyChain, tmp_path: Path):
    drawing = replace(rl_run.DRAWING, reward=darkness)
    run = rl_run.world(
        str(chain.model), tmp_path, drawing=drawing, editing=None, loop=Loop(steps=2)
    )
    grpo.main(run)
    recorded = json.loads((tmp_path / "config.json").read_text())
    assert recorded["drawing"]["reward"].endswith("test_grpo:darkness")
    kept = json.loads((tmp_path / "journal/000000_drawing_0of1.json").read_text())
    assert all(0 < each["reward"] < 1 for each in kept["components"])


class Darkness:
    """1 for black, 0 for white."""

    def check(self, kind: str, *, domain: object, scale: int) -> None:
        pass

    def __call__(self, attempts):
        return [{"dark": 1 - float(a.picture.mean()) / 255} for a in attempts]


def test_a_step_that_waits_is_not_painted_again(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Late(Darkness):
        calls = 0

        def __call__(self, attempts):
            Late.calls += 1
            return [None] * len(attempts) if Late.calls == 1 else super().__call__(attempts)

    painted: list[int] = []
    original = rollout.paint_each
    monkeypatch.setattr(
        rollout, "paint_each", lambda *a, **k: painted.append(1) or original(*a, **k)
    )
    run = rl_run.world(
        str(chain.model), tmp_path, drawing=rollout.Task(2, Sampling(1.0), Late(), samples=2),
        editing=None, loop=Loop(steps=2, seed=3, log_every=1), objective=Objective(),
        patience=grpo.Patience(wait_s=0.0),
    )  # fmt: skip
    grpo.main(run)
    assert Late.calls == 3 and len(painted) == 2


class Fixed(Darkness):
    """One value for every attempt."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, attempts):
        return [self.value] * len(attempts)


def rewarded(model: Path, out: Path, value: Any, tries: int = 0) -> grpo.GRPORun:
    task = rollout.Task(2, Sampling(1.0), Fixed(value), samples=2)
    return rl_run.world(
        str(model), out, drawing=task, editing=None, loop=Loop(steps=5, seed=3, log_every=1),
        objective=Objective(), patience=grpo.Patience(wait_s=0.0, tries=tries),
    )  # fmt: skip


def test_a_reward_of_nan_is_missing(chain: TinyChain, tmp_path: Path):
    with pytest.raises(TrainingError, match="100% of the rewards are missing after 1 tries"):
        grpo.main(rewarded(chain.model, tmp_path, {"fit": np.float32("nan")}, tries=1))


def test_a_constant_reward_is_reported(
    chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """NumPy scalars are rewards; of five constant rollouts the first, second and fourth are reported."""
    grpo.main(rewarded(chain.model, tmp_path, np.float32(0.25)))
    steps = [line for line in scalars(tmp_path) if "loss" in line]
    assert [line["drawing/reward"] for line in steps] == [0.25] * 5
    reports = [line for line in capsys.readouterr().out.splitlines() if "do not differ" in line]
    where = tmp_path.name
    assert [line.partition(": the")[0] for line in reports] == [
        f"{where}: step {step}" for step in (1, 2, 4)
    ]
    assert "within any of the 2 groups (100%), as in the 3 rollouts before;" in reports[-1]


def test_groups_are_told_by_problem_and_not_by_text(chain: TinyChain):
    """Two pictures with one instruction are two groups: each is measured against itself."""
    arm = Arm.from_pretrained(chain.model)
    task = rl_run.world("", Path()).editing
    assert task is not None
    problems = editing_of(World())(arm, 0, 0, [0, 1])
    twins = [replace(p, text="remove the star") for p in problems]
    made = rollout.Rollout(task, twins, [], [], [], [], {})
    assert made.groups_N.tolist() == [0, 0, 1, 1]
    made.components = [{"follow": v} for v in (1.0, 0.0, 0.5, 0.5)]
    _, advantage = advantages_of(made, Objective())
    assert advantage.used_N.tolist() == [True, True, False, False]


def test_problems_are_pure_and_of_training_combinations(chain: TinyChain):
    arm = Arm.from_pretrained(chain.model)
    together = drawing_of(World())(arm, 1, 7, range(4))
    apart = [drawing_of(World())(arm, 1, 7, [i])[0] for i in range(4)]
    assert [p.text for p in together] == [p.text for p in apart]
    edits = editing_of(World())(arm, 1, 7, range(3))
    assert [p.text for p in edits] == [
        editing_of(World())(arm, 1, 7, [i])[0].text for i in range(3)
    ]
    assert all(
        np.array_equal(p.source.shape[:2], (8 * p.grid[0], 8 * p.grid[1]))
        for p in edits
        if p.source is not None
    )


def test_a_mismatch_of_sampler_and_policy_stops_the_run(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sampling with guidance and training without is the classical mistake."""
    run = rl_run.world(str(chain.model), tmp_path, drawing=None, loop=Loop(steps=1, seed=3))
    original = rollout.generate

    def unguided(model, vocab, requests, **options):
        bare = [replace(r, streams=r.streams[:1], coefficients=(3.0,)) for r in requests]
        return original(model, vocab, bare, **options)

    monkeypatch.setattr(rollout, "generate", unguided)
    with pytest.raises(TrainingError, match=r"the ratio must be 1, but \|log ratio\| is"):
        grpo.main(run)


def test_the_kl_budget_holds(chain: TinyChain, tmp_path: Path):
    run = rl_run.world(str(chain.model), tmp_path, kl_budget=1e-9)
    with pytest.raises(
        TrainingError, match="over the budget of 1e-09; raise kl_budget to continue"
    ):
        grpo.main(run)
    grpo.main(replace(run, kl_budget=10.0))  # as the error says
    assert (tmp_path / "model/arm.json").is_file()


def test_anchors_hold_the_branches_that_no_reward_asks_about(chain: TinyChain, tmp_path: Path):
    """The same steps with strong anchors move the unconditional branch and the answers less."""

    def drift(out: Path, anchors: Anchors) -> tuple[float, float]:
        run = rl_run.world(
            str(chain.model), out, anchors=anchors, editing=None,
            drawing=rollout.Task(2, Sampling(1.0, top_k=50), Darkness(), samples=4),
            loop=Loop(steps=12, seed=3, log_every=1), objective=Objective(),
        )  # fmt: skip
        grpo.main(run)
        last = scalars(out)[-1]
        return last["drawing/null_kl"], last["understanding_kl"]

    free = drift(
        tmp_path / "free", Anchors(null=1e-9, null_share=0.5, understanding=0.0, questions=2)
    )
    held = drift(
        tmp_path / "held", Anchors(null=30.0, null_share=0.5, understanding=30.0, questions=2)
    )
    assert held[0] < 0.5 * free[0]
    assert held[1] < 0.5 * free[1]


def test_it_learns_what_is_paid(chain: TinyChain, tmp_path: Path):
    """A reward for dark pictures makes pictures darker."""
    reward = Darkness()
    task = rollout.Task(4, Sampling(1.0), reward, samples=8)
    run = rl_run.world(
        str(chain.model), tmp_path, drawing=task, editing=None,
        anchors=Anchors(null=0, understanding=0, questions=0), objective=Objective(kl=0.0),
        loop=Loop(steps=30, seed=3, log_every=1),
    )  # fmt: skip
    grpo.main(run)
    earned = [line["drawing/reward"] for line in scalars(tmp_path)]
    # What an untrained decoder paints hardly differs; the lift is many times what it varies by chance.
    assert np.mean(earned[-5:]) - np.mean(earned[:5]) > 5 * np.std(earned[:5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drawing": None, "editing": None}, "drawing, editing or both"),
        ({"loop": Loop(steps=1, workers=2)}, "workers must be 0"),
    ],
)
def test_bad_runs(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        rl_run.world("micro", Path(), **changes)
    with pytest.raises(ValueError, match="greedy sampling cannot be trained"):
        rollout.Task(1, Sampling(0.0), None)
    assert rollout.Task(1, Sampling(0.5), None).guidance == Guidance(1.0, 1.0)


# Before a judge, in processes of their own


def start(chain: TinyChain, url: str, out: Path, **more: str) -> subprocess.Popen[str]:
    where = {"RL_JUDGE": url, "RL_OUT": str(out), "RL_MODEL": str(chain.model)}
    return launch.begin("train", "tests.rl_run:judged", **where, **more)


def by_picture(body: dict[str, Any], _: int = 0) -> str:
    """A verdict that depends on the picture alone."""
    user = body["messages"][1]["content"]
    score = sum(user[-1]["image_url"]["url"].encode()) % 11
    names = ("objects", "attributes", "relations")
    if "objects" not in body["messages"][0]["content"]:
        names = ("instruction", "preservation", "quality")
    return json.dumps(dict.fromkeys(names, score))


@pytest.mark.slow
def test_sigkill_in_each_phase_and_a_judge_that_goes_away(chain: TinyChain, tmp_path: Path):
    def slowly(body, n):
        time.sleep(0.05)
        return by_picture(body)

    def killed_when(out: Path, happened) -> None:
        process = start(chain, server.url, out)
        while not happened():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()

    with judge_server(slowly) as server:
        assert start(chain, server.url, tmp_path / "whole").wait() == 0
        paid = len(server.bodies)
        out = tmp_path / "killed"
        journal = out / "journal"
        # While sampling: the journal is not there yet.
        killed_when(out, lambda: (out / "config.json").is_file())
        # While judging: sampled, some verdicts, no scores.
        killed_when(out, lambda: len(list((out / "verdicts").rglob("*.json"))) >= 2)
        assert not list(journal.glob("0*.json"))
        # While updating: scored, no checkpoint.
        killed_when(out, lambda: len(list(journal.glob("000000_*.json"))) == 2)
        killed_when(out, lambda: (out / "step_00000002").is_dir())
        assert start(chain, server.url, out).wait() == 0
        # Nobody asks again for what was answered: at most what was under way at a kill.
        assert len(server.bodies) - paid <= paid + 3 * 2
    assert same(tmp_path / "whole", out)


@pytest.mark.slow
def test_a_judge_that_is_down_costs_nothing(chain: TinyChain, tmp_path: Path):
    state = {"up": True}

    def answer(body, n):
        state["up"] = state["up"] and not (len(server.bodies) >= 10 and not state.get("back"))
        return by_picture(body) if state["up"] or state.get("back") else (503, {})

    with judge_server() as server:
        pass
    refused = start(chain, server.url, tmp_path / "never")
    errors, _ = refused.communicate()
    assert refused.returncode == 2
    assert [line for line in errors.splitlines() if line.startswith("arm:")] == [
        f"arm: the judge at {server.url} does not answer; start it or name another url"
    ]
    assert "Traceback" not in errors

    with judge_server(by_picture) as server:
        assert start(chain, server.url, tmp_path / "whole").wait() == 0
    with judge_server(answer) as server:
        process = start(chain, server.url, tmp_path / "waits")
        while not list((tmp_path / "waits").glob("step_*")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        state["back"] = True
        said, _ = process.communicate()
    assert process.returncode == 0
    assert "of the rewards are missing; step 1 is saved, waiting" in said
    assert same(tmp_path / "whole", tmp_path / "waits")

    with judge_server(lambda body, n: (503, {})) as server:
        gives_up = start(chain, server.url, tmp_path / "gives_up", RL_TRIES="1")
        errors, _ = gives_up.communicate()
    assert gives_up.returncode == 2
    assert "start again when the reward answers" in errors and "Traceback" not in errors
    with judge_server(by_picture) as server:
        assert start(chain, server.url, tmp_path / "gives_up").wait() == 0
    assert same(tmp_path / "whole", tmp_path / "gives_up")
