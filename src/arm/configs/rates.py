"""Runs that choose the learning rate of reinforcement learning."""

from pathlib import Path

from arm.configs import grpo
from arm.rl.rates import RatesRun


def micro() -> RatesRun:
    """Four rates for both tasks, 40 steps each, KL up to 0.3 nats a code (guided drawing needs 0.15 to
    learn what ships). Two cores, about 30 minutes: the two high rates soon leave the budget.
    """
    return RatesRun(
        out=Path("runs/micro/rates"),
        base=grpo.micro_joint(),
        rates=(3e-5, 1e-4, 3e-4, 1e-3),
        steps=40,
        kl_budget=0.3,
    )
