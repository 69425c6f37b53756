"""Stage 0: stand-ins for the pretrained parts, trained on the world.

The paper starts from SigLIP2, Qwen2.5-0.5B and the FLUX VAE. Where those do not fit, these small
models of the very same classes take their places, saved in the Hugging Face layout, so that one
loader serves both. The vision tower learns a dense objective (regress its own patch) beside the
contrastive one, as SigLIP2 did, or position and edges would be lost.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipConfig, SiglipModel

from arm.data.pictures import (
    GridWeight,
    PictureBatch,
    counted_pairs,
    same_captions,
    world_batch,
)
from arm.data.regions import ATTRIBUTES, Regions, regions
from arm.evals.reconstruction import held_out_batches, zero_shot
from arm.files import usual_modes
from arm.losses import caption_cross_entropy, sigmoid_contrastive
from arm.models.blocks import grid_sines
from arm.models.dit import patchify
from arm.models.text import caption_logits, encode_captions, text_embeddings
from arm.train.optim import Optim
from arm.train.runtime import Loop, fit, to_device, training_device
from arm.train.sharding import blocks
from arm.world.words import build_tokenizer


@dataclass(frozen=True)
class Towers:
    """Sizes of the SigLIP-type pair; `image_size` is the grid that the position table is made for."""

    width: int
    num_layers: int
    num_heads: int
    mlp: int
    patch: int
    image_size: int
    text_layers: int
    text_length: int = 32


@dataclass(frozen=True)
class CaptionLM:
    width: int
    num_layers: int
    num_heads: int
    mlp: int


@dataclass(frozen=True)
class VAE:
    channels: tuple[int, ...]
    latent_channels: int
    layers: int = 1
    kl_weight: float = 1e-5


@dataclass(frozen=True)
class StandinsRun:
    """The stand-ins, trained into `out`/siglip, `out`/caption_lm and `out`/vae."""

    out: Path
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


class TowerTrainer(nn.Module):
    """The towers and the captioning LM, with the two maps that only this training needs."""

    def __init__(self, siglip: Any, lm: Any, patch: int) -> None:
        super().__init__()
        width = siglip.config.vision_config.hidden_size
        self.siglip, self.lm = siglip, lm
        self.dense = nn.Linear(width, 3 * patch * patch)
        self.adapter = nn.Linear(width, lm.config.hidden_size)
        self.regions = RegionHead(width)


class RegionHead(nn.Module):
    """Reads off each patch's features which thing it belongs to, and where that thing's centre is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(names) + 1 for names in ATTRIBUTES.values()]
        self.leave = nn.Linear(width, sum(self.sizes) + 2)

    def loss(self, z_BND: Tensor, wanted: Regions) -> Tensor:
        """Mean cross-entropy of the attributes ("none" is a class) plus the offsets' absolute error."""
        *logits, offsets = self.leave(z_BND).split([*self.sizes, 2], -1)
        labels = wanted.labels + 1
        names = sum(
            F.cross_entropy(x.flatten(0, 1), labels[..., i].flatten()) for i, x in enumerate(logits)
        )
        covered = wanted.labels[..., :1] >= 0
        away = ((offsets - wanted.offsets).abs() * covered).sum() / covered.sum().clamp(min=1)
        return names + away


def new_siglip(towers: Towers, vocab_size: int) -> SiglipModel:
    shared: dict[str, Any] = {
        "hidden_size": towers.width,
        "num_attention_heads": towers.num_heads,
        "intermediate_size": towers.mlp,
    }
    vision = {**shared, "num_hidden_layers": towers.num_layers, "patch_size": towers.patch}
    text = {**shared, "num_hidden_layers": towers.text_layers, "vocab_size": vocab_size}
    text |= {"max_position_embeddings": towers.text_length, "projection_size": towers.width}
    text |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = SiglipConfig(
        vision_config={**vision, "image_size": towers.image_size}, text_config=text
    )
    return SiglipModel(config)


def new_caption_lm(size: CaptionLM, tokenizer: Any) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_heads,
        intermediate_size=size.mlp,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def _batch(run: StandinsRun, loop: Loop, step: int, batch: int) -> PictureBatch:
    return world_batch(
        loop.seed, step, batch, run.grids, run.towers.patch, scale=run.scale, singles=run.singles
    )


def save_whole(directory: Path, *parts: Any) -> None:
    """Saves parts in the Hugging Face layout under another name and renames the folder when done."""
    temporary = directory.with_name(f".writing_{directory.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    for part in parts:
        part.save_pretrained(temporary)
    usual_modes(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)


def tower_scores(siglip: Any, tokenizer: Any, run: StandinsRun) -> dict[str, float]:
    """Zero-shot accuracy of the towers themselves on held-out pictures of one thing."""
    batches = held_out_batches(256, run.grids[:1], run.towers.patch, run.scale, 9, singles=1.0)

    def pooled(images: Tensor) -> Tensor:
        return siglip.vision_model(images, interpolate_pos_encoding=True).pooler_output

    return {"zero_shot": float(zero_shot(pooled, siglip, tokenizer, batches).mean())}


def contrastive(siglip: Any, pooled_BD: Tensor, tokenizer: Any, batch: PictureBatch) -> Tensor:
    """The pair's sigmoid loss of pooled pictures against their short captions."""
    device = pooled_BD.device
    return sigmoid_contrastive(
        pooled_BD,
        text_embeddings(siglip, tokenizer, batch.captions),
        same_captions(batch).to(device),
        siglip.logit_scale.squeeze(),
        siglip.logit_bias.squeeze(),
        counted_pairs(batch).to(device),
    )


def train_towers(run: StandinsRun) -> None:
    """Towers and captioning LM together, by SigLIP2's three kinds of objective: sigmoid, captioning, dense."""
    tokenizer = build_tokenizer()
    torch.manual_seed(run.towers_loop.seed)
    siglip, lm = new_siglip(run.towers, len(tokenizer)), new_caption_lm(run.caption_lm, tokenizer)
    trainer = TowerTrainer(siglip, lm, run.towers.patch)
    table = siglip.vision_model.embeddings.position_embedding.weight
    side = run.towers.image_size // run.towers.patch
    # From random positions a small tower first has to find out which patches are neighbours.
    table.data.copy_(0.5 * grid_sines(side, side, run.towers.width))
    nn.init.constant_(siglip.logit_scale, 2.3)
    nn.init.constant_(siglip.logit_bias, -10.0)

    trainer.to(training_device())

    def step_fn(batch: PictureBatch) -> dict[str, Tensor]:
        vision = siglip.vision_model(batch.images, interpolate_pos_encoding=True)
        z_BND = vision.last_hidden_state
        sig = contrastive(siglip, vision.pooler_output, tokenizer, batch)
        dense = F.mse_loss(trainer.dense(z_BND), patchify(batch.images, run.towers.patch))
        ids_BT, mask_BT = encode_captions(tokenizer, batch.details, device=z_BND.device)
        cap = caption_cross_entropy(
            caption_logits(lm, trainer.adapter(z_BND), ids_BT), ids_BT, mask_BT
        )
        labels = to_device(regions(batch, run.towers.patch / run.scale), z_BND.device)
        region = trainer.regions.loss(z_BND, labels)
        loss = sig + run.caption_weight * cap + run.dense_weight * dense
        loss = loss + run.region_weight * region
        return {"loss": loss, "sig": sig, "cap": cap, "dense": dense, "region": region}

    fit(
        trainer, lambda step: _batch(run, run.towers_loop, step, run.batch), step_fn,
        run_dir=run.out / "towers_run", name="towers", config=run,
        loop=run.towers_loop, optim=run.optim, eval_every=run.eval_every,
        evaluate=lambda: tower_scores(siglip, tokenizer, run), parts=blocks(trainer),
    )  # fmt: skip
    save_whole(run.out / "caption_lm", lm, tokenizer)
    save_whole(run.out / "siglip", siglip, tokenizer)


def train_vae(run: StandinsRun) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(run.vae_loop.seed)
    size = run.vae
    levels = len(size.channels)
    kind: Any = AutoencoderKL  # its own annotations say tuples of one
    vae = kind(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=size.channels,
        layers_per_block=size.layers,
        latent_channels=size.latent_channels,
        norm_num_groups=8,
        sample_size=run.towers.image_size,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )

    vae.to(training_device())

    def step_fn(images: Tensor) -> dict[str, Tensor]:
        posterior = vae.encode(images).latent_dist
        reconstructed = vae.decode(posterior.sample()).sample
        mse = F.mse_loss(reconstructed, images)
        l1 = F.l1_loss(reconstructed, images)
        kl = posterior.kl().mean() / images[0].numel()
        return {"loss": mse + 0.2 * l1 + size.kl_weight * kl, "mse": mse, "kl": kl}

    fit(
        vae, lambda step: _batch(run, run.vae_loop, step, run.vae_batch).images, step_fn,
        run_dir=run.out / "vae_run", name="vae", config=run,
        loop=run.vae_loop, optim=run.vae_optim, parts=(vae.encoder, vae.decoder),
    )  # fmt: skip
    # The latent DiT wants latents of unit scale; diffusers keep the factor in the config.
    with torch.no_grad():
        images = _batch(run, run.vae_loop, 0, 64).images.to(training_device())
        latents = vae.encode(images).latent_dist.mean
    vae.register_to_config(
        scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean())
    )
    save_whole(run.out / "vae", vae)


def main(run: StandinsRun) -> None:
    """Trains what is not there yet: the towers with the captioning LM, then the VAE."""
    for name, stage in (("siglip", train_towers), ("vae", train_vae)):
        if not (run.out / name / "config.json").is_file():
            stage(run)
