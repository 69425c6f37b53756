"""Runs that ask what reinforcement learning of one task does to the others."""

from dataclasses import replace
from pathlib import Path

from arm.configs import grpo, lm
from arm.evals.world import Size
from arm.rl.synergy import SynergyRun
from arm.train.optim import Optim
from arm.train.training import Loop


def micro() -> SynergyRun:
    """The paper's Table 8 in small with its controls, three seeds. Two cores, about 8 hours; resumable.

    The scores are in the repository: with out=docs/synergy nothing is trained, the table is made anew.
    Continued supervision reads the codes of `encode:micro` and `encode:micro_repeats`, made with the
    tokenizer of `micro-sft` (tokenizer=DIR pretrained.siglip=DIR/siglip, its directory).
    """
    return SynergyRun(
        out=Path("runs/micro/synergy"),
        model="micro-sft",
        t2i=replace(grpo.micro_t2i(), watch=0),
        edit=replace(grpo.micro_edit(), watch=0),
        joint=replace(grpo.micro_joint(), watch=0),
        sft=replace(
            lm.micro_sft(),
            loop=Loop(steps=1, log_every=20, bf16=True),
            optim=Optim(lr=3e-4, warmup=20, weight_decay=0.01, floor=0.1, muon=True),
        ),
        size=Size(images_per_prompt=1, prompts_per_tag=40, edits_per_kind=50),
    )


def micro_shipped() -> SynergyRun:
    """What ships as `micro` (seed 0): the path T2I, editing, joint with its stages, editing alone, and the
    average of both, beside the supervised model. Two cores under torchrun, about 90 minutes.
    """
    stages = ("SFT", "T2I RL", "Edit RL", "T2I -> Edit", "T2I -> Edit -> Joint", "averaged")
    return replace(micro(), seeds=(0,), paths=stages, table="synergy_shipped")
