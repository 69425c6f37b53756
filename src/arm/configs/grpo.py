"""Runs of reinforcement learning: drawing, editing, then both (ARM section 4).

The paper's recipe: K = 16, advantages normalised by group, clip 0.2, KL weight 0.01, top-k 1000, top-p 1,
weight decay 0.01, temperature 0.7 for drawing and 1.0 for editing. Departures at this size: the rate
(the paper's 3e-5 to 5e-5 moves a model of 3.5 M parameters too little), fewer prompts a step, advantages
whose group deviation is floored (pictures of a group that are all right differ in cleanliness alone), a head that
stays as it is, the two anchors, exact KL over the visual slice in place of an estimate, top-k 64 (of 4,096 codes the share that
1000 are of 65,536), and the world's exact rewards in place of a judge.
"""

from dataclasses import replace
from pathlib import Path

from arm.generate import Guidance
from arm.judge import JudgeConfig
from arm.rl.grpo import GRPORun
from arm.rl.rewards import JudgeReward, WorldReward
from arm.rl.rollout import Task
from arm.rl.update import Anchors, Objective
from arm.sampling import Sampling
from arm.train.finetune import Finetune
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.training import Loop


def _drawing(prompts: int) -> Task:
    guided = Guidance(2.25, 1.0)  # what the model draws with; without it hardly a picture is right
    return Task(prompts, Sampling(0.7, top_k=64), WorldReward(), guidance=guided)


def _editing(prompts: int) -> Task:
    return Task(prompts, Sampling(1.0, top_k=64), WorldReward())


def micro_t2i() -> GRPORun:
    """Drawing alone, from the shipped supervised model."""
    return GRPORun(
        out=Path("runs/micro/grpo_t2i"),
        model="micro-sft",
        drawing=_drawing(8),
        editing=None,
        loop=Loop(steps=150, seed=30, log_every=1, save_every=10, bf16=True),
        optim=Optim(lr=1e-4, warmup=5, weight_decay=0.01, floor=0.2),
        objective=Objective(normalization="floored"),
        watch=50,
        watch_size=8,
        # A code that is never drawn is only pushed away, and with it the things that need it.
        finetune=Finetune(freeze=(r"^visual\.(head|bit_head)\.",)),
    )


def micro_edit() -> GRPORun:
    """Editing alone, from the shipped supervised model."""
    return replace(
        micro_t2i(),
        out=Path("runs/micro/grpo_edit"),
        drawing=None,
        editing=_editing(8),
        # Twice the rate and more: without guidance a step moves the policy less.
        optim=replace(micro_t2i().optim, lr=2.5e-4),
    )


def micro_joint() -> GRPORun:
    """Both at once, from the shipped supervised model."""
    return replace(
        micro_t2i(),
        out=Path("runs/micro/grpo_joint"),
        drawing=_drawing(2),
        # Like drawing, as the model is used: guided, and cooler than the paper's 1.0.
        editing=replace(_editing(6), sampling=Sampling(0.7, top_k=64), guidance=Guidance(1.5, 1.0)),
        loop=Loop(steps=110, seed=30, log_every=1, save_every=10, bf16=True),
    )


def micro_judged() -> GRPORun:
    """Drawing before a vision-language judge: set drawing.reward.judge.url and .model. Its criteria are
    normalised one by one (GDPO), a departure from the paper.

    The endpoint may be a local vLLM or SGLang server. Not run at length here: this project's machines
    have no such model; its client is tested against a server that answers like one.
    """
    judge = JudgeConfig(
        "http://127.0.0.1:8000/v1", "Qwen2.5-VL-7B-Instruct", cache=Path("runs/micro/verdicts")
    )
    return replace(
        micro_t2i(),
        out=Path("runs/micro/grpo_judged"),
        drawing=replace(_drawing(8), reward=JudgeReward(judge, "drawing"), combine="gdpo"),
    )


def _judge() -> JudgeConfig:
    return JudgeConfig(
        "http://127.0.0.1:8000/v1", "Qwen2.5-VL-72B-Instruct", cache=Path("runs/arm7b/verdicts")
    )


def arm7b_t2i() -> GRPORun:
    """Drawing of the paper's model, from its SFT. 8 GPUs of 80 GB and a judge's endpoint
    (drawing.reward.judge.url); not run by us, and no duration is known: the judge's pace decides.

    `torchrun --nproc-per-node 8 -m arm train grpo:arm7b_t2i`. The paper's: rate 3e-5, 280 steps, 64
    prompts, K = 16, temperature 0.7, top-k 1000, clip 0.2, KL 0.01, weight decay 0.01, a judge of
    objects, attributes and relations; GenEval .79 -> .85. Ours: the judge, its criteria normalised one by
    one (GDPO) where the paper's one reward is normalised by group, exact KL, the two anchors. Prompts,
    one a line, in data/arm/prompts.txt.
    """
    return GRPORun(
        out=Path("runs/arm7b/grpo_t2i"),
        model="runs/arm7b/model",
        drawing=Task(
            64,
            Sampling(0.7, top_k=1000),
            JudgeReward(_judge(), "drawing"),
            combine="gdpo",
            data=Path("data/arm/prompts.txt"),
        ),
        editing=None,
        loop=Loop(
            steps=280,
            seed=30,
            log_every=1,
            save_every=10,
            parallel=Parallel(shard=True, bf16=True, recompute="selective"),
        ),
        optim=Optim(lr=3e-5, warmup=0, weight_decay=0.01, floor=1.0),
        # In bf16 the sampler's and the update's logits differ by rounding.
        objective=Objective(update=8, ratio_tolerance=0.05),
        anchors=Anchors(data=Path("data/arm/image_to_text")),
        watch=0,
    )


def arm7b_edit() -> GRPORun:
    """Editing of the paper's model. As `arm7b_t2i`; the paper's: rate 5e-5, 100 steps, 40 edits,
    temperature 1.0, a judge of instruction, preservation and quality; GEdit 5.75 -> 6.31 alone, 6.42
    after drawing. Edits as a data source in data/arm/edits.
    """
    base = arm7b_t2i()
    return replace(
        base,
        out=Path("runs/arm7b/grpo_edit"),
        model="runs/arm7b/grpo_t2i/model",
        drawing=None,
        editing=Task(
            40,
            Sampling(1.0, top_k=1000),
            JudgeReward(_judge(), "editing"),
            combine="gdpo",
            data=Path("data/arm/edits"),
        ),
        loop=replace(base.loop, steps=100),
        optim=replace(base.optim, lr=5e-5),
    )


def arm7b_joint() -> GRPORun:
    """Both, after drawing and editing. The paper's: rate 5e-5, 200 steps; GenEval .86, GEdit 6.68."""
    edit = arm7b_edit()
    return replace(
        edit,
        out=Path("runs/arm7b/grpo_joint"),
        model="runs/arm7b/grpo_edit/model",
        drawing=arm7b_t2i().drawing,
        loop=replace(edit.loop, steps=200),
    )
