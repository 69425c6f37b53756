"""Reinforcement learning on visual tokens (ARM section 4): sample, decode, score, update.

A step is a pure function of the weights, (seed, step) and the rewards. Rollouts and scores are journalled
(`rl/rollout.py`); the update is in `rl/update.py`, its arithmetic in `rl/objective.py`.
"""

import copy
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arm.config import MAY_CHANGE, UNCHANGED_IF_UNRECORDED
from arm.data.code_shards import open_code_shards
from arm.data.records import SKIPPED, Skipped
from arm.domain import TaskDomain
from arm.errors import TrainingError
from arm.evals import tasks
from arm.evals.painting import canvas_of, encode_pictures, paint_each
from arm.model_directory import find_model, load_defaults
from arm.models.backbone import backbone_hash, load_backbone, save_backbone
from arm.models.qwen2 import Qwen2
from arm.pipeline import Arm
from arm.rl.objective import Advantages
from arm.rl.problems import (
    Maker,
    answers_of,
    data_digests,
    drawing_from,
    drawing_of,
    editing_from,
    editing_of,
)
from arm.rl.rewards import CheckedReward, Kind
from arm.rl.rollout import (
    Rollout,
    Task,
    claim,
    missing_share,
    sample_rollout,
    score_rollout,
    write_scores,
)
from arm.rl.update import Anchors, Objective, Updater, advantages_of, reward_statistics
from arm.train import parallel
from arm.train.export import replace_backbone
from arm.train.finetune import Finetune, merge_lora, prepare
from arm.train.log import Logged
from arm.train.optim import Optim, block_matrices
from arm.train.sharding import apply_parallelism, materializer, multiply_in_bf16, unsharded
from arm.train.training import Loop, Training, Unready, training_device, uses_bf16

SHARED = True
"""Whether all processes run this stage (`train/chain.py`)."""


@dataclass(frozen=True)
class Patience:
    """What happens while more than the share `max_missing` of a step's rewards is missing: the run saves, waits
    `wait_s` seconds and asks for them again, up to `tries` times, before it ends with an error.
    """

    max_missing: float = field(default=0.1, metadata=MAY_CHANGE)
    wait_s: float = field(default=30.0, metadata=MAY_CHANGE)
    tries: int = field(default=40, metadata=MAY_CHANGE)


@dataclass(frozen=True)
class GRPORun:
    """A run of reinforcement learning.

    model: the model to start from, a shipped name or a directory. drawing, editing: the tasks; None for a task
    that is not trained. domain: the source of prompts, edits and questions for tasks and the anchor without
    `data`, and of the held-out tasks; None for a run on a user's data alone. finetune: the parameters that train
    (`train/finetune.py`). kl_budget: the run ends with an error where the mean KL to the reference, in nats per
    code, exceeds it. watch: held-out scores every so many steps, of `watch_size` tasks of each kind; 0 for never.
    shuffle_rewards: permute the rewards of a batch, as a control.
    """

    out: Path = field(metadata=MAY_CHANGE)
    model: str
    drawing: Task | None
    editing: Task | None
    loop: Loop
    optim: Optim
    objective: Objective = field(default_factory=Objective)
    anchors: Anchors = field(default_factory=Anchors)
    patience: Patience = field(default_factory=Patience)
    kl_budget: float | None = field(default=None, metadata=MAY_CHANGE)
    watch: int = 25
    watch_size: int = 10
    shuffle_rewards: bool = False
    finetune: Finetune = field(default_factory=Finetune)
    domain: TaskDomain | None = field(default=None, metadata=UNCHANGED_IF_UNRECORDED)

    def __post_init__(self) -> None:
        if self.drawing is None and self.editing is None:
            raise ValueError("a run needs drawing, editing or both")
        if self.loop.workers:
            raise ValueError("the model in training samples the rollouts: loop.workers must be 0")
        if self.domain is None:
            if any(task.data is None for task in self.tasks.values()):
                raise ValueError("a run without a domain needs the data of each task")
            if self.watch or (self.anchors.questions and self.anchors.data is None):
                raise ValueError("a run without a domain has no held-out tasks and no questions: set "
                                 "watch=0, and anchors.data or anchors.questions=0")  # fmt: skip

    @property
    def tasks(self) -> dict[Kind, Task]:
        """The tasks of the run, by kind."""
        both: dict[Kind, Task | None] = {"drawing": self.drawing, "editing": self.editing}
        return {kind: task for kind, task in both.items() if task is not None}


@dataclass(eq=False)
class Update:
    """The input of one optimizer step."""

    rollouts: dict[Kind, Rollout]
    rollout: int
    """The number of the rollouts."""
    part: int
    """The number of the mini-batch of their samples."""
    step: int


def maker_of(task: Task, kind: Kind, arm: Arm, out: Path, domain: TaskDomain | None) -> Maker:
    """The source of a task's problems. Raises DataError where a user's data cannot be used."""
    if task.data is None:
        assert domain is not None  # `GRPORun` demands one
        return drawing_of(domain) if kind == "drawing" else editing_of(domain)
    if kind == "drawing":
        return drawing_from(task.data, arm)
    return editing_from(task.data, Skipped(out / SKIPPED), task.allow_outside)


class Trainer:
    """The two halves of a step: `batch` samples and scores rollouts, `losses` computes the update.

    reference: the model that the policy is compared with; None for a copy of `arm.model`.
    """

    def __init__(self, run: GRPORun, arm: Arm, reference: Qwen2 | None = None) -> None:
        self.run, self.arm = run, arm
        if reference is None:
            reference = copy.deepcopy(arm.model)
            prepare(arm.model, run.finetune)
            for network in (arm.model, reference):
                apply_parallelism(network, run.loop.parallel, training_device())
        reference.requires_grad_(False)
        if uses_bf16(run.loop, training_device()):
            multiply_in_bf16(reference)  # as the policy, so that the two round alike
        # Opened before the first rollout, whose scoring may be costly.
        shards = open_code_shards(run.anchors.data) if run.anchors.data else None
        answers = answers_of(run.domain, shards)
        self.updater = Updater(arm, reference, run.objective, run.anchors, run.loop.seed, answers)
        self.journal = run.out / "journal"
        self.makers = {
            kind: maker_of(task, kind, arm, run.out, run.domain) for kind, task in run.tasks.items()
        }
        self.tries = 0
        self.constant: Counter[Kind] = Counter()
        self.made: dict[Kind, Rollout] = {}
        self.waiting: tuple[int, dict[Kind, Rollout]] | None = None

    # Sampling and scoring

    def batch(self, step: int) -> Update:
        """The input of update `step`: the present rollouts, or new ones where all mini-batches have been used."""
        index, part = divmod(step, self.run.objective.mini_batches)
        if part == 0 or not self.made:
            self.made = self.rollouts(index)
        return Update(self.made, index, part, step)

    def rollouts(self, index: int) -> dict[Kind, Rollout]:
        """Rollout `index` of every task, scored. Raises Unready while too many rewards are missing, and
        TrainingError after too many attempts.
        """
        run = self.run
        if self.waiting is None or self.waiting[0] != index:
            self.waiting = (index, self.sample(index))
        made = self.waiting[1]
        for kind, rollout in made.items():
            score_rollout(self.arm, rollout, kind, self.journal, index)
        missing = float(parallel.all_reduce_mean(torch.tensor(missing_share(list(made.values())))))
        if missing > run.patience.max_missing:
            self.tries += 1
            reason = f"{missing:.0%} of the rewards are missing"
            if self.tries > run.patience.tries:
                raise TrainingError(
                    f"{run.out.name}: {reason} after {run.patience.tries} tries; what was sampled "
                    "and scored is kept, start again when the reward answers"
                )
            raise Unready(reason, run.patience.wait_s)
        self.tries = 0
        self.waiting = None
        for kind, rollout in made.items():
            write_scores(rollout, kind, self.journal, index, settled=True)
            rollout.pictures = None
        return made

    def sample(self, index: int) -> dict[Kind, Rollout]:
        """This process's part of rollout `index` of every task, not scored yet."""
        run, made = self.run, {}
        for kind, task in run.tasks.items():
            share = task.prompts // parallel.world_size()
            mine = range(parallel.rank() * share, (parallel.rank() + 1) * share)
            problems = self.makers[kind](self.arm, run.loop.seed, index, mine)
            with unsharded(self.arm.model):
                made[kind] = sample_rollout(
                    self.arm, task, kind, problems, self.journal, run.loop.seed, index
                )
        return made

    # Updating

    def losses(self, update: Update) -> Mapping[str, Tensor]:
        """Accumulates the gradients of an update. Returns its loss, without gradient, and values to log.

        Raises TrainingError where the KL to the reference exceeds the budget.
        """
        run, begun = self.run, time.monotonic()
        values: dict[str, float] = {}
        total = 0.0
        for kind, rollout in update.rollouts.items():
            order_N = None
            if run.shuffle_rewards:
                rng = np.random.default_rng([run.loop.seed, update.rollout, 3])
                samples = len(rollout.codes) * parallel.world_size()
                order_N = torch.from_numpy(rng.permutation(samples))
            reward_N, advantage = advantages_of(rollout, run.objective, order_N)
            if update.part == 0:
                self._report_constant(kind, advantage, update.step)
            loss, seen = self.updater.policy(rollout, advantage, update.part)
            total += loss
            kl = float(parallel.all_reduce_mean(torch.tensor(seen.get("kl", 0.0))))
            if run.kl_budget is not None and kl > run.kl_budget:
                raise TrainingError(
                    f"{run.out.name}: the KL to the reference is {kl:.3g} nats a code, over "
                    f"the budget of {run.kl_budget:g}; raise kl_budget to continue, or choose another `out` "
                    "for a run at a lower rate"
                )
            named = {**seen, **reward_statistics(rollout, reward_N, advantage)}
            values |= {f"{kind}/{name}": value for name, value in named.items()}
        loss, seen = self.updater.understanding(update.step)
        values |= seen
        values["seconds/update"] = time.monotonic() - begun
        for name in ("sample", "paint", "score"):
            spent = sum(r.seconds.get(name, 0.0) for r in update.rollouts.values())
            values[f"seconds/{name}"] = spent
        return {k: torch.tensor(v) for k, v in {"loss": total + loss, **values}.items()}

    def _report_constant(self, kind: Kind, advantage: Advantages, step: int) -> None:
        """Prints one line where the rewards differ within no group, so that a rollout teaches nothing; once more
        each time the number of such rollouts in a row has doubled.
        """
        if advantage.constant < advantage.groups:
            self.constant[kind] = 0
            return
        self.constant[kind] += 1
        rollouts = self.constant[kind]
        if parallel.is_main() and rollouts.bit_count() == 1:
            often = "" if rollouts == 1 else f", as in the {rollouts - 1} rollouts before"
            print(
                f"{self.run.out.name}: step {step + 1}: the rewards of {kind} do not differ within any of "
                f"the {advantage.groups} groups (100%){often}; the policy learns nothing from them",
                flush=True,
            )

    def evaluate(self) -> dict[str, Logged]:
        """Held-out scores of all three tasks, and a sheet of drawings and edits."""
        assert self.run.domain is not None  # `GRPORun` demands one
        return held_out_scores(self.arm, self.run.domain, self.run.watch_size)


def held_out_scores(arm: Arm, domain: TaskDomain, size: int) -> dict[str, Logged]:
    """Scores on the split dev with the model's default sampling, of `size` tasks of each kind; and pictures: a
    row of drawings, and edits below their sources.
    """
    seed, canvas, setting = 5, canvas_of(arm), tasks.SamplingSetting("default")
    prompts = domain.prompts("dev", size, seed)
    edits = domain.edits("dev", max(1, size // 2), seed, canvas)
    scores = tasks.drawing_and_editing(arm, domain, (prompts, edits), 1, (setting, setting), seed)
    questions = domain.questions("dev", 2 * size, seed, canvas)
    answers = tasks.question_scores(arm, questions)
    codes = arm.draw_prompts([p.text for p in prompts[:: max(1, size // 2)]], seed=seed)
    same_size = [edit for edit in edits if edit.source.shape[:2] == canvas.size(0)][:8]
    sources = encode_pictures(arm, [edit.source for edit in same_size])
    edited = arm.edit_codes(sources, [edit.instruction for edit in same_size], seed=seed)
    return {
        "held_out/geneval": float(scores["geneval"]["value"]),
        "held_out/gedit": float(scores["gedit"]["value"]),
        "held_out/vqa": float(answers["accuracy"]["value"]),
        "drawings": np.concatenate(paint_each(arm, codes), 1),
        "edits": np.concatenate([np.concatenate(paint_each(arm, c), 1) for c in (sources, edited)]),
    }


def load(run: GRPORun, source: Path) -> tuple[Arm, Qwen2 | None]:
    """The model; and where it is sharded its reference, loaded in shards too, else None."""
    device, how = training_device(), run.loop.parallel
    if not how.shard or run.finetune.partial:
        arm = Arm.from_pretrained(source).to(device)
        arm.model.requires_grad_(True)
        return arm, None
    materialize = materializer(how, device)
    arm = Arm.from_pretrained(source, materialize=materialize).to(device)
    reference, _ = load_backbone(source, materialize)
    return arm, reference


def main(run: GRPORun) -> None:
    """Trains, and writes a complete model directory to `out`/model."""
    parallel.init_processes()
    source = find_model(run.model)
    scale = load_defaults(source).scale
    for kind, task in run.tasks.items():
        if isinstance(task.reward, CheckedReward):
            domain = run.domain if task.data is None else None
            task.reward.check(kind, domain=domain, scale=scale)
        if task.prompts % parallel.world_size():
            raise TrainingError(
                f"{kind}.prompts={task.prompts} is no multiple of the {parallel.world_size()} processes"
            )
    reference_hash = backbone_hash(source)
    claim(run.out / "journal", run, reference_hash)
    arm, reference = load(run, source)
    trainer = Trainer(run, arm, reference)
    data: dict[Kind, Path | None] = {kind: task.data for kind, task in run.tasks.items()}
    origin = {"reference": reference_hash} | data_digests(data, run.anchors.data)
    with Training(
        run, arm.model, out=run.out, loop=run.loop, optim=run.optim,
        origin=origin, muon=block_matrices(arm.model),
    ) as training:  # fmt: skip
        training.evaluate_if_due(trainer.evaluate, run.watch, before_training=True)
        for _, batch in training.batches(trainer.batch):
            training.update(trainer.losses(batch))
            training.save_if_due()
            training.evaluate_if_due(trainer.evaluate, run.watch, before_training=True)
    merge_lora(arm.model)
    backbone = run.out / "backbone"
    save_backbone(arm.model, arm.vocab, backbone, torch.float16, write=parallel.is_main())
    if parallel.is_main():
        replace_backbone(source, backbone, run.out / "model")
    parallel.barrier()
