"""Stage 0: small stand-ins for the paper's pretrained parts, trained on the pictures of a domain.

The paper starts from SigLIP2, Qwen2.5-0.5B and the FLUX VAE. Where those are too large, small models of the same
classes replace them, saved in the same layouts, so that one loader serves both. Like SigLIP2's, the vision tower
has a dense objective (to regress each patch) beside the contrastive one, without which it loses positions and
edges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipConfig, SiglipModel

from arm.config import MAY_CHANGE
from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight
from arm.domain import Canvas, PatchLabels, PictureDomain
from arm.errors import ConfigError
from arm.evals.reconstruction import picture_batches, zero_shot
from arm.files import fill_folder
from arm.losses import caption_cross_entropy, sigmoid_contrastive
from arm.models.blocks import grid_sines
from arm.models.dit import patchify
from arm.models.text import caption_logits, encode_captions, same_texts, tower_embeddings, tower_ids
from arm.train import parallel
from arm.train.optim import Optim, block_matrices
from arm.train.sharding import blocks
from arm.train.training import Loop, Training, to_device, training_device

NORM_GROUPS = 8
"""Channel groups of the VAE's group normalisation."""


@dataclass(frozen=True)
class Towers:
    """Sizes of the SigLIP-type towers. image_size: side in pixels that the position table is made for."""

    width: int
    num_layers: int
    num_heads: int
    mlp: int
    patch: int
    image_size: int
    text_layers: int
    text_length: int = 32

    def __post_init__(self) -> None:
        depths = (self.num_layers, self.num_heads, self.text_layers)
        if min(self.width, self.mlp, self.patch, self.text_length, *depths) < 1:
            raise ValueError("the sizes of towers must be at least 1")
        if self.width % self.num_heads or self.width % 4:
            heads = self.num_heads
            raise ValueError(f"width {self.width} is no multiple of 4 and of num_heads {heads}")
        if self.image_size < self.patch:
            raise ValueError(f"image_size {self.image_size} holds no patch of {self.patch} pixels")


@dataclass(frozen=True)
class CaptionLM:
    """Sizes of the captioning LM."""

    width: int
    num_layers: int
    num_heads: int
    mlp: int

    def __post_init__(self) -> None:
        if min(self.width, self.num_layers, self.num_heads, self.mlp) < 1:
            raise ValueError("the sizes of caption_lm must be at least 1")
        if self.width % (2 * self.num_heads):  # rotary embeddings rotate pairs of features
            raise ValueError(
                f"width {self.width} is no multiple of twice num_heads {self.num_heads}"
            )


@dataclass(frozen=True)
class VAE:
    """Sizes of the autoencoder. Each of `channels` after the first halves the picture's sides."""

    channels: tuple[int, ...]
    latent_channels: int
    layers: int = 1
    kl_weight: float = 1e-5

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        return 2 ** (len(self.channels) - 1)

    def __post_init__(self) -> None:
        if not self.channels or any(n < 1 or n % NORM_GROUPS for n in self.channels):
            raise ValueError(f"channels must be one or more multiples of {NORM_GROUPS}")
        if min(self.latent_channels, self.layers) < 1 or not 0 <= self.kl_weight < math.inf:
            raise ValueError(
                "latent_channels and layers must be at least 1, and kl_weight not negative"
            )


@dataclass(frozen=True)
class StandinsRun:
    """The stand-ins, written to `out`/siglip, `out`/caption_lm and `out`/vae."""

    out: Path = field(metadata=MAY_CHANGE)
    domain: PictureDomain
    towers: Towers
    caption_lm: CaptionLM
    vae: VAE
    grids: tuple[GridWeight, ...]
    scale: int
    batch: int
    vae_batch: int
    towers_loop: Loop
    vae_loop: Loop
    optim: Optim
    vae_optim: Optim
    eval_every: int
    caption_weight: float = 2.0
    dense_weight: float = 10.0
    region_weight: float = 1.0
    singles: float = 0.5

    def __post_init__(self) -> None:
        if min(self.batch, self.vae_batch, self.scale) < 1:
            raise ValueError("batch, vae_batch and scale must be at least 1")
        if not any(grid.weight for grid in self.grids):
            raise ValueError("one of grids must have a weight")
        unit = math.lcm(self.scale, self.vae.factor)
        sides = {side for grid in self.grids for side in (grid.height, grid.width)}
        if any(side * self.towers.patch % unit for side in sides):
            raise ValueError(
                f"the sides of pictures, grids times {self.towers.patch} pixels, must be multiples of "
                f"{unit}, since scale is {self.scale} and the VAE's factor {self.vae.factor}"
            )
        if self.eval_every < 0:
            raise ValueError("eval_every must not be negative")
        weights = (self.caption_weight, self.dense_weight, self.region_weight)
        if not all(0 <= weight < math.inf for weight in weights):
            raise ValueError("the weights of losses must be numbers from 0 up")
        if not 0 <= self.singles <= 1:
            raise ValueError("singles must be from 0 to 1")

    @property
    def canvas(self) -> Canvas:
        """The sizes of the pictures."""
        return Canvas(self.grids, self.towers.patch, self.scale)


class TowerTrainer(nn.Module):
    """The towers and the captioning LM, with the heads that only this training needs."""

    def __init__(self, siglip: Any, lm: Any, patch: int, label_sizes: Sequence[int]) -> None:
        super().__init__()
        width = siglip.config.vision_config.hidden_size
        self.siglip, self.lm = siglip, lm
        self.dense = nn.Linear(width, 3 * patch * patch)
        self.adapter = nn.Linear(width, lm.config.hidden_size)
        self.regions = RegionHead(width, label_sizes)


class RegionHead(nn.Module):
    """Predicts from a patch's features the classes of the object it shows and the offset of its centre."""

    def __init__(self, width: int, label_sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [size + 1 for size in label_sizes]
        self.leave = nn.Linear(width, sum(self.sizes) + 2)

    def loss(self, z_BND: Tensor, target: PatchLabels) -> Tensor:
        """Mean cross-entropy of the attributes ("none" is a class) plus mean absolute error of the offsets."""
        *logits, offsets = self.leave(z_BND).split([*self.sizes, 2], -1)
        labels = target.labels + 1
        names = sum(
            F.cross_entropy(x.flatten(0, 1), labels[..., i].flatten()) for i, x in enumerate(logits)
        )
        covered = target.labels[..., :1] >= 0
        away = ((offsets - target.offsets).abs() * covered).sum() / covered.sum().clamp(min=1)
        return names + away


def new_siglip(towers: Towers, vocab_size: int) -> SiglipModel:
    """Towers with random weights."""
    shared: dict[str, Any] = {"hidden_size": towers.width, "num_attention_heads": towers.num_heads}
    shared["intermediate_size"] = towers.mlp
    vision = {**shared, "num_hidden_layers": towers.num_layers, "patch_size": towers.patch}
    text = {**shared, "num_hidden_layers": towers.text_layers, "vocab_size": vocab_size}
    text |= {"max_position_embeddings": towers.text_length, "projection_size": towers.width}
    text |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    vision["image_size"] = towers.image_size
    return SiglipModel(SiglipConfig(vision_config=vision, text_config=text))


def new_caption_lm(size: CaptionLM, tokenizer: Any) -> Qwen2ForCausalLM:
    """A captioning LM with random weights."""
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=size.width, num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads, num_key_value_heads=size.num_heads,
        intermediate_size=size.mlp, tie_word_embeddings=True, max_position_embeddings=512,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def _batch(run: StandinsRun, loop: Loop, step: int, batch: int) -> PictureBatch:
    """A batch of the domain's pictures, a pure function of its arguments."""
    return run.domain.pictures("train", loop.seed, step, batch, run.canvas, singles=run.singles)


def save_whole(directory: Path, *parts: Any) -> None:
    """Saves parts in the Hugging Face layout into one folder, which exists only once it is complete."""

    def write(folder: Path) -> None:
        for part in parts:
            part.save_pretrained(folder)

    fill_folder(write, directory)


def tower_scores(siglip: Any, tokenizer: Any, run: StandinsRun) -> dict[str, float]:
    """Zero-shot accuracy of the towers on held-out pictures of one object."""
    canvas = replace(run.canvas, grids=run.grids[:1])
    batches = picture_batches(run.domain, "dev", 256, canvas, 9, singles=1.0)

    def pooled(images: Tensor) -> Tensor:
        return siglip.vision_model(images, interpolate_pos_encoding=True).pooler_output

    return {"zero_shot": float(zero_shot(pooled, siglip, tokenizer, batches, run.domain).mean())}


def contrastive(
    siglip: Any, pooled_BD: Tensor, tokenizer: Any, batch: PictureBatch, domain: PictureDomain
) -> Tensor:
    """The towers' sigmoid loss of pooled pictures against their short captions."""
    ids_BT = tower_ids(siglip, tokenizer, batch.captions)
    return sigmoid_contrastive(
        pooled_BD, tower_embeddings(siglip, ids_BT), same_texts(ids_BT, ids_BT),
        siglip.logit_scale.squeeze(), siglip.logit_bias.squeeze(),
        domain.comparable(batch.truths, batch.truths).to(pooled_BD.device),
    )  # fmt: skip


def train_towers(run: StandinsRun) -> None:
    """Trains towers and captioning LM together by SigLIP2's kinds of objective: sigmoid, captioning, dense."""
    tokenizer = run.domain.text_tokenizer()
    torch.manual_seed(run.towers_loop.seed)
    siglip, lm = new_siglip(run.towers, len(tokenizer)), new_caption_lm(run.caption_lm, tokenizer)
    trainer = TowerTrainer(siglip, lm, run.towers.patch, run.domain.label_sizes)
    table = siglip.vision_model.embeddings.position_embedding.weight
    side = run.towers.image_size // run.towers.patch
    # Sinusoidal positions spare a small tower learning which patches are neighbours.
    table.data.copy_(0.5 * grid_sines(side, side, run.towers.width))
    nn.init.constant_(siglip.logit_scale, 2.3)
    nn.init.constant_(siglip.logit_bias, -10.0)
    trainer.to(training_device())

    def losses(batch: PictureBatch) -> dict[str, Tensor]:
        vision = siglip.vision_model(batch.images, interpolate_pos_encoding=True)
        z_BND = vision.last_hidden_state
        sig = contrastive(siglip, vision.pooler_output, tokenizer, batch, run.domain)
        dense = F.mse_loss(trainer.dense(z_BND), patchify(batch.images, run.towers.patch))
        ids_BT, mask_BT = encode_captions(tokenizer, batch.details, device=z_BND.device)
        cap = caption_cross_entropy(
            caption_logits(lm, trainer.adapter(z_BND), ids_BT), ids_BT, mask_BT
        )
        loss = sig + run.caption_weight * cap + run.dense_weight * dense
        losses = {"sig": sig, "cap": cap, "dense": dense}
        if run.domain.label_sizes:
            labels = to_device(run.domain.patch_labels(batch, run.canvas), z_BND.device)
            losses["region"] = trainer.regions.loss(z_BND, labels)
            loss = loss + run.region_weight * losses["region"]
        return {"loss": loss, **losses}

    make_batch = partial(_batch, run, run.towers_loop, batch=run.batch)
    evaluate = partial(tower_scores, siglip, tokenizer, run)
    with Training(
        run, trainer, out=run.out / "towers_run", loop=run.towers_loop, optim=run.optim,
        name="towers", muon=block_matrices(trainer), compiled=blocks(trainer),
    ) as training:  # fmt: skip
        training.evaluate_if_due(evaluate, run.eval_every)
        for _, batch in training.batches(make_batch):
            training.update(losses(batch))
            training.save_if_due()
            training.evaluate_if_due(evaluate, run.eval_every)
    save_whole(run.out / "caption_lm", lm, tokenizer)
    save_whole(run.out / "siglip", siglip, tokenizer)


def train_vae(run: StandinsRun) -> None:
    """Trains the autoencoder on reconstruction and the KL to a standard normal."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(run.vae_loop.seed)
    size = run.vae
    levels = len(size.channels)
    kind: Any = AutoencoderKL  # diffusers annotates tuples of one element
    vae = kind(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=size.channels, layers_per_block=size.layers,
        latent_channels=size.latent_channels, norm_num_groups=NORM_GROUPS,
        sample_size=run.towers.image_size, mid_block_add_attention=False,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip

    vae.to(training_device())

    def losses(images: Tensor) -> dict[str, Tensor]:
        posterior = vae.encode(images).latent_dist
        reconstructed = vae.decode(posterior.sample()).sample
        mse = F.mse_loss(reconstructed, images)
        l1 = F.l1_loss(reconstructed, images)
        kl = posterior.kl().mean() / images[0].numel()
        return {"loss": mse + 0.2 * l1 + size.kl_weight * kl, "mse": mse, "kl": kl}

    def make_batch(step: int) -> Tensor:
        return _batch(run, run.vae_loop, step, run.vae_batch).images

    with Training(
        run, vae, out=run.out / "vae_run", loop=run.vae_loop, optim=run.vae_optim, name="vae",
        compiled=(vae.encoder, vae.decoder),
    ) as training:  # fmt: skip
        for _, images in training.batches(make_batch):
            training.update(losses(images))
            training.save_if_due()
    # Latent decoders expect latents of unit scale; diffusers stores the factor in the config.
    with torch.no_grad():
        images = _batch(run, run.vae_loop, 0, 64).images.to(training_device())
        latents = vae.encode(images).latent_dist.mean
    vae.register_to_config(
        scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean())
    )
    save_whole(run.out / "vae", vae)


def main(run: StandinsRun) -> None:
    """Trains the parts that do not exist yet. Raises ConfigError under several processes."""
    if parallel.world_size() > 1:
        raise ConfigError(
            f"stand-ins train in one process; torchrun started {parallel.world_size()}"
        )
    for name, stage in (("siglip", train_towers), ("vae", train_vae)):
        if not (run.out / name / "config.json").is_file():
            stage(run)
