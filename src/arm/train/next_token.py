"""The next-token loss of a packed batch (ARM section 3), of all its rows at once or of a few at a time.

Plain cross-entropy; the visual head scores positions that predict a code, the text head all others,
so no logits are made that no loss reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Literal

import torch
from torch import Tensor

from arm.losses import head_cross_entropy
from arm.models.attention import documents
from arm.models.qwen2 import Qwen2, document_mask
from arm.sequence import PackedBatch
from arm.train import parallel
from arm.train.sharding import call_as_forward


def token_weights(batch: PackedBatch) -> Tensor:
    """The total loss weight of codes and of text in a batch, (2,)."""
    weights, is_code = batch.weights[:, 1:], batch.codes[:, 1:] >= 0
    return torch.stack([(weights * is_code).sum(), (weights * ~is_code).sum()])


def next_token_losses(
    model: Qwen2,
    batch: PackedBatch,
    totals: Tensor,
    attention: Literal["mask", "documents"] = "mask",
    chunk: int = 0,
) -> Mapping[str, Tensor]:
    """The weighted mean loss of a packed batch and its two parts, in nats a token.

    totals: what the sums are divided by: the `token_weights` of the batch, or of one that it is a part
    of; their mean over the processes, so that the processes' mean is over the batch of all of them.
    """
    mask = (document_mask if attention == "mask" else documents)(batch.document_ids)
    hidden = model(
        model.embed(batch.ids, batch.codes, batch.rows, batch.cols), batch.positions, mask
    )[:, :-1]
    weights, codes, ids = batch.weights[:, 1:], batch.codes[:, 1:], batch.ids[:, 1:]
    is_code = (codes >= 0) & (weights > 0)
    is_text = (codes < 0) & (weights > 0)
    code = head_cross_entropy(
        model.visual_logits, hidden[is_code], codes[is_code], weights[is_code], chunk
    )
    text = head_cross_entropy(
        model.text_logits, hidden[is_text], ids[is_text], weights[is_text], chunk
    )
    codes_weight, text_weight = totals.clamp(min=1e-6)
    return {
        "loss": (code + text) / (codes_weight + text_weight),
        "code": code / codes_weight,
        "text": text / text_weight,
    }


def _pieces(batch: PackedBatch, rows: int) -> Iterator[PackedBatch]:
    names = [f.name for f in fields(batch)]
    for start in range(0, len(batch.ids), rows):
        piece = slice(start, start + rows)
        yield PackedBatch(*(getattr(batch, name)[piece] for name in names))


def batch_losses(
    model: Qwen2,
    batch: PackedBatch,
    rows: int = 0,
    attention: Literal["mask", "documents"] = "mask",
    chunk: int = 0,
) -> Mapping[str, Tensor]:
    """The losses of a batch; in pieces of `rows` rows (0: whole) their gradients are added up here, each
    token weighing what it would weigh in the whole. attention, chunk: see `next_token_losses`.
    """
    totals = parallel.all_reduce_mean(token_weights(batch))

    def of(model: Qwen2, piece: PackedBatch) -> Mapping[str, Tensor]:
        # As an argument of the call FSDP would round the totals to bf16.
        return next_token_losses(model, piece, totals, attention, chunk)

    if not rows or len(batch.ids) <= rows:
        return call_as_forward(model, of, batch)
    sums: dict[str, Tensor] = {}
    for piece in _pieces(batch, rows):
        losses = call_as_forward(model, of, piece)
        losses["loss"].backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    return sums
