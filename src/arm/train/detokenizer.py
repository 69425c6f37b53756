"""Stage 1b: the latent detokenizers (ARM section 2), trained with the rectified-flow loss.

The tokenizer and the VAE are frozen; the condition is z_q, left out now and then for guidance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.data.pictures import GridWeight, world_batch
from arm.models import flow
from arm.models.latent import FluxPainter, SanaPainter, save_painter, to_latents
from arm.models.pretrained import load_siglip, load_vae
from arm.models.tokenizer import VisualTokenizer
from arm.train.runtime import Loop, Optim, fit, training_device


@dataclass(frozen=True)
class Flux:
    """Sizes of a Flux-type painter; `axes` split the head's features over (0, row, column)."""

    num_layers: int
    num_single_layers: int
    num_heads: int
    axes: tuple[int, int, int]
    condition_dim: int

    def build(self, dim: int, latent_channels: int) -> nn.Module:
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=4 * latent_channels,
            num_layers=self.num_layers,
            num_single_layers=self.num_single_layers,
            attention_head_dim=sum(self.axes),
            num_attention_heads=self.num_heads,
            joint_attention_dim=self.condition_dim,
            pooled_projection_dim=self.condition_dim,
            axes_dims_rope=self.axes,
        )
        return FluxPainter(transformer, dim)


@dataclass(frozen=True)
class Sana:
    """Sizes of a Sana-type painter; `sample_size` is the latent grid of its position table."""

    num_layers: int
    num_heads: int
    head_dim: int
    condition_dim: int
    sample_size: int

    def build(self, dim: int, latent_channels: int) -> nn.Module:
        from diffusers.models.transformers.sana_transformer import SanaTransformer2DModel

        transformer = SanaTransformer2DModel(
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_attention_heads=self.num_heads,
            attention_head_dim=self.head_dim,
            num_layers=self.num_layers,
            num_cross_attention_heads=self.num_heads,
            cross_attention_head_dim=self.head_dim,
            cross_attention_dim=self.num_heads * self.head_dim,
            caption_channels=self.condition_dim,
            sample_size=self.sample_size,
            patch_size=2,
            interpolation_scale=1,
        )
        return SanaPainter(transformer, dim)


@dataclass(frozen=True)
class DetokenizerRun:
    """One painter's training. Timesteps are u**timestep_power with u ~ U[0, 1]: above 1 they lean
    towards the noise, where the condition alone must give the answer; 1 is the paper's.
    """

    out: Path
    standins: Path
    tokenizer: Path
    painter: Flux | Sana
    grids: tuple[GridWeight, ...]
    scale: int
    batch: int
    drop_condition: float
    num_steps: int
    guidance_scale: float
    timestep_power: float
    loop: Loop
    optim: Optim


def main(run: DetokenizerRun) -> None:
    """Trains one painter and writes it to `out`."""
    tokenizer = VisualTokenizer.load(
        run.tokenizer, load_siglip(run.standins / "siglip").vision_model
    )
    device = training_device()
    tokenizer.requires_grad_(False).to(device)
    vae = load_vae(run.standins / "vae").to(device)
    torch.manual_seed(run.loop.seed)
    painter: Any = run.painter.build(
        tokenizer.encoder.config.hidden_size, vae.config.latent_channels
    ).to(device)

    def make_batch(step: int) -> Tensor:
        return world_batch(
            run.loop.seed, step, run.batch, run.grids, tokenizer.patch, scale=run.scale
        ).images

    def step_fn(images: Tensor) -> Mapping[str, Tensor]:
        grid = tokenizer.grid(images)
        with torch.no_grad():
            x1 = to_latents(vae, images)
            z_q = tokenizer.deprojector(tokenizer.quantize(tokenizer.features(images), grid), grid)
        kept = (torch.rand(run.batch) >= run.drop_condition).to(z_q)[:, None, None]
        t_B = flow.sample_timesteps(run.batch, run.timestep_power, 1.0).to(z_q)
        x0 = torch.randn_like(x1)
        velocity = painter(flow.interpolate(x0, x1, t_B), t_B, z_q * kept, grid)
        return {"loss": (velocity - (x1 - x0)).square().mean()}

    fit(
        painter, make_batch, step_fn, run_dir=run.out, name=painter.name, config=run,
        loop=run.loop, optim=run.optim,
    )  # fmt: skip
    sampler = {"num_steps": run.num_steps, "guidance_scale": run.guidance_scale}
    save_painter(painter, run.out / "model", sampler)
