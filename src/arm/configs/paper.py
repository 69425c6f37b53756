"""The paper's model at its own size: tokenizer, decoders, language model, reinforcement learning."""

from dataclasses import replace
from pathlib import Path

from arm.configs import micro
from arm.data.images import GridWeight
from arm.data.mixture import Dropout
from arm.generate import Guidance
from arm.judge import JudgeConfig
from arm.model_directory import Defaults
from arm.models.dit import DiTConfig
from arm.models.pretrained import Pretrained
from arm.models.tokenizer import TokenizerConfig
from arm.rl.grpo import GRPORun
from arm.rl.rewards import JudgeReward
from arm.rl.rollout import Task
from arm.rl.update import Anchors, Objective
from arm.sampling import Sampling
from arm.sequence import Weights
from arm.train.detokenizer import DetokenizerRun, PretrainedPainter
from arm.train.export import ExportRun
from arm.train.lm import Backbone, Conversations, LMRun
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.tokenizer import LossWeights, Timesteps, TokenizerRun
from arm.train.training import Loop

PRETRAINED = Pretrained(
    siglip="google/siglip2-so400m-patch16-512",
    caption_lm="Qwen/Qwen2.5-0.5B",
    vae="black-forest-labs/FLUX.1-dev:vae",
)


GRIDS = (
    GridWeight(32, 32),
    GridWeight(28, 36),
    GridWeight(36, 28),
    GridWeight(24, 42),
    GridWeight(42, 24),
)


def tokenizer() -> TokenizerRun:
    """The paper's tokenizer: 65,536 codes of 16-px patches at 512 px, on your captioned pictures.

    `torchrun --nnodes 32 --nproc-per-node 8 ... -m arm train tokenizer:arm 'data=["DIRECTORY"]'`; 256 GPUs
    of 80 GB. Estimated, not run: 9 TFLOP a picture (counted), so 2.2 billion pictures take some 14,000
    H100-hours at 40 % of the bf16 peak, two days and a half. The paper reports 80.2 % zero-shot on ImageNet,
    PSNR 19.6 dB, 75.6 % of the codes used.

    The paper's: the parts, 16 bits, 6 blocks each way, a DiT of 24, the four losses and their weights,
    uniform timesteps, AdamW at 3e-4, 32,768 pictures a step (128 a process), 2.2 billion in all. Ours: the
    widths, the warm-up, cosine decay to .02 of the rate, gradients clipped at 1.0, a DiT that predicts x1 and
    whose error weighs 400 at most, pictures in five shapes. `pretrained.siglip=google/siglip2-so400m-patch16-naflex`
    reads all shapes natively.
    """
    return TokenizerRun(
        out=Path("runs/arm/tokenizer"),
        pretrained=PRETRAINED,
        model=TokenizerConfig(
            code_bits=16,
            width=1152,
            num_blocks=6,
            num_heads=16,
            pixel=DiTConfig(width=1152, num_blocks=24, num_heads=16),
        ),
        weights=LossWeights(),
        timesteps=Timesteps(),
        grids=GRIDS,
        scale=8,
        batch=128,
        loop=Loop(
            steps=67_000, log_every=50, save_every=500, bf16=True, workers=12,
            parallel=Parallel(recompute="all"),
        ),
        optim=Optim(lr=3e-4, betas=(0.9, 0.95), warmup=2000),
        eval_every=2000,
        eval_pictures=512,
        data=("data/pictures",),
        eval_steps=20,
    )  # fmt: skip


def tokenizer_1gpu() -> TokenizerRun:
    """`tokenizer:arm` at 64 pictures a step, for one GPU of 80 GB. `arm train tokenizer:arm_1gpu 'data=[...]'`.

    Estimated, not run: about 1.5 s a step on an H100 at 40 % of its bf16 peak, a day for the 50,000 steps.
    These are 3.2 million pictures; the paper's scores are of 2.2 billion, and it gives none for fewer.
    Ours: the rate of 1e-4, lower since the batch is 512 times smaller, and the length.
    """
    paper = tokenizer()
    return replace(
        paper,
        out=Path("runs/arm_1gpu/tokenizer"),
        batch=64,
        loop=replace(paper.loop, steps=50_000),
        optim=Optim(lr=1e-4, betas=(0.9, 0.95), warmup=1000),
    )


def flux() -> DetokenizerRun:
    """The paper's decoder: FLUX.1-dev with z_q in the place of its text, on your pictures.

    `torchrun --nproc-per-node 8 -m arm train detokenizer:flux 'data=["DIRECTORY"]'` after `tokenizer:arm`;
    8 GPUs of 80 GB (12 billion fp32 weights and AdamW's two moments, 24 GB on each). Estimated, not run:
    120 TFLOP a picture (counted), so the 1.3 million pictures take some 110 H100-hours at 40 % of the bf16
    peak, 13 hours. The paper prints no score of the decoder alone; the pictures that it painted for the
    supervised model have GenEval .79 and DPG 84.48.

    The paper's: the starting point, the rectified-flow loss at uniform timesteps, 28 steps, guidance 1.5.
    Ours: the rate, the length, the share of conditions left out, five shapes of about 512 px.
    """
    return DetokenizerRun(
        out=Path("runs/arm/flux"),
        pretrained=PRETRAINED,
        tokenizer=Path("runs/arm/tokenizer"),
        painter=PretrainedPainter("black-forest-labs/FLUX.1-dev:transformer"),
        grids=GRIDS,
        scale=8,
        batch=8,
        drop_condition=0.1,
        num_steps=28,
        guidance_scale=1.5,
        timestep_power=1.0,
        loop=Loop(
            steps=20_000, seed=30, log_every=20, save_every=500, workers=8,
            parallel=Parallel(shard=True, bf16=True),
        ),
        optim=Optim(lr=2e-5, warmup=1000),
        data=("data/pictures",),
    )  # fmt: skip


def sana() -> DetokenizerRun:
    """The paper's second decoder: SANA-1.5 1.6B on the latents of DC-AE, on your pictures.

    `arm train detokenizer:sana 'data=["DIRECTORY"]'` after `tokenizer:arm`; one GPU of 80 GB (26 GB of
    weights, gradients and moments). Estimated, not run: 7 TFLOP a picture (counted), a day of an H100 for
    the 3.2 million pictures. The paper shows its pictures beside FLUX's and prints no score.

    The paper's: the starting point, 28 steps, guidance 1.5. Ours: as in `detokenizer:flux`.
    """
    source = "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers"
    return replace(
        flux(),
        out=Path("runs/arm/sana"),
        pretrained=replace(PRETRAINED, vae=f"{source}:vae"),
        painter=PretrainedPainter(f"{source}:transformer"),
        batch=64,
        loop=Loop(steps=50_000, seed=31, log_every=20, save_every=500, bf16=True, workers=12),
        optim=Optim(lr=5e-5, warmup=1000),
        eval_every=2000,
        eval_pictures=128,
    )


def _mix(*weights: float, data: str = "data/arm") -> tuple[Conversations, ...]:
    """The paper's five kinds of data, as code shards under `data`."""
    kinds = ("text", "image_to_text", "text_to_image", "video", "web")
    pairs = zip(kinds, weights, strict=True)
    return tuple(Conversations(Path(data) / kind, weight) for kind, weight in pairs)


def lm_pt() -> LMRun:
    """Pre-training of the paper's model, from Qwen2.5-7B. 200 GPUs of 80 GB; not run by us.

    `torchrun --nnodes 25 --nproc-per-node 8 ... -m arm train lm:arm7b_pt`, over code shards that `arm
    encode` made. By `arm plan lm:arm7b_pt --gpus 200 --gpu h100 --document-tokens 4000` 374 hours at 40 %
    of the peak rate. The paper states no score before fine-tuning. The paper's: 2.5T
    tokens in 100K steps (25M a step), rate 2e-4 after 2K steps of warm-up, AdamW (0.9, 0.95), no weight
    decay, clip 1.0, the mix, at most 80K tokens a sequence, next-token loss on the whole sequence, one linear layer for
    codes. Ours, where it is silent: rows of 61,440 tokens, the cosine decay, condition dropout, FSDP2 in replicas of 8.
    """
    return LMRun(
        out=Path("runs/arm7b/pt"),
        text_tokenizer=Path("Qwen/Qwen2.5-7B"),
        shards=(),
        conversations=_mix(0.05, 0.10, 0.70, 0.10, 0.05),
        init_from=None,
        pretrained="Qwen/Qwen2.5-7B",
        backbone=Backbone(
            hidden_size=3584, intermediate_size=18944, num_layers=28, num_heads=28, num_kv_heads=4,
            rope_theta=1_000_000.0, tie_embeddings=False, text_size=152_064,
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
        weights=Weights(source_code=1.0, source_text=1.0),
        ratios=micro.lm_pt().ratios,
        dropout=Dropout(text=0.05, image=0.0, both=0.05),
        loop=Loop(
            steps=100_000, seed=20, log_every=10, save_every=500, workers=8, compile=True,
            parallel=Parallel(shard=True, replicas=25, bf16=True, recompute="all"),
        ),
        optim=Optim(lr=2e-4, warmup=2000, floor=0.1),
    )  # fmt: skip


def lm_ct() -> LMRun:
    """Continued training on larger pictures (512-1024 px). 160 GPUs of 80 GB; not run by us.

    `torchrun --nnodes 20 --nproc-per-node 8 ... -m arm train lm:arm7b_ct`; 467 hours by the same plan. The
    paper's: 2.5T tokens in 100K steps, rate 2e-4, the mix. Ours: as in `arm7b_pt`.
    """
    base = lm_pt()
    return replace(
        base,
        out=Path("runs/arm7b/ct"),
        init_from=Path("runs/arm7b/pt/model"),
        conversations=_mix(0.05, 0.10, 0.55, 0.15, 0.15, data="data/arm_large"),
        rows=320,
        row_length=76_800,
        loop=replace(base.loop, seed=21, parallel=replace(base.loop.parallel, replicas=20)),
    )


def lm_sft() -> LMRun:
    """Supervised fine-tuning. 80 GPUs of 80 GB; not run by us.

    `torchrun --nnodes 10 --nproc-per-node 8 ... -m arm train lm:arm7b_sft`; 75 hours by the same plan. The
    paper reports GenEval .79, DPG 84.48, WISE .50, GEdit 5.75, POPE 87.3, MMMU 40.2 after it. The paper's: rate 5e-5 without warm-up, 40K steps, the mix, 0.2B tokens. That is 5,000 tokens a step
    over 80 GPUs, so we read 0.2T: 4.9M tokens a step.
    """
    base = lm_ct()
    return replace(
        base,
        out=Path("runs/arm7b/sft"),
        init_from=Path("runs/arm7b/ct/model"),
        conversations=_mix(0.05, 0.05, 0.50, 0.20, 0.20, data="data/arm_large"),
        rows=80,
        row_length=61_440,
        loop=replace(
            base.loop, seed=22, steps=40_000, parallel=replace(base.loop.parallel, replicas=10)
        ),
        optim=Optim(lr=5e-5, warmup=0, floor=0.1),
    )


def export() -> ExportRun:
    """The paper's model, from runs/arm and runs/arm7b, with both decoders. Minutes, and 64 GB of memory.

    The paper's: guidance 1.5 for drawing, 1.5 by text and 1.25 by the picture for editing. Ours: plain
    sampling at temperature 1.
    """
    root = Path("runs/arm")
    return ExportRun(
        out=Path("runs/arm7b/model"),
        pretrained=PRETRAINED,
        tokenizer=root / "tokenizer",
        backbone=Path("runs/arm7b/sft/model"),
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=Defaults(
            scale=8,
            grids=tuple((grid.height, grid.width) for grid in GRIDS),
            sampling=Sampling(temperature=1.0),
            edit_sampling=Sampling(temperature=1.0),
            guidance=Guidance(text=1.5, image=1.0),
            edit_guidance=Guidance(text=1.5, image=1.25),
            detokenizer="flux",
        ),
        text_tokenizer="Qwen/Qwen2.5-7B",
    )


def _judge() -> JudgeConfig:
    return JudgeConfig(
        "http://127.0.0.1:8000/v1", "Qwen2.5-VL-72B-Instruct", cache=Path("runs/arm7b/verdicts")
    )


def grpo_t2i() -> GRPORun:
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


def grpo_edit() -> GRPORun:
    """Editing of the paper's model. As `arm7b_t2i`; the paper's: rate 5e-5, 100 steps, 40 edits,
    temperature 1.0, a judge of instruction, preservation and quality; GEdit 5.75 -> 6.31 alone, 6.42
    after drawing. Edits as a data source in data/arm/edits.
    """
    base = grpo_t2i()
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


def grpo_joint() -> GRPORun:
    """Both, after drawing and editing. The paper's: rate 5e-5, 200 steps; GenEval .86, GEdit 6.68."""
    edit = grpo_edit()
    return replace(
        edit,
        out=Path("runs/arm7b/grpo_joint"),
        model="runs/arm7b/grpo_edit/model",
        drawing=grpo_t2i().drawing,
        loop=replace(edit.loop, steps=200),
    )
