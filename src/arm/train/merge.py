"""Averages of models that were trained separately from one starting model.

    merged = start + sum of weight_i * (model_i - start)

Weights that add up to 1 average the models (model soups, arXiv 2203.05482; of policies, WARP, 2406.16768);
smaller sums stay nearer to the start (WiSE-FT, 2109.01903). Not in the paper, whose stages follow each other.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from arm.errors import ConfigError
from arm.model_directory import find_model
from arm.models.backbone import load_backbone, save_backbone
from arm.train.export import replace_backbone


@dataclass(frozen=True)
class MergeRun:
    """Which models are averaged. Models are given by shipped name or path."""

    out: Path
    """The result is `out`/model."""
    start: str
    """The model that the others were trained from."""
    models: tuple[str, ...]
    weights: tuple[float, ...]
    """One for each model."""

    def __post_init__(self) -> None:
        if not self.models or len(self.models) != len(self.weights):
            raise ValueError("a merge needs models, and a weight for each of them")


@torch.no_grad()
def main(run: MergeRun) -> None:
    """Writes the merged model in 16 bits. Raises ConfigError for models of other shapes or another id space."""
    source = find_model(run.start)
    merged, vocab = load_backbone(source)
    start = {name: p.clone() for name, p in merged.named_parameters()}
    shapes = {name: p.shape for name, p in start.items()}
    for name, weight in zip(run.models, run.weights, strict=True):
        model, other = load_backbone(find_model(name))
        theirs = dict(model.named_parameters())
        if other != vocab or {n: p.shape for n, p in theirs.items()} != shapes:
            raise ConfigError(f"{name} cannot be merged into {run.start}: their shapes differ")
        for own, parameter in merged.named_parameters():
            parameter.add_(theirs[own] - start[own], alpha=weight)
    backbone = run.out / "backbone"
    save_backbone(merged, vocab, backbone, torch.float16)
    replace_backbone(source, backbone, run.out / "model")
    print(f"{run.out / 'model'}: {len(run.models)} models merged", flush=True)
