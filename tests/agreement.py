"""What two processes do when only one of them meets a fault; told by `test_agreement.py`."""

import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from arm.errors import TrainingError
from arm.rl import grpo
from arm.rl.rollout import Rollout, Task
from arm.rl.update import Objective, advantages_of
from arm.sampling import Sampling
from arm.train import checkpoint, parallel
from arm.train.optim import Optim
from arm.train.sharding import Parallel, apply_parallelism
from arm.train.training import Loop, Training, training_device
from arm.world.scoring import WorldReward


def train(out: Path, losses_of: Any, module: nn.Module, **loop: Any) -> str:
    """A few steps; what they ended with."""
    settings = Loop(log_every=1, **{"steps": 4, **loop})
    try:
        with Training(
            settings, module, out=out, loop=settings, optim=Optim(lr=0.1), name="run"
        ) as training:
            for _, batch in training.batches(lambda step: torch.ones(2, 4)):
                training.update(losses_of(batch))
                training.save_if_due()
    except TrainingError as error:
        return str(error)
    return "done"


def one_loss_is_nan(out: Path) -> str:
    module = nn.Linear(4, 1)
    scale = float("nan") if parallel.rank() else 1.0
    return train(out, lambda x: {"loss": module(x).mean() * scale}, module)


def a_long_wait(out: Path) -> str:
    if not parallel.is_main():
        time.sleep(3)
    parallel.barrier()
    return f"{parallel.all_reduce_mean(torch.tensor(float(parallel.rank()))):g}"


def one_sees_no_checkpoint(out: Path) -> str:
    module = nn.Linear(4, 1)

    def losses(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": module(x).square().mean()}

    train(out, losses, module, steps=1)
    newest = checkpoint.newest
    if parallel.rank():
        checkpoint.newest = lambda run_dir: None
    optimizer = torch.optim.AdamW(module.parameters())
    found = checkpoint.resume(out, module, optimizer)
    checkpoint.newest = newest
    return f"{found}"


def killed_after_a_checkpoint(out: Path) -> str:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    apply_parallelism(module, Parallel(shard=True), training_device())
    steps: list[int] = []

    def losses(x: torch.Tensor) -> dict[str, torch.Tensor]:
        steps.append(len(steps))
        time.sleep(0.3)
        if len(steps) == 9:
            raise TrainingError("killed")
        return {"loss": module(x).square().mean()}

    told = train(out, losses, module, steps=10, save_every=5)
    parallel.barrier()
    newest = checkpoint.newest(out)
    return f"{told} {newest and newest.name}"


def one_drifts_too_far(out: Path) -> str:
    return reinforce(out, kl=0.6 if parallel.rank() else 0.1, missing=False)


def one_has_no_reward(out: Path) -> str:
    return reinforce(out, kl=0.1, missing=bool(parallel.rank()))


def made_up(rewards: list[list[float]], combine: Any) -> Rollout:
    """A rollout with these rewards, group by group."""
    task = Task(len(rewards), Sampling(1.0), WorldReward(), len(rewards[0]), combine=combine)
    components: Any = [{"follow": r, "quality": r * r} for group in rewards for r in group]
    return Rollout(task, [None] * len(rewards), [], [], [], components, {})  # pyright: ignore[reportArgumentType]


def advantages_of_two(out: Path) -> str:
    rewards = [[0.5, 0.5, 0.6]] if parallel.rank() else [[0.0, 0.5, 1.0]]
    lines = []
    for combine in ("gdpo", "gated"):
        mine = made_up(rewards, combine)
        reward_N, found = advantages_of(mine, Objective(normalization="batch"))
        lines.append(f"{[reward_N, found.values_N]} {found.constant}")
    return "\n".join(lines)


def reinforce(out: Path, kl: float, missing: bool) -> str:
    """An update of a made-up rollout: its error, or the names of what it logs."""
    task = Task(2, Sampling(1.0), WorldReward(), samples=2)
    problems: Any = [None]
    components: Any = [None if missing else {"follow": k / 2, "quality": 1.0} for k in range(2)]
    rollout = Rollout(task, problems, [], [None] * 2, [], components, {})  # pyright: ignore[reportArgumentType]
    trainer = grpo.Trainer.__new__(grpo.Trainer)
    trainer.constant = {"drawing": 0}
    trainer.run = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        shuffle_rewards=False, kl_budget=0.3, out=out, objective=Objective()
    )
    trainer.updater = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        policy=lambda *_: (0.0, {"kl": kl}), understanding=lambda step: (0.0, {})
    )
    try:
        found = trainer.losses(grpo.Update({"drawing": rollout}, 0, 0, 0))
    except TrainingError as error:
        return str(error)
    return " ".join(found)


if __name__ == "__main__":
    parallel.MESSAGE = timedelta(seconds=2)
    parallel.init_processes()
    for case in sys.argv[2:]:
        out = Path(sys.argv[1]) / case
        said = globals()[case](out)
        (Path(sys.argv[1]) / f"{case}_{parallel.rank()}.txt").write_text(said)
    parallel.destroy_processes()
