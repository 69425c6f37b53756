"""How near pictures of any kind are to themselves, and their captions to them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from arm.data.captioned import PictureBatch
from arm.evals.reconstruction import fidelity, psnr, retrieval


class Bytes:
    """A tokenizer and decoder whose code is the grey of a patch of one pixel; `off` is its error."""

    def __init__(self, off: int = 0) -> None:
        self.off = off
        self.fsq = SimpleNamespace(num_codes=256)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return ((images[:, 0] + 1) * 127.5).round().long()

    def decode(self, codes: torch.Tensor, **_: Any) -> torch.Tensor:
        return ((codes + self.off) / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)

    def dequantize(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.flatten(1).float()[..., None]

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        mean = features.mean((1, 2))
        return torch.stack([mean, 255 - mean], -1)


def batch_of(greys: list[int], captions: list[str]) -> PictureBatch:
    images = torch.tensor(greys).view(-1, 1, 1, 1).expand(-1, 3, 8, 8) / 127.5 - 1
    return PictureBatch(images, tuple(captions), tuple(captions), ())


def test_fidelity_by_hand():
    batches = [batch_of([0, 100], ["a", "b"]), batch_of([200], ["c"])]
    perfect: Any = Bytes()
    found = fidelity(perfect, perfect, batches)
    assert found["psnr"] == 100 and found["ssim"] == pytest.approx(1) and found["pictures"] == 3
    # three of 256 codes, equally often: perplexity 3
    assert found["codes_used"] == pytest.approx(3 / 256)
    assert found["perplexity"] == pytest.approx(3 / 256)
    off: Any = Bytes(5)
    # 20 log10(255 / 5) wherever the error is 5 everywhere
    assert fidelity(off, off, batches)["psnr"] == pytest.approx(34.151, abs=1e-3)
    zero, five = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 5, np.uint8)
    assert psnr(zero, five) == pytest.approx(34.151, abs=1e-3)


def test_retrieval_by_hand(monkeypatch: pytest.MonkeyPatch):
    """Dark and light pictures; the tower reads "dark" as 5, "light" as 6 and any other word as 1, unknown."""
    ids = {"dark": 5, "light": 6}

    def read(siglip: Any, text_tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[ids.get(text, 1), 0] for text in texts])

    def embed(siglip: Any, ids_BT: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[255.0, 0.0] if i == 6 else [0.0, 255.0] for i in ids_BT[:, 0]])

    monkeypatch.setattr("arm.evals.reconstruction.tower_ids", read)
    monkeypatch.setattr("arm.evals.reconstruction.tower_embeddings", embed)
    tokenizer: Any = Bytes()
    text_tokenizer = SimpleNamespace(unk_token_id=1, eos_token_id=0, pad_token_id=None)
    right = batch_of([10, 250], ["dark", "light"])
    assert retrieval(tokenizer, None, text_tokenizer, [right]) == 1
    wrong = batch_of([250, 10], ["dark", "light"])
    assert retrieval(tokenizer, None, text_tokenizer, [right, wrong]) == 0.5
    # captions that read the same are right for either picture
    same = batch_of([240, 250], ["light", "light"])
    assert retrieval(tokenizer, None, text_tokenizer, [same]) == 1
    # of a caption without a known word nothing can be said
    unknown = batch_of([10, 250], ["dress", "hat"])
    assert retrieval(tokenizer, None, text_tokenizer, [wrong, unknown]) == 0
    assert retrieval(tokenizer, None, text_tokenizer, [unknown]) is None
