"""The next-token loss against cross-entropies taken one by one, whole and in pieces."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from arm.models.qwen2 import Qwen2, document_mask
from arm.sequence import Image, PackedBatch, Text, assistant, flatten, pack, user
from arm.train.next_token import batch_losses, next_token_losses, token_weights
from arm.vocab import Vocab
from closeness import assert_close_fp32
from tiny import build, sized_for

VOCAB = Vocab(text_size=12, num_codes=64, max_side=8, image_stride=16)
CODES = np.arange(6).reshape(2, 3) * 9
SAMPLES = (
    (user(Text((1, 2, 3))), assistant(Image(CODES))),
    (user(Image(CODES.T), Text((4,))), assistant(Text((7, 5)))),
    (user(Text((9,))), assistant(Text((2,)))),
)


@pytest.fixture
def model() -> Qwen2:
    return build(sized_for(VOCAB))


@pytest.fixture
def batch() -> PackedBatch:
    rows = [pack([flatten(sample, VOCAB)], 20, VOCAB) for sample in SAMPLES]
    names = [field.name for field in fields(PackedBatch)]
    return PackedBatch(*(torch.cat([getattr(row, name) for row in rows]) for name in names))


def one_by_one(model: Qwen2, batch: PackedBatch) -> tuple[list[float], list[float]]:
    """Weight times loss of every code, and of every word, that is predicted."""
    x = model.embed(batch.ids, batch.codes, batch.rows, batch.cols)
    hidden = model(x, batch.positions, document_mask(batch.document_ids))
    codes, words = [], []
    for row, place in (batch.weights[:, 1:] > 0).nonzero().tolist():
        weight, state = float(batch.weights[row, place + 1]), hidden[row, place]
        code, word = int(batch.codes[row, place + 1]), int(batch.ids[row, place + 1])
        if code >= 0:
            codes.append(-weight * float(model.visual_logits(state).log_softmax(-1)[code]))
        else:
            words.append(-weight * float(model.text_logits(state).log_softmax(-1)[word]))
    return codes, words


@torch.no_grad()
def test_the_weighted_means_by_hand(model: Qwen2, batch: PackedBatch):
    codes, words = one_by_one(model, batch)
    assert (
        len(codes) == 6 and len(words) == 9
    )  # of the drawing; <image> <h> <w> <end>, 7 5 <end>, 2 <end>
    of_codes, of_words = token_weights(batch).tolist()
    found = next_token_losses(model, batch, token_weights(batch))
    assert float(found["code"]) == pytest.approx(sum(codes) / of_codes, rel=1e-4)
    assert float(found["text"]) == pytest.approx(sum(words) / of_words, rel=1e-4)
    whole = (sum(codes) + sum(words)) / (of_codes + of_words)
    assert float(found["loss"]) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("rows", [1, 2])
def test_pieces_add_up_to_the_whole(model: Qwen2, batch: PackedBatch, rows: int):
    whole = batch_losses(model, batch)
    whole["loss"].backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    pieces = batch_losses(model, batch, rows)
    assert not pieces["loss"].requires_grad
    for name, value in whole.items():
        assert float(pieces[name]) == pytest.approx(float(value.detach()), rel=1e-4)
    for name, parameter in model.named_parameters():
        assert_close_fp32(parameter.grad, expected[name])
