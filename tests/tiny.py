"""Models small enough for a test, with random weights."""

from dataclasses import replace

import torch

from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.vocab import Vocab

TEXT = Qwen2Config(
    vocab_size=37,
    num_codes=0,
    code_bits=0,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    rope_theta=10_000.0,
)
VISUAL = replace(TEXT, num_codes=16, code_bits=4, max_side=5)


def sized_for(vocab: Vocab) -> Qwen2Config:
    """A network that reads and says every id of this space."""
    return replace(
        TEXT, vocab_size=vocab.first_code, num_codes=vocab.num_codes,
        code_bits=vocab.num_codes.bit_length() - 1, max_side=vocab.max_side,
    )  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(config: Qwen2Config, seed: int = 0) -> Qwen2:
    """A model with larger weights than usual and nonzero biases, so that every part matters."""
    model = Qwen2(config).eval()
    model.init_weights(seeded(seed), std=0.2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.2, generator=seeded(seed + 1))
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=seeded(seed + 2))
    return model
