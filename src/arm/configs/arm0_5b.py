"""The paper's recipe from Qwen2.5-0.5B, for one GPU: the three stages of the language model."""

from dataclasses import replace
from pathlib import Path

from arm.configs import paper
from arm.train.lm import Backbone, LMRun


def lm_pt() -> LMRun:
    """The same from Qwen2.5-0.5B, for one GPU of 80 GB: `arm train lm:arm0_5b_pt`; not run by us.

    131K tokens a step; 14 hours by `arm plan lm:arm0_5b_pt --gpus 1 --gpu h100 --document-tokens 4000`. All
    of it is ours: the paper has no such size, and no score is known to expect.
    """
    base = paper.lm_pt()
    return replace(
        base,
        out=Path("runs/arm0_5b/pt"),
        text_tokenizer=Path("Qwen/Qwen2.5-0.5B"),
        pretrained="Qwen/Qwen2.5-0.5B",
        backbone=Backbone(
            hidden_size=896,
            intermediate_size=4864,
            num_layers=24,
            num_heads=14,
            num_kv_heads=2,
            rope_theta=1_000_000.0,
            text_size=151_936,
        ),
        rows=8,
        micro_rows=4,
        row_length=16_384,
        loop=replace(
            base.loop,
            steps=50_000,
            parallel=replace(base.loop.parallel, replicas=1, recompute="selective"),
        ),
    )


def lm_ct() -> LMRun:
    """Continued training of the 0.5B: `arm train lm:arm0_5b_ct`. One GPU of 80 GB, 14 hours by `arm plan`; not
    run by us. All of it is ours.
    """
    base = lm_pt()
    return replace(
        base,
        out=Path("runs/arm0_5b/ct"),
        init_from=Path("runs/arm0_5b/pt/model"),
        conversations=paper.lm_ct().conversations,
        loop=replace(base.loop, seed=21),
    )


def lm_sft() -> LMRun:
    """Supervised fine-tuning of the 0.5B: `arm train lm:arm0_5b_sft`. One GPU of 80 GB, 3 hours by `arm
    plan`; not run by us. All of it is ours.
    """
    base = lm_ct()
    return replace(
        base,
        out=Path("runs/arm0_5b/sft"),
        init_from=Path("runs/arm0_5b/ct/model"),
        conversations=paper.lm_sft().conversations,
        loop=replace(base.loop, seed=22, steps=10_000),
        optim=paper.lm_sft().optim,
    )
