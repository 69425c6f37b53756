"""Attention inside documents says what a mask says, without the mask."""

from dataclasses import replace

import pytest
import torch

from arm.models.attention import Documents, attend, document_spans, documents, flex_documents
from arm.models.qwen2 import document_mask
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
    assert torch.allclose(found.transpose(1, 2)[real], expected.transpose(1, 2)[real], atol=1e-6)


def test_padding_gives_zeros_and_no_gradient():
    q, k, v = (torch.randn(2, 2, 6, 8, generator=seeded(s), requires_grad=True) for s in (1, 2, 3))
    out = attend(q, k, v, documents(IDS))
    assert torch.equal(out[0, :, 5], torch.zeros(2, 8))
    out.sum().backward()
    assert v.grad is not None and torch.equal(v.grad[0, :, 5], torch.zeros(2, 8))


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
        assert torch.allclose(a, b, atol=1e-6)


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
    assert torch.allclose(hidden[0, :document], hidden[0, -document:], atol=1e-6)


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
