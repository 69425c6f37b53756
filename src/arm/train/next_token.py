"""The next-token loss of a packed batch (ARM section 3), for all rows at once or a few at a time.

Cross-entropy by the visual head at positions that predict a code and by the text head at all others, so that no
unused logits are computed.
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
    """The weighted mean loss of a packed batch, 'loss', and its parts 'code' and 'text', in nats per token.

    totals: the divisors of the sums, (2,): `token_weights` of the whole batch, of which this may be a part,
    averaged over the processes. attention: by a mask of T x T, or by documents (`models/attention.py`).
    chunk: positions whose logits exist at a time, 0 for all.
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


def _micro_batches(batch: PackedBatch, rows: int) -> Iterator[PackedBatch]:
    names = [f.name for f in fields(batch)]
    for start in range(0, len(batch.ids), rows):
        part = slice(start, start + rows)
        yield PackedBatch(*(getattr(batch, name)[part] for name in names))


def batch_losses(
    model: Qwen2,
    batch: PackedBatch,
    rows: int = 0,
    attention: Literal["mask", "documents"] = "mask",
    chunk: int = 0,
) -> Mapping[str, Tensor]:
    """The losses of a batch, see `next_token_losses`.

    rows: 0 for the whole batch at once. Otherwise micro-batches of so many rows go through the network one
    after another, each token with the weight it has in the whole batch; their gradients are accumulated here
    and the returned losses carry none.
    """
    totals = parallel.all_reduce_mean(token_weights(batch))

    def losses_of(model: Qwen2, part: PackedBatch) -> Mapping[str, Tensor]:
        # A closure, since FSDP would round `totals` to bf16 if it were an argument.
        return next_token_losses(model, part, totals, attention, chunk)

    if not rows or len(batch.ids) <= rows:
        return call_as_forward(model, losses_of, batch)
    sums: dict[str, Tensor] = {}
    for part in _micro_batches(batch, rows):
        losses = call_as_forward(model, losses_of, part)
        losses["loss"].backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    return sums


def report_loss_free(batch: PackedBatch, step: int, name: str) -> bool:
    """Prints a line where no token of a batch carries a loss, so that its step teaches nothing; returns whether
    that is so.
    """
    if bool((batch.weights[:, 1:] > 0).any()):
        return False
    print(
        f"{name}: step {step + 1}: none of its {batch.ids.numel():,} tokens carries a loss (0%), nothing is "
        "learned; check `weights`, and that the conversations have answers",
        flush=True,
    )
    return True
