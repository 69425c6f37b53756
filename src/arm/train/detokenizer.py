"""Stage 1b: the latent detokenizers (ARM section 2), trained with the rectified-flow loss.

The tokenizer and the VAE are frozen. The condition is z_q, dropped from a share of the samples for guidance.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.config import MAY_CHANGE, UNCHANGED_IF_UNRECORDED
from arm.data.images import GridWeight
from arm.domain import Canvas, PictureDomain
from arm.errors import ConfigError, InputError, WeightsError
from arm.evals.reconstruction import fidelity, picture_batches
from arm.models import flow
from arm.models.latent import (
    FluxPainter,
    LatentDetokenizer,
    SanaPainter,
    latent_shape,
    painters,
    save_painter,
    to_latents,
)
from arm.models.pretrained import Pretrained, load_diffusers, load_siglip, load_vae
from arm.models.tokenizer import VisualTokenizer
from arm.train import parallel
from arm.train.optim import Optim, block_matrices
from arm.train.picture_data import open_pictures, seed_by_rank
from arm.train.provenance import tokenizer_hash
from arm.train.sharding import apply_parallelism
from arm.train.training import Loop, Training, training_device


@dataclass(frozen=True)
class Flux:
    """Sizes of a Flux-type transformer. axes: features of a head for the positions (0, row, column)."""

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
    """Sizes of a Sana-type transformer. sample_size: side of the latent grid of its position table."""

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
class PretrainedPainter:
    """A published text-to-image transformer to start from: FLUX.1-dev, or SANA-1.5.

    source: a FluxTransformer2DModel or SanaTransformer2DModel in diffusers' layout. All its weights are kept;
    the projections of z_q, which replaces the text, are new. recompute: activation checkpointing, which takes a
    third more time and saves most of the activations' memory. bf16: weights stored in bf16 are trained in bf16,
    otherwise in fp32.
    """

    source: str
    recompute: bool = True
    bf16: bool = False

    def build(self, dim: int, latent_channels: int) -> nn.Module:
        """Raises WeightsError where the transformer's latents are not the autoencoder's."""
        known = painters()
        classes = tuple(each for _, each in known.values())
        transformer = load_diffusers(self.source, classes, self.bf16)
        painter_class, _ = known[type(transformer).__name__]
        if transformer.config.guidance_embeds and painter_class is SanaPainter:
            raise WeightsError(f"{self.source} is a SANA-Sprint, which is not a rectified flow")
        packed = 4 if painter_class is FluxPainter else 1
        if transformer.config.in_channels != packed * latent_channels:
            raise WeightsError(
                f"{self.source} takes latents of {transformer.config.in_channels // packed} channels, "
                f"the autoencoder has {latent_channels}; name the autoencoder it was trained with"
            )
        if self.recompute:
            transformer.enable_gradient_checkpointing()
        return painter_class(transformer, dim)


@dataclass(frozen=True)
class DetokenizerRun:
    """One training of a latent decoder.

    painter: its transformer. data: users' pictures (paths as in `arm.data.sources`), whose captions are not
    used; where it is empty, pictures are those of `domain`, to which alone `scale` applies. allow_outside: `data` may name pictures
    outside of its own folder. batch: pictures per process and step. drop_condition: share of samples without
    condition. timestep_power: timesteps are u**timestep_power with u ~ U[0, 1]; above 1 they are nearer to the
    noise, where the picture follows from the condition alone; 1 is the paper's. num_steps, guidance_scale: the
    sampler's, stored with the decoder.
    """

    out: Path = field(metadata=MAY_CHANGE)
    pretrained: Pretrained
    tokenizer: Path
    painter: Flux | Sana | PretrainedPainter
    grids: tuple[GridWeight, ...]
    scale: int
    batch: int
    drop_condition: float
    num_steps: int
    guidance_scale: float
    timestep_power: float
    loop: Loop
    optim: Optim
    data: tuple[str, ...] = ()
    eval_every: int = 0
    eval_pictures: int = 32
    allow_outside: bool = False
    domain: PictureDomain | None = field(default=None, metadata=UNCHANGED_IF_UNRECORDED)

    def __post_init__(self) -> None:
        if not self.data and self.domain is None:
            raise ValueError("a run needs pictures: data or a domain")
        if min(self.batch, self.scale, self.num_steps) < 1:
            raise ValueError("batch, scale and num_steps must be at least 1")
        if not any(grid.weight for grid in self.grids):
            raise ValueError("one of grids must have a weight")
        if not 0 <= self.drop_condition <= 1:
            raise ValueError("drop_condition must be from 0 to 1")
        if not 0 < self.timestep_power < math.inf or not math.isfinite(self.guidance_scale):
            raise ValueError("timestep_power must be above 0, and guidance_scale must be a number")
        if self.eval_every < 0 or (self.eval_every and self.eval_pictures < 1):
            raise ValueError(
                "eval_every must not be negative, and with it eval_pictures must be above 0"
            )


def check_grids(grids: tuple[GridWeight, ...], patch: int, vae: Any, painter: Any) -> None:
    """Raises ConfigError for a grid whose pictures the autoencoder or the transformer cannot process."""
    for grid in grids:
        name = f"grids has {grid.height}x{grid.width} tokens of {patch} pixels"
        try:
            _, height, width = latent_shape(vae, grid.height * patch, grid.width * patch)
        except InputError as error:
            raise ConfigError(f"{name}: {error}") from None
        if isinstance(painter, FluxPainter) and (height % 2 or width % 2):
            raise ConfigError(f"{name}: {height}x{width} latents, but Flux needs even sides")
        side = painter.transformer.config.patch_size if isinstance(painter, SanaPainter) else 1
        if height % side or width % side:
            raise ConfigError(
                f"{name}: {height}x{width} latents, but this Sana needs sides that are multiples of {side}"
            )


def main(run: DetokenizerRun) -> None:
    """Trains one decoder and writes it to `out`/model. Each process makes its own batches; `loop.parallel` may
    shard the transformer. Raises ConfigError where a sharded one is to be evaluated.
    """
    if run.eval_every and run.loop.parallel.shard:
        raise ConfigError("a sharded decoder cannot be evaluated during training; set eval_every=0")
    parallel.init_processes()
    device = training_device()
    on_gpu = device.type == "cuda"
    tokenizer = VisualTokenizer.load(
        run.tokenizer, load_siglip(run.pretrained.siglip, on_gpu).vision_model
    )
    tokenizer.requires_grad_(False).to(device)
    vae = load_vae(run.pretrained.vae, on_gpu).to(device)
    torch.manual_seed(run.loop.seed)
    painter: Any = run.painter.build(tokenizer.encoder.width, vae.config.latent_channels)
    check_grids(run.grids, tokenizer.patch, vae, painter)
    apply_parallelism(painter, run.loop.parallel, device)
    painter.to(device)
    canvas = Canvas(run.grids, tokenizer.patch, run.scale)
    held = run.eval_pictures if run.eval_every else 0
    own = (
        open_pictures(run.data, run.grids, tokenizer.patch, run.out, held, run.allow_outside)
        if run.data
        else None
    )

    def make_batch(step: int) -> Tensor:
        number = step * parallel.world_size() + parallel.rank()
        if own is not None:
            return own.batch(run.loop.seed, number, run.batch).images
        assert run.domain is not None  # `DetokenizerRun` demands one without data
        return run.domain.pictures("train", run.loop.seed, number, run.batch, canvas).images

    def losses(images: Tensor) -> Mapping[str, Tensor]:
        """The rectified-flow loss, with x0 the noise, x1 the latents and velocity x1 - x0."""
        grid = tokenizer.grid(images)
        with torch.no_grad():
            x1 = to_latents(vae, images)
            z_q = tokenizer.deprojector(tokenizer.quantize(tokenizer.features(images), grid), grid)
        kept = (torch.rand(run.batch) >= run.drop_condition).to(z_q)[:, None, None]
        t_B = flow.sample_timesteps(run.batch, run.timestep_power, 1.0).to(z_q)
        x0 = torch.randn_like(x1)
        velocity = painter(flow.interpolate(x0, x1, t_B), 1 - t_B, z_q * kept, grid)
        return {"loss": (velocity - (x1 - x0)).square().mean()}

    def evaluate() -> Mapping[str, float]:
        decoder = LatentDetokenizer(tokenizer, painter, vae, run.num_steps, run.guidance_scale)
        if own is not None:
            return fidelity(tokenizer, decoder, own.held_out())
        assert run.domain is not None
        held_out = picture_batches(run.domain, "dev", held, canvas, seed=77)
        return fidelity(tokenizer, decoder, held_out)

    origin = {"tokenizer": tokenizer_hash(run.tokenizer, run.pretrained.siglip)}
    with Training(
        run, painter, out=run.out, loop=run.loop, optim=run.optim, name=painter.name, origin=origin,
        muon=block_matrices(painter),
    ) as training:  # fmt: skip
        training.evaluate_if_due(evaluate, run.eval_every)
        for _, images in training.batches(make_batch):
            seed_by_rank()
            training.update(losses(images))
            training.save_if_due()
            training.evaluate_if_due(evaluate, run.eval_every)
    sampler = {"num_steps": run.num_steps, "guidance_scale": run.guidance_scale}
    save_painter(painter, run.out / "model", sampler, write=parallel.is_main())
    parallel.barrier()
