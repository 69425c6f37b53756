"""Rollouts: a group of sampled pictures for each problem, and their scores, kept in a journal.

    journal/000012_drawing_0of1.safetensors     codes and log-probabilities, written when sampled
    journal/000012_drawing_0of1.json            components of each sample, written when scored
    journal/run.json                            the run to which the journal belongs

A run that was killed reads samples and scores from the journal instead of making them again.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm.config import check_same_run, to_json
from arm.domain import PixelArray
from arm.errors import ConfigError, TrainingError
from arm.evals.painting import paint_each
from arm.files import read_json, write_json, write_text
from arm.generate import Guidance, Request, drawing_request, generate
from arm.models.weights import load_tensors, save_tensors
from arm.pipeline import Arm
from arm.rl.problems import Problem
from arm.rl.rewards import Attempt, Components, Kind, as_components
from arm.sampling import Sampling
from arm.train import parallel


@dataclass(frozen=True)
class Task:
    """`prompts` problems per step over all processes, with `samples` pictures each (the paper's K).

    sampling, guidance: of the policy, in sampling, training and reference alike. combine: "gated" multiplies the
    reward's components; "gdpo" normalises each within its group and adds them, whatever the objective's
    normalization. data: a text file of prompts, or for editing a data source of edits, whose targets are not
    used; None for the domain's. allow_outside: `data` may name pictures outside of its own folder.
    """

    prompts: int
    sampling: Sampling
    reward: Any
    samples: int = 16
    guidance: Guidance = field(default_factory=lambda: Guidance(1.0, 1.0))
    combine: Literal["gated", "gdpo"] = "gated"
    data: Path | None = None
    allow_outside: bool = False

    def __post_init__(self) -> None:
        if self.prompts < 1 or self.samples < 2:
            raise ValueError("a task needs at least 1 prompt and 2 samples of each")
        if self.sampling.temperature == 0:
            raise ValueError(
                "a policy needs a temperature above 0: greedy sampling cannot be trained"
            )


@dataclass(eq=False)
class Rollout:
    """N samples in groups: those of problem p are p * K to p * K + K - 1. `pictures` are kept from when they are
    decoded until all are scored.
    """

    task: Task
    problems: list[Problem]
    requests: list[Request]
    codes: list[NDArray[np.int64]]
    logprobs: list[NDArray[np.float32]]
    components: list[Components | None]
    seconds: dict[str, float]
    pictures: Sequence[PixelArray] | None = None

    @property
    def groups_N(self) -> Tensor:
        """The number of each sample's problem."""
        return torch.arange(len(self.problems)).repeat_interleave(self.task.samples)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the reward's components; None where all rewards are missing."""
        return next((tuple(c) for c in self.components if c is not None), None)

    def component_tensors(self, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Each component by name, (N,), NaN where missing. names: of the components where all are missing."""
        return {
            name: torch.tensor([np.nan if c is None else c[name] for c in self.components])
            for name in self.names or names or ("reward",)
        }

    def behaviour_NT(self) -> Tensor:
        """The sampler's log-probabilities, padded with 0 to the largest picture."""
        most = max(map(len, self.logprobs))
        return torch.from_numpy(np.stack([np.pad(p, (0, most - len(p))) for p in self.logprobs]))


def claim(journal: Path, config: Any, reference: str) -> None:
    """Records in a journal the run's configuration and the hash of its reference model. Raises ConfigError where
    the journal belongs to another run: that run may have no checkpoint yet that would show it.
    """
    path = journal / "run.json"
    if path.is_file():
        kept = read_json(path)
        check_same_run(kept["config"], config, journal.parent)
        if kept["reference"] != reference:
            raise ConfigError(f"{journal} holds rollouts of another model; choose another `out`")
    parallel.barrier()
    if parallel.is_main():
        try:
            write_json({"config": to_json(config), "reference": reference}, path)
        except OSError as error:
            raise ConfigError(
                f"{journal} cannot be created ({error.strerror}); choose another `out`"
            ) from None
    parallel.barrier()


def _stem(journal: Path, step: int, kind: Kind) -> Path:
    return journal / f"{step:06d}_{kind}_{parallel.rank()}of{parallel.world_size()}"


def sample_rollout(
    arm: Arm, task: Task, kind: Kind, problems: list[Problem], journal: Path, seed: int, step: int
) -> Rollout:
    """Samples a group of pictures for each problem, or reads them from the journal."""
    requests = [
        drawing_request(
            (problem.turn,), arm.vocab, problem.grid, task.guidance, has_image=kind == "editing"
        )
        for problem in problems
    ]
    path = _stem(journal, step, kind).with_suffix(".safetensors")
    begun = time.monotonic()
    sizes = [p.grid[0] * p.grid[1] for p in problems for _ in range(task.samples)]
    if path.is_file():
        kept = load_tensors(path)
        flat_codes, flat_logprobs = kept["codes"].numpy(), kept["logprobs"].numpy()
    else:
        first = parallel.rank() * len(problems)
        drawn = generate(
            arm.model, arm.vocab, requests, images=task.sampling,
            seed=seed * 1_000_003 + step, first=first, num_samples=task.samples,
        )  # fmt: skip
        results = [result for group in drawn for result in group]
        flat_codes = np.concatenate([r.codes.ravel() for r in results if r.codes is not None])
        flat_logprobs = np.concatenate([np.array(r.logprobs, dtype=np.float32) for r in results])
        tensors = {
            "codes": torch.from_numpy(flat_codes),
            "logprobs": torch.from_numpy(flat_logprobs),
        }
        save_tensors(tensors, path)
    ends = np.cumsum(sizes)[:-1]
    grids = [p.grid for p in problems for _ in range(task.samples)]
    return Rollout(
        task,
        problems,
        [r for r in requests for _ in range(task.samples)],
        [c.reshape(g) for c, g in zip(np.split(flat_codes, ends), grids, strict=True)],
        np.split(flat_logprobs, ends),
        [None] * len(sizes),
        {"sample": time.monotonic() - begun},
    )


def attempts(rollout: Rollout, pictures: Sequence[PixelArray]) -> list[Attempt]:
    """What a reward scores: each sample's picture with its problem."""
    owners = [p for p in rollout.problems for _ in range(rollout.task.samples)]
    return [
        Attempt(p.text, picture, p.source, p.truth)
        for p, picture in zip(owners, pictures, strict=True)
    ]


def score_rollout(arm: Arm, rollout: Rollout, kind: Kind, journal: Path, step: int) -> None:
    """Fills in the components of the samples: from the journal, and from the reward where they are missing there.

    Raises TrainingError where the reward returns anything else than `rewards.Reward` says.
    """
    path = _stem(journal, step, kind).with_suffix(".json")
    settled = False
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        # A journal of an earlier version may hold NaN, which is a missing reward.
        rollout.components = [as_components(value) for value in kept["components"]]
        settled = kept["settled"]
    open_ = [i for i, c in enumerate(rollout.components) if c is None]
    if settled or not open_:
        return
    begun = time.monotonic()
    if rollout.pictures is None:
        rollout.pictures = paint_each(arm, rollout.codes)
    painted = time.monotonic()
    every = attempts(rollout, rollout.pictures)
    returned = rollout.task.reward([every[i] for i in open_])
    rewards = list(returned) if isinstance(returned, Iterable) else []
    if len(rewards) != len(open_):
        raise TrainingError(
            f"the reward returned {len(rewards)} values for {len(open_)} attempts; return a list with one "
            "for each"
        )
    for i, value in zip(open_, rewards, strict=True):
        rollout.components[i] = as_components(value, rollout.names)
    rollout.seconds |= {"paint": painted - begun, "score": time.monotonic() - painted}
    write_scores(rollout, kind, journal, step, settled=False)


def write_scores(rollout: Rollout, kind: Kind, journal: Path, step: int, *, settled: bool) -> None:
    """Writes the components to the journal. settled: the update uses them, so missing ones stay missing."""
    components = [None if c is None else dict(c) for c in rollout.components]
    data = {"settled": settled, "components": components}
    write_text(json.dumps(data), _stem(journal, step, kind).with_suffix(".json"))


def missing_share(rollouts: Sequence[Rollout]) -> float:
    """The share of samples without a reward."""
    every = [c for rollout in rollouts for c in rollout.components]
    return sum(c is None for c in every) / len(every)
