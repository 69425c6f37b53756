"""Attention inside the documents of packed rows, for rows too long for a T x T mask.

`document_mask` in `qwen2.py` says the same as a tensor of T * T booleans, 6.4 GB for one row of 80K
tokens. Here a row is cut into its documents: one causal attention each on a CPU, and one kernel that
skips empty blocks (FlexAttention) on a GPU.

B batch, T tokens, S keys, N heads, K key/value heads, H head dimension; of a block mask, Q blocks of
queries and K blocks of keys.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

BLOCK = 128
"""Tokens of a side of FlexAttention's blocks."""
Span = tuple[int, int, int, bool]
"""(row, start, stop) of a document (True) or of padding (False). The spans of a row cover it."""


@dataclass(frozen=True, eq=False)
class Documents:
    """Which tokens attend to each other: those of one document, causally. A token of padding attends
    to nothing and gives zeros on a CPU, and to its own kind before it on a GPU; no loss reads it.

    One of the two is there: `spans`, or the `block_mask` of FlexAttention.
    """

    spans: tuple[Span, ...] = ()
    block_mask: Any = None


def document_spans(document_ids_BT: Int[Tensor, "b t"]) -> tuple[Span, ...]:
    """Runs of equal ids: 0 0 1 1 1 -1 are (row, 0, 2, True), (row, 2, 5, True), (row, 5, 6, False)."""
    spans = []
    for row, ids_T in enumerate(document_ids_BT.cpu()):
        values, counts = torch.unique_consecutive(ids_T, return_counts=True)
        stops = counts.cumsum(0)
        found = zip(values.tolist(), (stops - counts).tolist(), stops.tolist(), strict=True)
        spans += [(row, start, stop, value >= 0) for value, start, stop in found]
    return tuple(spans)


def _ordered(seen_BQK: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries sees, (B, 1, Q), and which: these first, (B, 1, Q, K)."""
    first_BQK = seen_BQK.int().argsort(dim=-1, descending=True, stable=True)
    return seen_BQK.sum(-1).int()[:, None], first_BQK.int()[:, None]


def flex_documents(document_ids_BT: Int[Tensor, "b t"], block: int = BLOCK) -> Documents:
    """The documents as FlexAttention's block mask, on the ids' device. Its blocks follow from where
    documents begin, since `create_block_mask` would make all T x T of them first.

    Tokens are numbered by their document. Of a block of keys before a block of queries, the queries see
    a part where the last number of the keys is the first of the queries, and all where the first of the
    keys is the last of the queries. Documents of 4 and 2 tokens in blocks of 2, seen in part (p), whole (w):

        numbers  0 0 0 0 1 1      p . .
                                  w p .
                                  . . p
    """
    from torch.nn.attention.flex_attention import BlockMask

    T = document_ids_BT.shape[1]
    begins_BT = F.pad(document_ids_BT.diff(dim=1) != 0, (1, 0))
    number_BT = begins_BT.cumsum(1)

    def same_and_before(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return (number_BT[b, q] == number_BT[b, kv]) & (q >= kv)

    # What fills up the last block is in no document, so that block sees no other whole.
    filled = F.pad(number_BT, (0, -T % block), value=-1).unflatten(1, (-1, block))
    first_BQ, last_BQ = filled[..., 0], filled[..., -1]
    shared_BQK = (first_BQ[:, :, None] == last_BQ[:, None]).tril(-1)
    whole_BQK = (last_BQ[:, :, None] == first_BQ[:, None]).tril(-1)
    itself_QK = torch.eye(filled.shape[1], dtype=torch.bool, device=filled.device)
    mask = BlockMask.from_kv_blocks(
        *_ordered(shared_BQK & ~whole_BQK | itself_QK), *_ordered(whole_BQK),
        BLOCK_SIZE=block, mask_mod=same_and_before, seq_lengths=(T, T),
    )  # fmt: skip
    return Documents(block_mask=mask)


def documents(document_ids_BT: Int[Tensor, "b t"]) -> Documents:
    """The documents of packed rows, told apart by id; a negative id is padding."""
    if document_ids_BT.is_cuda:
        return flex_documents(document_ids_BT)
    return Documents(document_spans(document_ids_BT))


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


def attend_with_folded_groups(
    q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, mask: Bool[Tensor, "b 1 t s"]
) -> Tensor:
    """Grouped-query attention with a mask, as attention of K heads, each with the queries of its whole group.

    `enable_gqa` with a mask leaves CUDA's fast kernels for one that holds all scores in fp32. The queries of a
    group share their keys, so they can stand one after another, the mask repeated: of 4 query heads, 2
    key/value heads and 3 tokens, head 0 sees the queries t0 t1 t2 of head 0, then those of head 1.
    Returns (B, N, T, H).
    """
    B, N, T, H = q_BNTH.shape
    K = k_BKSH.shape[1]
    folded = q_BNTH.reshape(B, K, N // K * T, H)
    mask = mask.expand(-1, -1, T, -1).repeat(1, 1, N // K, 1)
    return F.scaled_dot_product_attention(folded, k_BKSH, v_BKSH, attn_mask=mask).reshape(
        B, N, T, H
    )


def attend(
    q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, mask: Tensor | Documents | None
) -> Tensor:
    """Grouped-query attention, (B, N, T, H).

    A tensor (B or 1, 1, T, S) is true where token t may attend to token s. Without a mask, several
    tokens are the first ones (S == T) and attend causally, and a single one sees all.
    """
    if not isinstance(mask, Documents):
        if mask is not None and q_BNTH.is_cuda and q_BNTH.shape[1] > k_BKSH.shape[1]:
            return attend_with_folded_groups(q_BNTH, k_BKSH, v_BKSH, mask)
        causal = mask is None and q_BNTH.shape[2] > 1
        return F.scaled_dot_product_attention(
            q_BNTH, k_BKSH, v_BKSH, attn_mask=mask, is_causal=causal, enable_gqa=True
        )
    if mask.block_mask is not None:
        flex = _flex(q_BNTH.is_cuda)
        return flex(q_BNTH, k_BKSH, v_BKSH, block_mask=mask.block_mask, enable_gqa=True)
    rows: list[list[Tensor]] = [[] for _ in q_BNTH]
    for row, start, stop, real in mask.spans:
        q, k, v = (x[row : row + 1, :, start:stop] for x in (q_BNTH, k_BKSH, v_BKSH))
        if real:
            q = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        rows[row].append(q if real else torch.zeros_like(q))
    return torch.cat([torch.cat(row, 2) for row in rows])
