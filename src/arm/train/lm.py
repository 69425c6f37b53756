"""Stage 3: the autoregressive model (ARM section 3), in the stages PT, CT and SFT.

Plain cross-entropy on the next token; the visual head scores positions that predict a code, the
text head all others, so no logits are made that no loss reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from arm.data.mixture import Dropout, Ratios, packed_batch
from arm.data.shards import Chain, code_counts, read_shards
from arm.errors import WeightsError
from arm.losses import token_cross_entropy
from arm.models.backbone import load_backbone, save_backbone
from arm.models.pretrained import load_text_tokenizer
from arm.models.qwen2 import Qwen2, Qwen2Config, document_mask
from arm.models.text import TextTokenizer
from arm.models.visual import compose_rare_rows
from arm.sequence import PackedBatch, Weights
from arm.train import parallel
from arm.train.runtime import Loop, Optim, fit, training_device
from arm.vocab import Vocab

SHARED = True
"""Several processes may run it together (`train/chain.py`)."""


@dataclass(frozen=True)
class Backbone:
    """Sizes of a backbone made from nothing."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    rope_theta: float = 10_000.0
    tie_embeddings: bool = True


@dataclass(frozen=True)
class LMRun:
    """One stage. `init_from` is the directory of the stage before; None starts from nothing.

    min_count: at the end, codes that stand in the shards fewer times than this get a row of the head
    that is composed of their bits (`compose_rare_rows`).
    """

    out: Path
    text_tokenizer: Path
    shards: tuple[Path, ...]
    init_from: Path | None
    backbone: Backbone
    code_bits: int
    max_side: int
    grid_positions: bool
    image_stride: int
    samples: int
    row_length: int
    weights: Weights
    ratios: Ratios
    dropout: Dropout
    loop: Loop
    optim: Optim
    min_count: int = 0


def next_token_losses(model: Qwen2, batch: PackedBatch) -> Mapping[str, Tensor]:
    """The weighted mean loss of a packed batch and its two parts, in nats a token.

    Under several processes the means are over the batch of all of them (`train/parallel.py`).
    """
    hidden = model(
        model.embed(batch.ids, batch.codes, batch.rows, batch.cols),
        batch.positions,
        document_mask(batch.document_ids),
    )[:, :-1]
    weights, codes, ids = batch.weights[:, 1:], batch.codes[:, 1:], batch.ids[:, 1:]
    is_code = (codes >= 0) & (weights > 0)
    is_text = (codes < 0) & (weights > 0)
    code = token_cross_entropy(
        model.visual_logits(hidden[is_code]), codes[is_code], weights[is_code]
    )
    text = token_cross_entropy(model.text_logits(hidden[is_text]), ids[is_text], weights[is_text])
    each = torch.stack([weights[is_code].sum(), weights[is_text].sum()])
    codes_weight, text_weight = parallel.mean(each).clamp(min=1e-6)
    return {
        "loss": (code + text) / (codes_weight + text_weight),
        "code": code / codes_weight,
        "text": text / text_weight,
    }


def build(run: LMRun, text_size: int) -> tuple[Qwen2, Vocab]:
    vocab = Vocab(text_size, 2**run.code_bits, run.max_side, run.image_stride)
    if run.init_from is not None:
        model, found = load_backbone(run.init_from)
        if replace(found, image_stride=vocab.image_stride) != vocab:
            raise WeightsError(f"{run.init_from} was trained with {found}, this run has {vocab}")
        return model, vocab
    size = run.backbone
    config = Qwen2Config(
        vocab_size=vocab.first_code,
        num_codes=vocab.num_codes,
        code_bits=run.code_bits,
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_layers=size.num_layers,
        num_heads=size.num_heads,
        num_kv_heads=size.num_kv_heads,
        rope_theta=size.rope_theta,
        tie_embeddings=size.tie_embeddings,
        max_side=run.max_side if run.grid_positions else 0,
    )
    model = Qwen2(config)
    model.init_weights(torch.Generator().manual_seed(run.loop.seed))
    return model, vocab


def main(run: LMRun) -> None:
    """Trains one stage and writes the model to `out`/model."""
    words = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    model, vocab = build(run, words.size)
    chains: list[Chain] = [chain for directory in run.shards for chain in read_shards(directory)]
    if parallel.is_main():
        size = sum(p.numel() for p in model.parameters())
        print(f"{size:,} parameters, {len(chains):,} chains", flush=True)

    def make_batch(step: int) -> PackedBatch:
        return packed_batch(
            run.loop.seed, step, run.samples, run.row_length, chains, run.ratios,
            run.dropout, run.weights, words.ids, vocab,
        )  # fmt: skip

    fit(
        model.to(training_device()),
        make_batch,
        lambda batch: next_token_losses(model, batch),
        run_dir=run.out,
        name=run.out.name,
        config=run,
        loop=run.loop,
        optim=run.optim,
        shares=True,
    )
    if not parallel.is_main():
        return
    if run.min_count and model.visual is not None:
        counts = torch.from_numpy(code_counts(chains, vocab.num_codes))
        composed = compose_rare_rows(model.visual, counts, run.min_count)
        print(f"{composed} rows of the head composed of their bits", flush=True)
    save_backbone(model.eval(), vocab, run.out / "model")
