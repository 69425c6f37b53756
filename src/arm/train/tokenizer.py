"""Stage 1: the visual tokenizer with its four losses (ARM section 1).

loss = cap * L_cap + pix * L_pix + sig * L_sig + feat * L_feat; a weight of 0 switches a loss off,
and what only that loss needs is then not computed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from arm.config import MAY_CHANGE
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
    has_known_word,
    same_texts,
    tower_embeddings,
    tower_ids,
)
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.train import parallel
from arm.train.optim import Optim, block_matrices
from arm.train.picture_data import draw_apart, open_pictures, tell_unread
from arm.train.provenance import check_sizes, tokenizer_hash
from arm.train.sharding import blocks, checkpoint_activations
from arm.train.training import Loop, Training, training_device

CAPTION_TOKENS = 256
"""What L_cap reads of a caption, its end included."""
CAPTION_CHUNK = 2048
"""Positions of L_cap whose logits exist at a time: 1.2 GB in fp32 where there are 151,936 ids."""


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

    def __post_init__(self) -> None:
        weights = (self.cap, self.pix, self.sig, self.feat, self.local)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError("the weights of losses are numbers from 0 up, and one is above 0")


@dataclass(frozen=True)
class Timesteps:
    """How L_pix draws t and weighs its error. (1, 1, True) is the paper's plain velocity loss up to t = .95;
    above it `x1_flow` keeps the weight at 400, which the paper does not say.
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

    data: users' captioned pictures (`arm.data.sources` says what a path may be), each cut to the
    nearest of `grids`; without any they are those of `domain`, which alone reads `scale` and `singles`.
    batch: pictures a process and step; the contrastive loss compares them with all processes' captions.
    eval_steps: sampling steps of the pixel DiT when it is watched. allow_outside: `data` may name pictures outside
    of its own folder.

    With `keep_codes` the projector is frozen too, so that every
    picture keeps its codes and only what is painted from them gets better; with `keep_features` the
    de-projector as well, so that z_q stays for the other decoders and the pixel DiT trains alone.
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
    domain: PictureDomain | None = None

    def __post_init__(self) -> None:
        if not self.data and self.domain is None:
            raise ValueError("a run needs pictures: data or a domain")
        if self.batch < 1 or not any(grid.weight for grid in self.grids):
            raise ValueError("batch must be at least 1, and one of grids have a weight")
        if min(self.scale, self.eval_steps, self.eval_pictures) < 1 or self.eval_every < 0:
            raise ValueError(
                "scale, eval_steps and eval_pictures must be at least 1, and eval_every not negative"
            )
        if not 0 <= self.singles <= 1:
            raise ValueError(f"singles is a share, from 0 to 1, not {self.singles}")
        if self.data and self.weights.local:
            raise ValueError(
                "the loss 'local' needs a domain's twins of pictures; set weights.local=0 beside data"
            )
        if self.loop.parallel.shard:
            raise ValueError("the tokenizer is not sharded: each process holds all of it")


@dataclass(frozen=True)
class TextTokenizers:
    """The text tokenizers: the tower reads a Gemma vocabulary, the captioning model a Qwen2 one.

    `captions` is None where no loss needs a captioning model.
    """

    tower: Any
    captions: Any | None


class TokenizerTrainer(nn.Module):
    """The tokenizer and the parts that only its losses need; without L_cap no captioning model."""

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
            ids_BT, mask_BT = encode_captions(
                text_tokenizers.captions, batch.details, device=device, most=CAPTION_TOKENS
            )
            found["cap"] = caption_loss(self.caption_lm, self.caption_adapter(z_q), ids_BT, mask_BT)
        if weights.sig:
            ids_BT = tower_ids(self.siglip, text_tokenizers.tower, batch.captions)
            text_BD = tower_embeddings(self.siglip, ids_BT)
            others = of_all_processes(batch, text_tokenizers.tower, ids_BT, text_BD, self.domain)
            found["sig"] = sigmoid_contrastive(
                tok.pool(z_q), others.text, others.same, self.log_scale, self.bias, others.counted
            )
        total = sum(
            (getattr(weights, name) * value for name, value in found.items()), torch.zeros(())
        )
        return {"loss": total, **found}


def caption_loss(
    lm: Any,
    prefix_BND: Tensor,
    ids_BT: Int[Tensor, "b t"],
    mask_BT: Bool[Tensor, "b t"],
    chunk: int = CAPTION_CHUNK,
) -> Float[Tensor, ""]:
    """L_cap, `caption_cross_entropy` of `caption_logits`; logits exist of the masked positions alone,
    `chunk` at a time.
    """
    hidden_ND = caption_hidden(lm, prefix_BND, ids_BT)[mask_BT]
    weights_N = torch.full(hidden_ND.shape[:1], 1 / max(1, len(hidden_ND)), device=hidden_ND.device)
    return head_cross_entropy(lm.lm_head, hidden_ND, ids_BT[mask_BT], weights_N, chunk)


@dataclass(frozen=True)
class Captions:
    """All processes' captions against this one's pictures: b pictures here, n captions in all.

    counted: the pairs that the contrastive loss may use; None for all.
    """

    text: Float[Tensor, "n d"]
    same: Bool[Tensor, "b n"]
    counted: Bool[Tensor, "b n"] | None


def of_all_processes(
    batch: PictureBatch,
    tower: Any,
    ids_BT: Tensor,
    text_BD: Tensor,
    domain: PictureDomain | None = None,
) -> Captions:
    """Negatives from the whole batch of all processes: the captions that `tower`, its tokenizer, reads
    otherwise and that the domain finds comparable. A caption without a word that the tower knows is left out.

    The text tower is frozen, so embeddings are sent without gradients, and the average of the processes'
    losses is the loss of the whole.
    """
    device, size = text_BD.device, parallel.world_size()
    ids, text, truths = ids_BT, text_BD, batch.truths
    if size > 1:
        found: list[Any] = [None] * size
        torch.distributed.all_gather_object(found, (ids_BT.cpu(), text_BD.cpu(), batch.truths))
        ids = torch.cat([each for each, _, _ in found]).to(device)
        text = torch.cat([each for _, each, _ in found]).to(device)
        truths = [truth for _, _, each in found for truth in each]
    counted_N = has_known_word(tower, ids)
    counted = None if counted_N.all() else counted_N.expand(len(ids_BT), -1)
    if truths and domain is not None:
        pairs = domain.comparable(batch.truths, truths).to(device)
        counted = pairs if counted is None else pairs & counted
    return Captions(text, same_texts(ids_BT, ids), counted)


def sizes_of(config: TokenizerConfig) -> dict[str, Any]:
    """What a run decides of its networks, by name."""
    sizes = asdict(config)
    pixel = sizes.pop("pixel")
    return {**sizes, **{f"pixel.{name}": value for name, value in pixel.items()}}


def build(run: TokenizerRun) -> tuple[TokenizerTrainer, Any, TextTokenizers]:
    """The trainer, the SigLIP pair and the text tokenizers. Raises WeightsError where `init_from` is of
    another size than the run says.
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
        there, ours = sizes_of(tokenizer.config), sizes_of(run.model)
        check_sizes(run.init_from, there, ours, "model.{}".format, "another tokenizer")
    tokenizer.projector.requires_grad_(not (run.keep_codes or run.keep_features))
    tokenizer.deprojector.requires_grad_(not run.keep_features)
    trainer = TokenizerTrainer(tokenizer, siglip, caption_lm, run.domain)
    return trainer, siglip, text_tokenizers


def canvas_of(run: TokenizerRun, patch: int) -> Canvas:
    """The sizes of the run's pictures; `patch`: the tokenizer's, in pixels."""
    return Canvas(run.grids, patch, run.scale)


def main(run: TokenizerRun) -> None:
    """Trains the tokenizer and writes it to `out`. Under torchrun each process makes its own batches."""
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
        tell_unread(own.batch(run.loop.seed, 0, run.batch).captions, text_tokenizers.tower, siglip)

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
        painter = PixelDetokenizer(tokenizer, run.eval_steps)
        found = fidelity(tokenizer, painter, own.held_out())
        right = retrieval(tokenizer, siglip, text_tokenizers.tower, own.held_out())
        return found if right is None else {**found, "retrieval": right}

    # Parts that stay as they are stand in no checkpoint.
    origin = None
    if run.init_from is not None and (run.keep_codes or run.keep_features):
        origin = {"tokenizer": tokenizer_hash(run.init_from, run.pretrained.siglip)}
    with Training(
        run, trainer, out=run.out, loop=run.loop, optim=run.optim, name="tokenizer", origin=origin,
        muon=block_matrices(trainer), compiled=blocks(trainer),
    ) as training:  # fmt: skip
        training.evaluate_if_due(evaluate, run.eval_every)
        for _, batch in training.batches(make_batch):
            draw_apart()
            losses = trainer.losses(batch, text_tokenizers, run.weights, run.timesteps)
            training.update(losses)
            training.save_if_due()
            training.evaluate_if_due(evaluate, run.eval_every)
    if parallel.is_main():
        tokenizer.save(run.out)
    parallel.barrier()
