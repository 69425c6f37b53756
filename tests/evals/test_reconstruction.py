"""How near pictures of any kind are to themselves, and their captions to them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from arm.data.pictures import PictureBatch
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
    """Dark and light pictures; the text tower sees every caption with an "l" as light."""

    def embed(siglip: Any, words: Any, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[255.0, 0.0] if "l" in t else [0.0, 255.0] for t in texts])

    monkeypatch.setattr("arm.evals.reconstruction.text_embeddings", embed)
    tokenizer: Any = Bytes()
    right = batch_of([10, 250], ["dark", "light"])
    assert retrieval(tokenizer, None, None, [right]) == 1
    wrong = batch_of([250, 10], ["dark", "light"])
    assert retrieval(tokenizer, None, None, [right, wrong]) == 0.5
    # equal captions are right for either picture
    same = batch_of([240, 250], ["light", "light"])
    assert retrieval(tokenizer, None, None, [same]) == 1
