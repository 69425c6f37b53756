"""Stage 1: the visual tokenizer with its four losses (ARM section 1).

loss = cap * L_cap + pix * L_pix + sig * L_sig + feat * L_feat. With a weight of 0 a loss is off, and what only it
needs is not computed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from arm.config import MAY_CHANGE, UNCHANGED_IF_UNRECORDED
from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight
from arm.domain import Canvas, PictureDomain
from arm.evals.reconstruction import fidelity, quick_scores, retrieval
from arm.losses import (
    cosine_distance,
    head_cross_entropy,
    sigmoid_contrastive,
    sign_agreement,
    x1_flow,
)
from arm.models import flow
from arm.models.detokenizer import PixelDetokenizer
from arm.models.pretrained import (
    Pretrained,
    load_caption_lm,
    load_siglip,
    load_text_tokenizer,
)
from arm.models.text import (
    caption_hidden,
    encode_captions,
    tower_embeddings,
    tower_ids,
)
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.train import parallel
from arm.train.optim import Optim, block_matrices
from arm.train.picture_data import (
    gather_captions,
    open_pictures,
    report_unknown_captions,
    seed_by_rank,
)
from arm.train.provenance import check_sizes, tokenizer_hash
from arm.train.sharding import blocks, checkpoint_activations
from arm.train.training import Loop, Training, training_device

CAPTION_TOKENS = 256
"""Most tokens of a caption that L_cap reads, the end token included."""
CAPTION_CHUNK = 2048
"""Positions of L_cap whose logits exist at a time: 1.2 GB in fp32 for a vocabulary of 151,936."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses, by default the paper's. `local` is ours, and off by default: patches that an edit
    does not touch keep their codes, so that a code describes its own place and a small model can copy it.
    """

    cap: float = 1.0
    pix: float = 5.0
    sig: float = 5.0
    feat: float = 1.0
    local: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.cap, self.pix, self.sig, self.feat, self.local)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError("the weights of losses must be numbers from 0 up, one of them above 0")


@dataclass(frozen=True)
class Timesteps:
    """How L_pix samples t = u**power * highest, u ~ U[0, 1], and whether it weights its error as a velocity.
    (1, 1, True) is the paper's velocity loss up to t = .95; above, `x1_flow` limits the weight to 400 (ours).
    """

    power: float = 1.0
    highest: float = 1.0
    velocity_weighting: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf or not 0 < self.highest <= 1:
            raise ValueError("power must be above 0, and highest above 0 and at most 1")


@dataclass(frozen=True)
class TokenizerRun:
    """One training of the tokenizer.

    data: users' captioned pictures (paths as in `arm.data.sources`), each cropped to the nearest of `grids`; where
    it is empty, pictures are those of `domain`, to which alone `scale` and `singles` apply. allow_outside: `data`
    may name pictures outside of its own folder. batch: pictures per process and step; the contrastive loss
    compares them with the captions of all processes. eval_steps: sampling steps of the pixel DiT in evaluations.

    init_from: a trained tokenizer to start from. keep_codes: the projector is frozen, so that pictures keep their
    codes; keep_features: projector and de-projector are frozen, so that z_q stays the same for other decoders and
    the pixel DiT alone trains.
    """

    out: Path = field(metadata=MAY_CHANGE)
    pretrained: Pretrained
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
    data: tuple[str, ...] = ()
    eval_steps: int = 1
    allow_outside: bool = False
    domain: PictureDomain | None = field(default=None, metadata=UNCHANGED_IF_UNRECORDED)

    def __post_init__(self) -> None:
        if not self.data and self.domain is None:
            raise ValueError("a run needs pictures: data or a domain")
        if self.batch < 1 or not any(grid.weight for grid in self.grids):
            raise ValueError("batch must be at least 1, and one of grids must have a weight")
        if min(self.scale, self.eval_steps, self.eval_pictures) < 1 or self.eval_every < 0:
            raise ValueError(
                "scale, eval_steps and eval_pictures must be at least 1, and eval_every not negative"
            )
        if not 0 <= self.singles <= 1:
            raise ValueError(f"singles must be a share from 0 to 1, not {self.singles}")
        if self.data and self.weights.local:
            raise ValueError(
                "the loss 'local' needs a domain's twins of pictures; set weights.local=0 beside data"
            )
        if self.loop.parallel.shard:
            raise ValueError("the tokenizer cannot be sharded; set loop.parallel.shard=false")


@dataclass(frozen=True)
class TextTokenizers:
    """The text tokenizers of the SigLIP text tower and of the captioning LM; the latter is None where no loss
    needs it.
    """

    tower: Any
    captions: Any | None


class TokenizerTrainer(nn.Module):
    """The tokenizer with the parts that only its losses need. caption_lm: None without L_cap."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        siglip: Any,
        caption_lm: Any | None,
        domain: PictureDomain | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.domain = domain
        self.siglip = siglip
        self.caption_lm = caption_lm
        if caption_lm is not None:
            width = tokenizer.encoder.width
            self.caption_adapter = nn.Linear(width, caption_lm.config.hidden_size)
        self.log_scale = nn.Parameter(siglip.logit_scale.detach().float().squeeze().clone())
        self.bias = nn.Parameter(siglip.logit_bias.detach().float().squeeze().clone())

    def train(self, mode: bool = True) -> "TokenizerTrainer":
        super().train(mode)
        self.siglip.eval()
        if self.caption_lm is not None:
            self.caption_lm.eval()
        return self

    def losses(
        self,
        batch: PictureBatch,
        text_tokenizers: TextTokenizers,
        weights: LossWeights,
        times: Timesteps,
    ) -> Mapping[str, Tensor]:
        """The losses whose weight is not 0, and their weighted sum under 'loss'.

        Raises ValueError for the loss 'local' with a batch without twins.
        """
        tok, device = self.tokenizer, batch.images.device
        grid = tok.grid(batch.images)
        z = tok.features(batch.images)
        latent = tok.projector(z, grid)
        z_q = tok.deprojector(tok.fsq(latent), grid)
        losses: dict[str, Tensor] = {}
        if weights.local:
            if batch.twins is None or batch.shared is None:
                raise ValueError("the loss 'local' needs a batch with twins")
            twin = tok.projector(tok.features(batch.twins), grid)
            losses["local"] = sign_agreement(latent, twin, batch.shared)
        if weights.pix:
            t_B = flow.sample_timesteps(len(batch.captions), times.power, times.highest)
            t_B = t_B.to(device)
            x_t = flow.interpolate(torch.randn_like(batch.images), batch.images, t_B)
            losses["pix"] = x1_flow(
                tok.pixel(x_t, t_B, z_q), batch.images, t_B, times.velocity_weighting
            )
        if weights.feat:
            losses["feat"] = cosine_distance(z_q, z)
        if weights.cap:
            ids_BT, mask_BT = encode_captions(
                text_tokenizers.captions, batch.details, device=device, most=CAPTION_TOKENS
            )
            losses["cap"] = caption_loss(
                self.caption_lm, self.caption_adapter(z_q), ids_BT, mask_BT
            )
        if weights.sig:
            ids_BT = tower_ids(self.siglip, text_tokenizers.tower, batch.captions)
            text_BD = tower_embeddings(self.siglip, ids_BT)
            others = gather_captions(batch, text_tokenizers.tower, ids_BT, text_BD, self.domain)
            losses["sig"] = sigmoid_contrastive(
                tok.pool(z_q), others.text, others.same, self.log_scale, self.bias, others.counted
            )
        total = sum(
            (getattr(weights, name) * value for name, value in losses.items()), torch.zeros(())
        )
        return {"loss": total, **losses}


def caption_loss(
    lm: Any,
    prefix_BND: Tensor,
    ids_BT: Int[Tensor, "b t"],
    mask_BT: Bool[Tensor, "b t"],
    chunk: int = CAPTION_CHUNK,
) -> Float[Tensor, ""]:
    """L_cap: `caption_cross_entropy` of `caption_logits`, with logits at the masked positions only, `chunk` at a
    time.
    """
    hidden_ND = caption_hidden(lm, prefix_BND, ids_BT)[mask_BT]
    weights_N = torch.full(hidden_ND.shape[:1], 1 / max(1, len(hidden_ND)), device=hidden_ND.device)
    return head_cross_entropy(lm.lm_head, hidden_ND, ids_BT[mask_BT], weights_N, chunk)


def sizes_of(config: TokenizerConfig) -> dict[str, Any]:
    """The sizes of a tokenizer's networks that a run states, by name."""
    sizes = asdict(config)
    pixel = sizes.pop("pixel")
    return {**sizes, **{f"pixel.{name}": value for name, value in pixel.items()}}


def build(run: TokenizerRun) -> tuple[TokenizerTrainer, Any, TextTokenizers]:
    """The trainer, the SigLIP model and the text tokenizers. Raises WeightsError where `init_from` has other
    sizes than the run states.
    """
    on_gpu = training_device().type == "cuda"
    sources = run.pretrained
    siglip = load_siglip(sources.siglip, on_gpu)
    caption_lm = load_caption_lm(sources.caption_lm, on_gpu) if run.weights.cap else None
    text_tokenizers = TextTokenizers(
        load_text_tokenizer(sources.siglip),
        load_text_tokenizer(sources.caption_lm) if run.weights.cap else None,
    )
    torch.manual_seed(run.loop.seed)
    if run.init_from is None:
        tokenizer = VisualTokenizer(run.model, siglip.vision_model)
    else:
        tokenizer = VisualTokenizer.load(run.init_from, siglip.vision_model)
        loaded, stated = sizes_of(tokenizer.config), sizes_of(run.model)
        check_sizes(run.init_from, loaded, stated, "model.{}".format, "another tokenizer")
    tokenizer.projector.requires_grad_(not (run.keep_codes or run.keep_features))
    tokenizer.deprojector.requires_grad_(not run.keep_features)
    trainer = TokenizerTrainer(tokenizer, siglip, caption_lm, run.domain)
    return trainer, siglip, text_tokenizers


def canvas_of(run: TokenizerRun, patch: int) -> Canvas:
    """The sizes of the run's pictures; `patch`: the tokenizer's, in pixels."""
    return Canvas(run.grids, patch, run.scale)


def main(run: TokenizerRun) -> None:
    """Trains the tokenizer and writes it to `out`. Each process makes its own batches."""
    parallel.init_processes()
    trainer, siglip, text_tokenizers = build(run)
    tokenizer = trainer.tokenizer
    for part in (tokenizer.projector, tokenizer.deprojector, tokenizer.pixel, trainer.caption_lm):
        if part is not None:
            checkpoint_activations(part, run.loop.parallel.recompute)
    trainer.to(training_device())
    patch, canvas = tokenizer.patch, canvas_of(run, tokenizer.patch)
    held = run.eval_pictures if run.eval_every else 0
    own = (
        open_pictures(run.data, run.grids, patch, run.out, held, run.allow_outside)
        if run.data
        else None
    )

    if own is not None and run.weights.sig and parallel.is_main():
        report_unknown_captions(
            own.batch(run.loop.seed, 0, run.batch).captions, text_tokenizers.tower, siglip
        )

    def make_batch(step: int) -> PictureBatch:
        number = step * parallel.world_size() + parallel.rank()
        if own is not None:
            return own.batch(run.loop.seed, number, run.batch)
        assert run.domain is not None  # `TokenizerRun` demands one without data
        return run.domain.pictures(
            "train", run.loop.seed, number, run.batch, canvas,
            singles=run.singles, twins=run.weights.local > 0,
        )  # fmt: skip

    def evaluate() -> Mapping[str, float]:
        if own is None:
            assert run.domain is not None
            tower = text_tokenizers.tower
            return quick_scores(tokenizer, siglip, tower, run.domain, canvas, run.eval_pictures)
        decoder = PixelDetokenizer(tokenizer, run.eval_steps)
        scores = fidelity(tokenizer, decoder, own.held_out())
        accuracy = retrieval(tokenizer, siglip, text_tokenizers.tower, own.held_out())
        return scores if accuracy is None else {**scores, "retrieval": accuracy}

    # Checkpoints hold no frozen parameters, so a resumed run must find the same ones.
    origin = None
    if run.init_from is not None and (run.keep_codes or run.keep_features):
        origin = {"tokenizer": tokenizer_hash(run.init_from, run.pretrained.siglip)}
    with Training(
        run, trainer, out=run.out, loop=run.loop, optim=run.optim, name="tokenizer", origin=origin,
        muon=block_matrices(trainer), compiled=blocks(trainer),
    ) as training:  # fmt: skip
        training.evaluate_if_due(evaluate, run.eval_every)
        for _, batch in training.batches(make_batch):
            seed_by_rank()
            losses = trainer.losses(batch, text_tokenizers, run.weights, run.timesteps)
            training.update(losses)
            training.save_if_due()
            training.evaluate_if_due(evaluate, run.eval_every)
    if parallel.is_main():
        tokenizer.save(run.out)
    parallel.barrier()
