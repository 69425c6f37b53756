"""Stage 1: the visual tokenizer with its four losses (ARM section 1).

loss = cap * L_cap + pix * L_pix + sig * L_sig + feat * L_feat; a weight of 0 switches a loss off,
and what only that loss needs is then not computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.data.pictures import (
    GridWeight,
    PictureBatch,
    counted_pairs,
    same_captions,
    world_batch,
)
from arm.evals.reconstruction import quick_scores
from arm.losses import (
    caption_cross_entropy,
    cosine_distance,
    sigmoid_contrastive,
    sign_agreement,
    x1_flow,
)
from arm.models import flow
from arm.models.pretrained import load_caption_lm, load_siglip, load_text_tokenizer
from arm.models.text import caption_logits, encode_captions
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.train.runtime import Loop, Optim, fit, training_device


@dataclass(frozen=True)
class LossWeights:
    """The paper's weights. `local` is ours (0, as in the paper, is off): patches that an edit leaves
    alone keep their codes, so that a code speaks of its own place and a small model can copy it.
    """

    cap: float = 1.0
    pix: float = 5.0
    sig: float = 5.0
    feat: float = 1.0
    local: float = 0.0


@dataclass(frozen=True)
class Timesteps:
    """How L_pix draws t and weighs its error; (1, 1, True) is the paper's plain velocity loss."""

    power: float = 1.0
    highest: float = 1.0
    velocity_weighting: bool = True


@dataclass(frozen=True)
class TokenizerRun:
    """One training of the tokenizer. With `keep_codes` the projector is frozen too, so that every
    picture keeps its codes and only what is painted from them gets better; with `keep_features` the
    de-projector as well, so that z_q stays for the other decoders and the pixel DiT trains alone.
    """

    out: Path
    standins: Path
    model: TokenizerConfig
    weights: LossWeights
    timesteps: Timesteps
    grids: tuple[GridWeight, ...]
    scale: int
    batch: int
    loop: Loop
    optim: Optim
    eval_every: int
    eval_pictures: int = 128
    singles: float = 0.25
    init_from: Path | None = None
    keep_codes: bool = False
    keep_features: bool = False


class TokenizerTrainer(nn.Module):
    """The tokenizer and the parts that only its losses need."""

    def __init__(self, tokenizer: VisualTokenizer, siglip: Any, caption_lm: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.text_tower = siglip.text_model
        self.text_length: int = siglip.config.text_config.max_position_embeddings
        self.caption_lm = caption_lm
        self.caption_adapter = nn.Linear(
            siglip.config.vision_config.hidden_size, caption_lm.config.hidden_size
        )
        self.log_scale = nn.Parameter(siglip.logit_scale.detach().squeeze().clone())
        self.bias = nn.Parameter(siglip.logit_bias.detach().squeeze().clone())

    def train(self, mode: bool = True) -> "TokenizerTrainer":
        super().train(mode)
        self.text_tower.eval()
        self.caption_lm.eval()
        return self

    def losses(
        self, batch: PictureBatch, words: Any, weights: LossWeights, times: Timesteps
    ) -> Mapping[str, Tensor]:
        """Every loss that has a weight, and their weighted sum under 'loss'.

        Raises ValueError for a weight of `local` with a batch that has no twins.
        """
        tok, device = self.tokenizer, batch.images.device
        grid = tok.grid(batch.images)
        z = tok.features(batch.images)
        latent = tok.projector(z, grid)
        z_q = tok.deprojector(tok.fsq(latent), grid)
        found: dict[str, Tensor] = {}
        if weights.local:
            if batch.twins is None or batch.shared is None:
                raise ValueError("the loss 'local' needs a batch with twins")
            twin = tok.projector(tok.features(batch.twins), grid)
            found["local"] = sign_agreement(latent, twin, batch.shared)
        if weights.pix:
            t_B = flow.sample_timesteps(len(batch.captions), times.power, times.highest)
            t_B = t_B.to(device)
            x_t = flow.interpolate(torch.randn_like(batch.images), batch.images, t_B)
            found["pix"] = x1_flow(
                tok.pixel(x_t, t_B, z_q), batch.images, t_B, times.velocity_weighting
            )
        if weights.feat:
            found["feat"] = cosine_distance(z_q, z)
        if weights.cap:
            ids_BT, mask_BT = encode_captions(words, batch.details, device=device)
            logits = caption_logits(self.caption_lm, self.caption_adapter(z_q), ids_BT)
            found["cap"] = caption_cross_entropy(logits, ids_BT, mask_BT)
        if weights.sig:
            ids_BT, _ = encode_captions(words, batch.captions, self.text_length, device)
            text = self.text_tower(ids_BT).pooler_output
            same, counted = same_captions(batch).to(device), counted_pairs(batch).to(device)
            found["sig"] = sigmoid_contrastive(
                tok.pool(z_q), text, same, self.log_scale, self.bias, counted
            )
        total = sum(
            (getattr(weights, name) * value for name, value in found.items()), torch.zeros(())
        )
        return {"loss": total, **found}


def build(run: TokenizerRun) -> tuple[TokenizerTrainer, Any, Any]:
    """The trainer, the SigLIP pair and the text tokenizer."""
    siglip = load_siglip(run.standins / "siglip")
    words = load_text_tokenizer(run.standins / "siglip")
    torch.manual_seed(run.loop.seed)
    if run.init_from is None:
        tokenizer = VisualTokenizer(run.model, siglip.vision_model)
    else:
        tokenizer = VisualTokenizer.load(run.init_from, siglip.vision_model)
    tokenizer.projector.requires_grad_(not (run.keep_codes or run.keep_features))
    tokenizer.deprojector.requires_grad_(not run.keep_features)
    return (
        TokenizerTrainer(tokenizer, siglip, load_caption_lm(run.standins / "caption_lm")),
        siglip,
        words,
    )


def main(run: TokenizerRun) -> None:
    """Trains the tokenizer and writes it to `out`."""
    trainer, siglip, words = build(run)
    trainer.to(training_device())
    siglip.to(training_device())
    patch = trainer.tokenizer.patch

    def make_batch(step: int) -> PictureBatch:
        return world_batch(
            run.loop.seed, step, run.batch, run.grids, patch, scale=run.scale,
            singles=run.singles, twins=run.weights.local > 0,
        )  # fmt: skip

    def step_fn(batch: PictureBatch) -> Mapping[str, Tensor]:
        return trainer.losses(batch, words, run.weights, run.timesteps)

    def evaluate() -> Mapping[str, float]:
        return quick_scores(
            trainer.tokenizer, siglip, words, run.grids, run.scale, run.eval_pictures
        )

    fit(
        trainer, make_batch, step_fn, run_dir=run.out, name="tokenizer", config=run,
        loop=run.loop, optim=run.optim, evaluate=evaluate, eval_every=run.eval_every,
    )  # fmt: skip
    trainer.tokenizer.save(run.out)
