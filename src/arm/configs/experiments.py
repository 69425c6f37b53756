"""Reinforcement learning of `micro`, and the experiments on it: learning rates, synergy of tasks, tokenizer losses.

The paper's recipe: K = 16, advantages normalised by group, clip 0.2, KL weight 0.01, top-k 1000, top-p 1,
weight decay 0.01, temperature 0.7 for drawing and 1.0 for editing. Departures at this size: the rate
(the paper's 3e-5 to 5e-5 moves a model of 3.5 M parameters too little), fewer prompts a step, advantages
whose group deviation is floored (pictures of a group that are all right differ in cleanliness alone), a head that
stays as it is, the two anchors, exact KL over the visual slice in place of an estimate, top-k 64 (of 4,096 codes the share that
1000 are of 65,536), and the world's exact rewards in place of a judge.
"""

from dataclasses import replace
from pathlib import Path

from arm.configs import micro
from arm.evals.tasks import EvalSize
from arm.generate import Guidance
from arm.judge import JudgeConfig
from arm.rl.grpo import GRPORun
from arm.rl.rates import RatesRun
from arm.rl.rewards import JudgeReward
from arm.rl.rollout import Task
from arm.rl.synergy import SynergyRun
from arm.rl.update import Objective
from arm.sampling import Sampling
from arm.train.ablation import AblationRun, Row
from arm.train.finetune import Finetune
from arm.train.optim import Optim
from arm.train.training import Loop
from arm.world.domain import World
from arm.world.scoring import WorldReward


def _drawing(prompts: int) -> Task:
    guided = Guidance(2.25, 1.0)  # what the model draws with; without it hardly a picture is right
    return Task(prompts, Sampling(0.7, top_k=64), WorldReward(), guidance=guided)


def _editing(prompts: int) -> Task:
    return Task(prompts, Sampling(1.0, top_k=64), WorldReward())


def grpo_t2i() -> GRPORun:
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
        domain=World(),
    )


def grpo_edit() -> GRPORun:
    """Editing alone, from the shipped supervised model."""
    return replace(
        grpo_t2i(),
        out=Path("runs/micro/grpo_edit"),
        drawing=None,
        editing=_editing(8),
        # Twice the rate and more: without guidance a step moves the policy less.
        optim=replace(grpo_t2i().optim, lr=2.5e-4),
    )


def grpo_joint() -> GRPORun:
    """Both at once, from the shipped supervised model."""
    return replace(
        grpo_t2i(),
        out=Path("runs/micro/grpo_joint"),
        drawing=_drawing(2),
        # Like drawing, as the model is used: guided, and cooler than the paper's 1.0.
        editing=replace(_editing(6), sampling=Sampling(0.7, top_k=64), guidance=Guidance(1.5, 1.0)),
        loop=Loop(steps=110, seed=30, log_every=1, save_every=10, bf16=True),
    )


def grpo_judged() -> GRPORun:
    """Drawing before a vision-language judge: set drawing.reward.judge.url and .model. Its criteria are
    normalised one by one (GDPO), a departure from the paper.

    The endpoint may be a local vLLM or SGLang server. Not run at length here: this project's machines
    have no such model; its client is tested against a server that answers like one.
    """
    judge = JudgeConfig(
        "http://127.0.0.1:8000/v1", "Qwen2.5-VL-7B-Instruct", cache=Path("runs/micro/verdicts")
    )
    return replace(
        grpo_t2i(),
        out=Path("runs/micro/grpo_judged"),
        drawing=replace(_drawing(8), reward=JudgeReward(judge, "drawing"), combine="gdpo"),
    )


def rates() -> RatesRun:
    """Four rates for both tasks, 40 steps each, KL up to 0.3 nats a code (guided drawing needs 0.15 to
    learn what ships). Two cores, about 30 minutes: the two high rates soon leave the budget.
    """
    return RatesRun(
        out=Path("runs/micro/rates"),
        base=grpo_joint(),
        rates=(3e-5, 1e-4, 3e-4, 1e-3),
        steps=40,
        kl_budget=0.3,
    )


def synergy() -> SynergyRun:
    """The paper's Table 8 in small with its controls, three seeds. Two cores, about 8 hours; resumable.

    The scores are in the repository: with out=docs/synergy nothing is trained, the table is made anew.
    Continued supervision reads the codes of `encode:micro` and `encode:micro_repeats`, made with the
    tokenizer of `micro-sft` (tokenizer=DIR pretrained.siglip=DIR/siglip, its directory).
    """
    return SynergyRun(
        out=Path("runs/micro/synergy"),
        model="micro-sft",
        t2i=replace(grpo_t2i(), watch=0),
        edit=replace(grpo_edit(), watch=0),
        joint=replace(grpo_joint(), watch=0),
        sft=replace(
            micro.lm_sft(),
            loop=Loop(steps=1, log_every=20, bf16=True),
            optim=Optim(lr=3e-4, warmup=20, weight_decay=0.01, floor=0.1, muon=True),
        ),
        size=EvalSize(images_per_prompt=1, prompts_per_tag=40, edits_per_kind=50),
    )


def synergy_shipped() -> SynergyRun:
    """What ships as `micro` (seed 0): the path T2I, editing, joint with its stages, editing alone, and the
    average of both, beside the supervised model. Two cores under torchrun, about 90 minutes.
    """
    stages = ("SFT", "T2I RL", "Edit RL", "T2I -> Edit", "T2I -> Edit -> Joint", "averaged")
    return replace(synergy(), seeds=(0,), paths=stages, table="synergy_shipped")


def ablation() -> AblationRun:
    """The losses of the tokenizer (the paper's Table 7), and ours on top. One core, about 25 minutes."""
    base = micro.tokenizer()
    w = replace(base.weights, feat=3.0, local=0.0)
    return AblationRun(
        out=Path("runs/micro/losses"),
        base=base,
        rows=(
            Row("cap+pix", replace(w, sig=0.0, feat=0.0)),
            Row("cap+pix+sig", replace(w, feat=0.0)),
            Row("cap+pix+feat", replace(w, sig=0.0)),
            Row("all", w),
            Row("all+local", replace(w, local=2.0)),
        ),
        reference="all",
        steps=600,
        pictures=512,
    )
