"""Runs that train the autoregressive model, one a stage."""

from dataclasses import replace
from pathlib import Path

from arm.data.mixture import Dropout, Ratios
from arm.model_directory import find_model
from arm.sequence import Weights
from arm.train.finetune import Finetune
from arm.train.lm import Backbone, Conversations, LMRun
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.training import Loop


def micro_pt() -> LMRun:
    """Pre-training on small grids (6x6, up to 2 things). One CPU core, about 6 minutes.

    The paper's ratios lean on drawing (.70); here understanding and editing get more, since the
    model is small enough to be short of gradient for each.
    """
    return LMRun(
        out=Path("runs/micro/lm_pt"),
        text_tokenizer=Path("runs/micro/standins/siglip"),
        shards=(Path("runs/micro/codes_small"),),
        init_from=None,
        backbone=Backbone(
            hidden_size=192, intermediate_size=512, num_layers=6, num_heads=6, num_kv_heads=6
        ),
        code_bits=12,
        max_side=12,
        grid_positions=True,
        image_stride=1,
        samples=32,
        row_length=208,
        weights=Weights(text=4.0, code=1.0, source_code=0.5),
        ratios=Ratios(
            text=0.06, image_to_text=0.28, text_to_image=0.34, editing=0.27, interleaved=0.05
        ),
        dropout=Dropout(text=0.05, image=0.0, both=0.05),
        loop=Loop(steps=500, seed=20, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.8, muon=True),
    )


def micro_ct() -> LMRun:
    """Continued training on larger grids (7x7, 6x8, 8x6, up to 4 things). About 35 minutes."""
    return replace(
        micro_pt(),
        out=Path("runs/micro/lm_ct"),
        shards=(Path("runs/micro/codes"),),
        init_from=Path("runs/micro/lm_pt/model"),
        image_stride=128,
        weights=Weights(text=4.0, code=1.0, source_code=0.2),
        ratios=Ratios(
            text=0.05,
            image_to_text=0.24,
            text_to_image=0.29,
            editing=0.27,
            interleaved=0.05,
            copying=0.10,
        ),
        loop=Loop(steps=2100, seed=21, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.5, muon=True),
    )


def micro_sft() -> LMRun:
    """Supervised fine-tuning, most of the training; the rate falls to zero. With
    `torchrun --nproc-per-node 2 -m arm train lm:micro_sft` on two cores about 70 minutes.
    """
    return replace(
        micro_ct(),
        out=Path("runs/micro/lm_sft"),
        shards=(Path("runs/micro/codes"), Path("runs/micro/codes_repeats")),
        init_from=Path("runs/micro/lm_ct/model"),
        samples=64,
        weights=Weights(text=4.0, code=1.0),
        ratios=Ratios(
            text=0.04,
            image_to_text=0.30,
            text_to_image=0.27,
            editing=0.33,
            interleaved=0.04,
            copying=0.02,
        ),
        loop=Loop(steps=3800, seed=22, log_every=50, save_every=100, bf16=True, compile=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.01, muon=True),
        min_count=100,
    )


def tiny_pt() -> LMRun:
    """Pre-training of `tiny` (8 M parameters), up to 2 things. One 80 GB GPU; not trained yet."""
    return replace(
        micro_pt(),
        out=Path("runs/tiny/lm_pt"),
        text_tokenizer=Path("runs/tiny/standins/siglip"),
        shards=(Path("runs/tiny/codes_small"),),
        backbone=Backbone(
            hidden_size=288, intermediate_size=768, num_layers=7, num_heads=9, num_kv_heads=9
        ),
        samples=256,
        row_length=256,
        loop=Loop(steps=1000, seed=20, log_every=50, bf16=True, workers=12),
    )


def tiny_ct() -> LMRun:
    """Continued training on up to 4 things. One 80 GB GPU; not trained yet."""
    return replace(
        tiny_pt(),
        out=Path("runs/tiny/lm_ct"),
        shards=(Path("runs/tiny/codes"),),
        init_from=Path("runs/tiny/lm_pt/model"),
        loop=Loop(steps=4000, seed=21, log_every=50, bf16=True, workers=12),
        optim=micro_ct().optim,
    )


def tiny_sft() -> LMRun:
    """Supervised fine-tuning of `tiny`. One 80 GB GPU; not trained yet."""
    return replace(
        tiny_ct(),
        out=Path("runs/tiny/lm_sft"),
        init_from=Path("runs/tiny/lm_ct/model"),
        weights=micro_sft().weights,
        ratios=micro_sft().ratios,
        loop=Loop(steps=2500, seed=22, log_every=50, bf16=True, workers=12),
        optim=micro_sft().optim,
        min_count=micro_sft().min_count,
    )


def _mix(*weights: float) -> tuple[Conversations, ...]:
    """The paper's five kinds of data, as code shards under data/arm."""
    kinds = ("text", "image_to_text", "text_to_image", "video", "web")
    pairs = zip(kinds, weights, strict=True)
    return tuple(Conversations(Path("data/arm") / kind, weight) for kind, weight in pairs)


def arm7b_pt() -> LMRun:
    """Pre-training of the paper's model, from Qwen2.5-7B. 200 GPUs of 80 GB; not run by us.

    `torchrun --nnodes 25 --nproc-per-node 8 ... -m arm train lm:arm7b_pt`, over code shards that `arm
    encode` made. By `arm plan lm:arm7b_pt --gpus 200 --gpu h100 --document-tokens 4000` 374 hours at 40 %
    of the peak rate. The paper states no score before fine-tuning. The paper's: 2.5T
    tokens in 100K steps (25M a step), rate 2e-4 after 2K steps of warm-up, AdamW (0.9, 0.95), no weight
    decay, clip 1.0, the mix, at most 80K tokens a sequence, one linear layer for codes. Ours, where it
    is silent: rows of 61,440 tokens, the cosine decay, condition dropout, FSDP2 in replicas of 8.
    """
    return LMRun(
        out=Path("runs/arm7b/pt"),
        text_tokenizer=Path("Qwen/Qwen2.5-7B"),
        shards=(),
        conversations=_mix(0.05, 0.10, 0.70, 0.10, 0.05),
        init_from=None,
        pretrained="Qwen/Qwen2.5-7B",
        backbone=Backbone(
            hidden_size=3584,
            intermediate_size=18944,
            num_layers=28,
            num_heads=28,
            num_kv_heads=4,
            rope_theta=1_000_000.0,
            tie_embeddings=False,
            text_size=152_064,
        ),
        code_bits=16,
        max_side=64,
        grid_positions=False,
        share_bits=False,
        image_stride=1,
        samples=0,
        rows=400,
        micro_rows=1,
        row_length=61_440,
        attention="documents",
        loss_chunk=4096,
        weights=Weights(),
        ratios=micro_pt().ratios,
        dropout=Dropout(text=0.05, image=0.0, both=0.05),
        loop=Loop(
            steps=100_000,
            seed=20,
            log_every=10,
            save_every=500,
            workers=8,
            compile=True,
            parallel=Parallel(shard=True, replicas=25, bf16=True, recompute="all"),
        ),
        optim=Optim(lr=2e-4, warmup=2000, floor=0.1),
    )


def arm7b_ct() -> LMRun:
    """Continued training on larger pictures (512-1024 px). 160 GPUs of 80 GB; not run by us.

    `torchrun --nnodes 20 --nproc-per-node 8 ... -m arm train lm:arm7b_ct`; 467 hours by the same plan. The
    paper's: 2.5T tokens in 100K steps, rate 2e-4, the mix. Ours: as in `arm7b_pt`.
    """
    base = arm7b_pt()
    return replace(
        base,
        out=Path("runs/arm7b/ct"),
        init_from=Path("runs/arm7b/pt/model"),
        conversations=_mix(0.05, 0.10, 0.55, 0.15, 0.15),
        rows=320,
        row_length=76_800,
        loop=replace(base.loop, seed=21, parallel=replace(base.loop.parallel, replicas=20)),
    )


def arm7b_sft() -> LMRun:
    """Supervised fine-tuning. 80 GPUs of 80 GB; not run by us.

    `torchrun --nnodes 10 --nproc-per-node 8 ... -m arm train lm:arm7b_sft`; 75 hours by the same plan. The
    paper reports GenEval .79, DPG 84.48, WISE .50, GEdit 5.75, POPE 87.3, MMMU 40.2 after it. The paper's: rate 5e-5 without warm-up, 40K steps, the mix, 0.2B tokens. That is 5,000 tokens a step
    over 80 GPUs, so we read 0.2T: 4.9M tokens a step.
    """
    base = arm7b_ct()
    return replace(
        base,
        out=Path("runs/arm7b/sft"),
        init_from=Path("runs/arm7b/ct/model"),
        conversations=_mix(0.05, 0.05, 0.50, 0.20, 0.20),
        rows=80,
        row_length=61_440,
        loop=replace(
            base.loop, seed=22, steps=40_000, parallel=replace(base.loop.parallel, replicas=10)
        ),
        optim=Optim(lr=5e-5, warmup=0, floor=0.1),
    )


def arm0_5b_pt() -> LMRun:
    """The same from Qwen2.5-0.5B, for one GPU of 80 GB: `arm train lm:arm0_5b_pt`; not run by us.

    131K tokens a step; 14 hours by `arm plan lm:arm0_5b_pt --gpus 1 --gpu h100 --document-tokens 4000`. All
    of it is ours: the paper has no such size, and no score is known to expect.
    """
    base = arm7b_pt()
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


def arm0_5b_ct() -> LMRun:
    """Continued training of the 0.5B: `arm train lm:arm0_5b_ct`. One GPU of 80 GB, 14 hours by `arm plan`; not
    run by us. All of it is ours.
    """
    base = arm0_5b_pt()
    return replace(
        base,
        out=Path("runs/arm0_5b/ct"),
        init_from=Path("runs/arm0_5b/pt/model"),
        conversations=arm7b_ct().conversations,
        loop=replace(base.loop, seed=21),
    )


def arm0_5b_sft() -> LMRun:
    """Supervised fine-tuning of the 0.5B: `arm train lm:arm0_5b_sft`. One GPU of 80 GB, 3 hours by `arm
    plan`; not run by us. All of it is ours.
    """
    base = arm0_5b_ct()
    return replace(
        base,
        out=Path("runs/arm0_5b/sft"),
        init_from=Path("runs/arm0_5b/ct/model"),
        conversations=arm7b_sft().conversations,
        loop=replace(base.loop, seed=22, steps=10_000),
        optim=arm7b_sft().optim,
    )


def arm0_5b_lora() -> LMRun:
    """Fine-tuning with LoRA of rank 16 and the visual part in full, on a user's own code shards:
    `arm train lm:arm0_5b_lora 'conversations=[["codes"]]'`. One GPU of 24 GB, minutes by `arm plan`; not run by us.
    """
    base = arm0_5b_sft()
    return replace(
        base,
        out=Path("runs/arm0_5b/lora"),
        init_from=Path("runs/arm0_5b/sft/model"),
        conversations=(Conversations(Path("codes")),),
        finetune=Finetune(lora_rank=16, lora_alpha=32.0),
        row_length=4096,
        loop=replace(base.loop, seed=23, steps=2000),
        optim=Optim(lr=2e-4, warmup=50, floor=0.1),
    )


def micro_finetune() -> LMRun:
    """Fine-tuning of the shipped small model on a user's own code shards in `codes` (`arm encode`). One CPU
    core, about five minutes. New words: `arm data words DATA`, and text_tokenizer=words. The whole model
    is runs/finetune/lm/arm.
    """
    base = micro_sft()
    return replace(
        base,
        out=Path("runs/finetune/lm"),
        parts="micro",
        text_tokenizer=find_model("micro-sft") / "siglip",
        shards=(),
        conversations=(Conversations(Path("codes")),),
        init_from=find_model("micro") / "backbone",
        samples=32,
        row_length=256,
        loop=Loop(steps=300, seed=23, log_every=25, bf16=True),
        optim=Optim(lr=5e-4, warmup=20, weight_decay=0.01, floor=0.05, muon=True),
        min_count=0,
    )
