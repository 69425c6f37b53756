"""A reinforcement-learning run for tests in processes of their own: `arm train tests.rl_run:judged`."""

import os
from pathlib import Path

from arm.generate import Guidance
from arm.judge import JudgeConfig
from arm.rl.grpo import GRPORun, Patience
from arm.rl.rewards import JudgeReward
from arm.rl.rollout import Task
from arm.rl.update import Anchors, Objective
from arm.sampling import Sampling
from arm.train.optim import Optim
from arm.train.training import Loop
from arm.world.domain import World
from arm.world.scoring import WorldReward

DRAWING = Task(2, Sampling(1.0, top_k=50), WorldReward(), samples=3)


def world(model: str, out: Path, **changes) -> GRPORun:
    """Both tasks, guided editing, two updates a rollout; the world's rewards."""
    settings = {
        "out": out,
        "model": model,
        "drawing": DRAWING,
        "editing": Task(
            2, Sampling(1.0), WorldReward(), samples=2, guidance=Guidance(1.5, 1.25), combine="gdpo"
        ),
        "loop": Loop(steps=4, seed=3, log_every=1, save_every=2),
        "optim": Optim(lr=1e-3, warmup=0),
        "objective": Objective(mini_batches=2, update=4),
        "anchors": Anchors(null_share=0.5, questions=2),
        "watch": 0,
        "domain": World(),
    }
    return GRPORun(**{**settings, **changes})


def judged() -> GRPORun:
    """Drawing and editing before the judge that the environment names."""
    judge = JudgeConfig(
        os.environ["RL_JUDGE"], "judge-1", retries=0, timeout_s=5.0, concurrency=2,
        cache=Path(os.environ["RL_OUT"]) / "verdicts",
    )  # fmt: skip
    return world(
        os.environ["RL_MODEL"],
        Path(os.environ["RL_OUT"]),
        drawing=Task(2, Sampling(1.0), JudgeReward(judge, "drawing"), samples=3),
        editing=Task(1, Sampling(1.0), JudgeReward(judge, "editing"), samples=2),
        objective=Objective(update=4),
        patience=Patience(wait_s=0.2, tries=int(os.environ.get("RL_TRIES", 40))),
    )


def exact() -> GRPORun:
    """The world's rewards, and a look at held-out scores, at the model and in the folder that the
    environment names.
    """
    return world(os.environ["RL_MODEL"], Path(os.environ["RL_OUT"]), watch=4, watch_size=1)
