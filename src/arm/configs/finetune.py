"""Fine-tuning on a user's own data: tokenizer and language model of `micro`, LoRA of the 0.5B model."""

from dataclasses import replace
from pathlib import Path

from arm.configs import arm0_5b, micro
from arm.model_directory import find_model
from arm.models.pretrained import Pretrained
from arm.train.export import ExportRun
from arm.train.finetune import Finetune
from arm.train.lm import Conversations, LMRun
from arm.train.optim import Optim
from arm.train.tokenizer import LossWeights, TokenizerRun
from arm.train.training import Loop


def tokenizer() -> TokenizerRun:
    """The shipped tokenizer on a user's own pictures: `arm train tokenizer:micro_finetune
    'data=["FOLDER"]'`. One CPU core, about ten minutes. `arm train export:micro_finetune` makes a model
    of it, whose codes its backbone has yet to learn.
    """
    shipped = find_model("micro-sft")
    return replace(
        micro.tokenizer(),
        out=Path("runs/finetune/tokenizer"),
        data=("docs/data",),
        init_from=shipped,
        pretrained=Pretrained(siglip=str(shipped / "siglip"), caption_lm="", vae=""),
        weights=LossWeights(cap=0.0, pix=40.0, sig=1.0, feat=1.0),
        loop=Loop(steps=1000, seed=7, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=1e-3, muon=True),
        eval_every=250,
    )


def export() -> ExportRun:
    """A model around the tokenizer of `tokenizer:micro_finetune`, in runs/finetune/model. Seconds."""
    shipped = find_model("micro-sft")
    return ExportRun(
        out=Path("runs/finetune/model"),
        pretrained=Pretrained(siglip=str(shipped / "siglip"), caption_lm="", vae=""),
        tokenizer=Path("runs/finetune/tokenizer"),
        backbone=find_model("micro"),
        detokenizers=(),
        defaults=replace(micro.export_sft().defaults, detokenizer="pixel"),
    )


def lm() -> LMRun:
    """Fine-tuning of the shipped small model on a user's own code shards in `codes` (`arm encode`). One CPU
    core, about five minutes. New words: `arm data words DATA`, and text_tokenizer=words. The whole model
    is runs/finetune/lm/arm.
    """
    base = micro.lm_sft()
    return replace(
        base,
        out=Path("runs/finetune/lm"),
        parts="micro",
        text_tokenizer=find_model("micro-sft") / "siglip",
        shards=(),
        conversations=(Conversations(Path("codes")),),
        init_from=find_model("micro"),
        samples=32,
        row_length=256,
        loop=Loop(steps=300, seed=23, log_every=25, bf16=True),
        optim=Optim(lr=5e-4, warmup=20, weight_decay=0.01, floor=0.05, muon=True),
        min_count=0,
    )


def lm_lora() -> LMRun:
    """Fine-tuning with LoRA of rank 16 and the visual part in full, on a user's own code shards:
    `arm train lm:arm0_5b_lora 'conversations=[["codes"]]'`. One GPU of 24 GB, minutes by `arm plan`; not run by us.
    """
    base = arm0_5b.lm_sft()
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
