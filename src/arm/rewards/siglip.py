"""How well a picture fits its text, by the two towers of a SigLIP model.

For drawing only: the sigmoid of the scaled cosine, the probability that the towers give to the pair.
Our stand-in towers or a real SigLIP2 by the same loader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from arm.data.pictures import to_float
from arm.errors import ConfigError
from arm.models.encoder import vision_encoder
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.models.text import text_embeddings
from arm.rewards.base import Attempt, Components, Kind


@dataclass(frozen=True)
class SiglipReward:
    """`towers`: a directory or hub id with the model and its text tokenizer."""

    towers: Path

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return load_siglip(self.towers), load_text_tokenizer(self.towers)

    def check(self, kind: Kind, *, of_world: bool, scale: int) -> None:
        """Raises ConfigError for editing, WeightsError where the towers cannot be loaded."""
        if kind == "editing":
            raise ConfigError(
                "SigLIP scores a picture by its text and cannot tell what an edit changed"
            )
        _ = self._loaded

    @torch.no_grad()
    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        model, tokenizer = self._loaded
        encoder = vision_encoder(model.vision_model)
        found: list[Components | None] = [None] * len(attempts)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, attempt in enumerate(attempts):
            by_shape.setdefault(attempt.picture.shape, []).append(i)
        for indices in by_shape.values():
            pixels = to_float(np.stack([attempts[i].picture for i in indices]))
            texts = [attempts[i].text for i in indices]
            image = encoder.pool(encoder.features(pixels))
            text = text_embeddings(model, tokenizer, texts)
            cosine = F.cosine_similarity(image, text)
            fit = torch.sigmoid(cosine * model.logit_scale.exp() + model.logit_bias)
            for i, value in zip(indices, fit.flatten().tolist(), strict=True):
                found[i] = {"fit": value}
        return found
