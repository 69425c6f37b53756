"""Attention inside documents says what a mask says, without the mask."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from arm.models.attention import (
    Documents,
    attend,
    attend_with_folded_groups,
    document_spans,
    documents,
    flex_documents,
)
from arm.models.qwen2 import document_mask
from arm.train.measure import LiveStorages
from closeness import assert_close_fp32
from tiny import VISUAL, build, seeded

IDS = torch.tensor([[0, 0, 1, 1, 1, -1], [3, 3, 3, 3, 4, 4]])


def test_spans_cover_every_row():
    assert document_spans(IDS) == (
        (0, 0, 2, True), (0, 2, 5, True), (0, 5, 6, False), (1, 0, 4, True), (1, 4, 6, True)
    )  # fmt: skip


@pytest.mark.parametrize("make", [documents, flex_documents])
def test_documents_equal_the_mask(make):
    q = torch.randn(2, 4, 6, 16, generator=seeded(1))
    k, v = (torch.randn(2, 2, 6, 16, generator=seeded(s)) for s in (2, 3))
    expected, found = attend(q, k, v, document_mask(IDS)), attend(q, k, v, make(IDS))
    real = IDS >= 0
    assert_close_fp32(found.transpose(1, 2)[real], expected.transpose(1, 2)[real])


def test_padding_gives_zeros_and_no_gradient():
    q, k, v = (torch.randn(2, 2, 6, 8, generator=seeded(s), requires_grad=True) for s in (1, 2, 3))
    out = attend(q, k, v, documents(IDS))
    assert torch.equal(out[0, :, 5], torch.zeros(2, 8))
    out.sum().backward()
    assert v.grad is not None and torch.equal(v.grad[0, :, 5], torch.zeros(2, 8))


def layouts(T: int, rows: int, seed: int) -> torch.Tensor:
    """(rows, T) ids of documents of random lengths, the first row one document, every second row with
    padding behind.
    """
    generator, found = seeded(seed), torch.zeros(rows, T, dtype=torch.long)
    for row in range(1, rows):
        most = int(torch.randint(1, T + 1, (1,), generator=generator))
        lengths = torch.randint(1, most + 1, (T,), generator=generator)
        found[row] = torch.arange(T).repeat_interleave(lengths)[:T]
        if row % 2:
            found[row, int(torch.randint(T, (1,), generator=generator)) :] = -1
    return found


def blocks_of(mask: torch.Tensor, block: int) -> torch.Tensor:
    """(B, T, T) booleans as (B, Q, K, block, block), false beyond T."""
    fill = -mask.shape[1] % block
    cut = F.pad(mask, (0, fill, 0, fill)).unflatten(2, (-1, block)).unflatten(1, (-1, block))
    return cut.transpose(2, 3)


@pytest.mark.parametrize("block", [2, 4, 5, 16, 64])
@pytest.mark.parametrize("T", [1, 16, 37])
def test_the_block_mask_is_that_of_all_tokens(T: int, block: int):
    for seed in range(5):
        ids = layouts(T, 6, seed)
        made = flex_documents(ids, block).block_mask
        expected = create_block_mask(
            made.mask_mod, len(ids), None, T, T, device="cpu", BLOCK_SIZE=block
        )
        for name in ("kv_num_blocks", "kv_indices", "q_num_blocks", "q_indices"):
            for kind in (name, f"full_{name}"):
                assert torch.equal(getattr(made, kind), getattr(expected, kind)), kind
        assert (made.shape, made.BLOCK_SIZE) == (expected.shape, expected.BLOCK_SIZE)
        # What the kernel reads: the mask inside of blocks seen in part, all of those seen whole.
        alone = document_mask(ids)[:, 0]
        padding = (ids < 0)[:, :, None] & (ids < 0)[:, None] & torch.ones(T, T).tril().bool()
        true = blocks_of(alone | padding, block)
        whole = BlockMask.from_kv_blocks(made.full_kv_num_blocks, made.full_kv_indices).to_dense()
        assert torch.equal(made.to_dense()[:, 0].bool(), true.any((-1, -2)))
        assert torch.equal(whole[:, 0].bool(), true.all((-1, -2)))


@pytest.mark.parametrize("block", [4, 16])
def test_flex_attention_over_random_documents_equals_the_mask(block: int):
    ids = layouts(37, 6, seed=9)
    q = torch.randn(6, 4, 37, 16, generator=seeded(1))
    k, v = (torch.randn(6, 2, 37, 16, generator=seeded(s)) for s in (2, 3))
    expected, found = (attend(q, k, v, m) for m in (document_mask(ids), flex_documents(ids, block)))
    real = ids >= 0
    assert_close_fp32(found.transpose(1, 2)[real], expected.transpose(1, 2)[real])


def test_a_block_mask_takes_the_bytes_of_its_blocks():
    """Of the T x T tokens there are 67 million, then 6.7 billion."""
    for T in (8_192, 81_920):
        ids = (torch.arange(T) // 1000)[None]
        with LiveStorages() as storages:
            mask = flex_documents(ids).block_mask
        assert mask.shape == (1, 1, T, T)
        assert storages.peak < 100 * (T // 128) ** 2 + 50 * T


def test_the_models_gradients_agree():
    """The whole network over packed rows, by documents and by mask: the same loss and gradients."""
    found = []
    for mask in (document_mask(IDS), documents(IDS)):
        model = build(VISUAL)
        ids = torch.randint(0, VISUAL.vocab_size, IDS.shape, generator=seeded(4))
        positions = torch.tensor([[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 0, 1]])
        hidden = model(model.embed(ids), positions, mask)[IDS >= 0]
        hidden.square().mean().backward()
        found.append(
            (hidden.detach(), model.get_parameter("layers.0.self_attn.q_proj.weight").grad)
        )
    for a, b in zip(*found, strict=True):
        assert_close_fp32(a, b)


def test_documents_are_compared_by_identity():
    assert Documents() != Documents()


def test_a_row_of_80_thousand_tokens():
    """Its mask would take 6.7 GB; by documents it needs none, forward and backward."""
    T, document = 81_920, 512
    ids = (torch.arange(T) // document)[None]
    model = build(replace(VISUAL, hidden_size=8, num_layers=1, num_heads=1, num_kv_heads=1))
    tokens = torch.zeros(1, T, dtype=torch.long)
    hidden = model(model.embed(tokens), torch.arange(T)[None] % document, documents(ids))
    hidden.sum().backward()
    # Every document is the same text, so every document gets the same answer.
    assert_close_fp32(hidden[0, :document], hidden[0, -document:])


@pytest.mark.gpu
def test_the_compiled_kernel_equals_the_mask():
    """FlexAttention on a GPU in bf16, forward and backward, rows longer than a block."""
    ids = torch.tensor([[0] * 200 + [1] * 100 + [-1] * 84, [2] * 384], device="cuda")
    real, found = ids >= 0, []
    for mask in (document_mask(ids), documents(ids)):
        q, k, v = (
            torch.randn(2, heads, 384, 64, generator=seeded(s)).cuda().bfloat16().requires_grad_()
            for s, heads in ((1, 4), (2, 2), (3, 2))
        )
        out = attend(q, k, v, mask).transpose(1, 2)[real].float()
        out.square().sum().backward()
        grads = [x.grad.float() for x in (q, k, v) if x.grad is not None]
        found.append((out.detach(), *grads))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (6, 1), (3, 3)])
@pytest.mark.parametrize("tokens", [1, 5])
def test_folded_groups_equal_grouped_queries(heads: int, kv_heads: int, tokens: int):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, heads, tokens, 8, generator=generator)
    k, v = torch.randn(2, 2, kv_heads, 7, 8, generator=generator)
    mask = torch.rand(2, 1, tokens, 7, generator=generator) < 0.6
    mask[..., 0] = True  # every token sees one at least
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert_close_fp32(attend_with_folded_groups(q, k, v, mask), expected)
    shared = attend_with_folded_groups(q, k, v, mask[:1])
    assert_close_fp32(shared[0], expected[0])
