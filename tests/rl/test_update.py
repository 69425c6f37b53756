"""Parts of an update of reinforcement learning that need no run."""

import numpy as np
import pytest
import torch

from arm.models.qwen2 import document_mask
from arm.rl.update import answer_kl
from arm.sequence import Image, Text, Weights, assistant, flatten, pack, user
from arm.vocab import Vocab
from tiny import build, seeded, sized_for

VOCAB = Vocab(text_size=12, num_codes=64, max_side=8, image_stride=32)


def test_the_kl_on_answers_is_taken_in_32_bits():
    """Small KLs drown in bf16: the logits may be rounded, what is made of them not."""
    model, start = build(sized_for(VOCAB)).bfloat16(), build(sized_for(VOCAB)).bfloat16()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=seeded(3)).bfloat16()
    sample = (user(Image(np.arange(6).reshape(2, 3)), Text((3, 1))), assistant(Text((4, 2, 7))))
    batch = pack([flatten(sample, VOCAB, Weights(code=0.0))], 24, VOCAB)

    def logprobs(network: torch.nn.Module) -> torch.Tensor:
        x = network.embed(batch.ids, batch.codes, batch.rows, batch.cols)  # pyright: ignore[reportCallIssue]
        hidden = network(x, batch.positions, document_mask(batch.document_ids))[:, :-1]
        logits = network.text_logits(hidden[batch.weights[:, 1:] > 0])  # pyright: ignore[reportCallIssue]
        return logits.double().log_softmax(-1)

    with torch.no_grad():
        ours, theirs = logprobs(model), logprobs(start)
        expected = (theirs.exp() * (theirs - ours)).sum(-1).mean()
        found = answer_kl(model, start, batch)
    assert found.dtype == torch.float32 and float(expected) > 1e-4
    assert float(found) == pytest.approx(float(expected), rel=1e-3)
