"""Compares learning rates of reinforcement learning under a KL budget.

A higher rate gains more reward per step, until the policy has moved so far from the initial model that
understanding and guidance suffer. Each rate is run for the same few steps; the best is the one with the most
reward at the end among those whose KL to the reference stayed within the budget.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arm.errors import TrainingError
from arm.evals.report import markdown_grid
from arm.files import write_json
from arm.rl import grpo
from arm.rl.grpo import GRPORun
from arm.train import parallel

SHARED = True
"""Whether all processes run this stage (`train/chain.py`)."""


@dataclass(frozen=True)
class RatesRun:
    """base: the run, whose rate, steps, budget and directory are replaced. kl_budget: in nats per code."""

    out: Path
    base: GRPORun
    rates: tuple[float, ...]
    steps: int
    kl_budget: float

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0 or self.kl_budget <= 0:
            raise ValueError(
                "rates must be one or more positive numbers, and kl_budget must be positive"
            )


def summary(lines: Sequence[Mapping[str, float]], over: bool) -> dict[str, Any]:
    """The table row of one rate: mean reward of the first and of the last quarter, the last KLs, and the change of
    the held-out scores where the end was evaluated. over: whether the run exceeded its budget.
    """
    steps = [line for line in lines if "loss" in line]
    quarter = max(1, len(steps) // 4)

    def mean(name: str, part: Sequence[Mapping[str, float]]) -> float:
        values = [v for line in part for k, v in line.items() if k.endswith(name)]
        return float(np.mean(values)) if values else float("nan")

    row: dict[str, Any] = {
        "reward_before": mean("/reward", steps[:quarter]),
        "reward_after": mean("/reward", steps[-quarter:]),
        "kl": mean("/kl", steps[-1:]),
        "null_kl": mean("/null_kl", steps[-1:]),
        "understanding_kl": mean("understanding_kl", steps[-1:]),
        "steps": len(steps),
        "inside": "no" if over else "yes",
    }
    held_out = [line for line in lines if "held_out/vqa" in line]
    for task in ("geneval", "gedit", "vqa"):
        if len(held_out) > 1:
            row[task] = held_out[-1][f"held_out/{task}"] - held_out[0][f"held_out/{task}"]
    return row


COLUMNS = {
    "reward_before": "reward, first quarter",
    "reward_after": "reward, last quarter",
    "kl": "KL",
    "null_kl": "KL, empty prompts",
    "understanding_kl": "KL, answers",
    "geneval": "held-out geneval",
    "gedit": "held-out gedit",
    "vqa": "held-out vqa",
    "steps": "steps",
    "inside": "inside the budget",
}


def best(table: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The rate with the most reward at the end within the budget; None where no rate is."""
    inside = [rate for rate, row in table.items() if row["inside"] == "yes"]
    return max(inside, key=lambda rate: table[rate]["reward_after"], default=None)


def main(run: RatesRun) -> None:
    """Runs each rate (finished runs resume at their end), prints the table and the best rate."""
    table: dict[str, dict[str, Any]] = {}
    for rate in run.rates:
        out = run.out / f"rate_{rate:g}"
        over = False
        try:
            grpo.main(
                replace(
                    run.base,
                    out=out,
                    kl_budget=run.kl_budget,
                    watch=run.steps,
                    optim=replace(run.base.optim, lr=rate, floor=1.0),
                    loop=replace(run.base.loop, steps=run.steps),
                )
            )
        except TrainingError as error:
            if "over the budget" not in str(error):
                raise
            over = True
        text = (out / "metrics.jsonl").read_text(encoding="utf-8")
        table[f"{rate:g}"] = summary([json.loads(line) for line in text.splitlines()], over)
    if parallel.is_main():
        write_json({"table": table, "best": best(table)}, run.out / "table.json")
        print(markdown_grid(table, COLUMNS, "rate"), flush=True)
        print(f"best inside the budget: {best(table) or 'none'}", flush=True)
