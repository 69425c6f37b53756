"""Stage 1b: the latent detokenizers (ARM section 2), trained with the rectified-flow loss.

The tokenizer and the VAE are frozen; the condition is z_q, left out now and then for guidance.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.config import MAY_CHANGE
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
from arm.train.picture_data import draw_apart, open_pictures
from arm.train.provenance import tokenizer_hash
from arm.train.sharding import apply_parallelism
from arm.train.training import Loop, Training, training_device


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
class PretrainedPainter:
    """A painter that starts from a published text-to-image transformer: FLUX.1-dev, or SANA-1.5.

    source: FluxTransformer2DModel or SanaTransformer2DModel in diffusers' layout. All its weights are
    kept; the maps of z_q that take the text's place are new. recompute: activations are made again in
    the backward pass, which costs a third more time and spares most of their memory. bf16: weights
    that the file has in bf16 stay so and are trained so; otherwise they are trained in fp32.
    """

    source: str
    recompute: bool = True
    bf16: bool = False

    def build(self, dim: int, latent_channels: int) -> nn.Module:
        """Raises WeightsError where the transformer paints other latents than the autoencoder's."""
        known = painters()
        classes = tuple(each for _, each in known.values())
        transformer = load_diffusers(self.source, classes, self.bf16)
        painter_class, _ = known[type(transformer).__name__]
        if transformer.config.guidance_embeds and painter_class is SanaPainter:
            raise WeightsError(f"{self.source} is a SANA-Sprint, which is no rectified flow")
        packed = 4 if painter_class is FluxPainter else 1
        if transformer.config.in_channels != packed * latent_channels:
            raise WeightsError(
                f"{self.source} paints latents of {transformer.config.in_channels // packed} channels, "
                f"the autoencoder has {latent_channels}; name the one that belongs to it"
            )
        if self.recompute:
            transformer.enable_gradient_checkpointing()
        return painter_class(transformer, dim)


@dataclass(frozen=True)
class DetokenizerRun:
    """One painter's training. Timesteps are u**timestep_power with u ~ U[0, 1]: above 1 they lean
    towards the noise, where the condition alone must give the answer; 1 is the paper's.

    data: users' captioned pictures (`arm.data.sources`), of which only the pictures are used; without any
    they are those of `domain`, which alone reads `scale`. batch: pictures a process and step. allow_outside:
    `data` may name pictures outside of its own folder.
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
    domain: PictureDomain | None = None

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
            raise ValueError("timestep_power must be above 0, and guidance_scale a number")
        if self.eval_every < 0 or (self.eval_every and self.eval_pictures < 1):
            raise ValueError("eval_every must not be negative, and beside it eval_pictures above 0")


def fitting(grids: tuple[GridWeight, ...], patch: int, vae: Any, painter: Any) -> None:
    """Raises ConfigError for a grid whose pictures the autoencoder or the painter cannot take."""
    for grid in grids:
        name = f"grids has {grid.height}x{grid.width} tokens of {patch} pixels"
        try:
            _, height, width = latent_shape(vae, grid.height * patch, grid.width * patch)
        except InputError as error:
            raise ConfigError(f"{name}: {error}") from None
        if isinstance(painter, FluxPainter) and (height % 2 or width % 2):
            raise ConfigError(f"{name}: {height}x{width} latents, Flux takes them two by two")
        side = painter.transformer.config.patch_size if isinstance(painter, SanaPainter) else 1
        if height % side or width % side:
            raise ConfigError(
                f"{name}: {height}x{width} latents, this Sana takes multiples of {side} each way"
            )


def main(run: DetokenizerRun) -> None:
    """Trains one painter and writes it to `out`/model. Under torchrun each process makes its own
    batches, and `loop.parallel` may share the painter out.
    """
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
    fitting(run.grids, tokenizer.patch, vae, painter)
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

    if run.eval_every and run.loop.parallel.shard:
        raise ConfigError("a sharded painter is not watched while it trains; set eval_every=0")
    origin = {"tokenizer": tokenizer_hash(run.tokenizer, run.pretrained.siglip)}
    with Training(
        run, painter, out=run.out, loop=run.loop, optim=run.optim, name=painter.name, origin=origin,
        muon=block_matrices(painter),
    ) as training:  # fmt: skip
        training.evaluate_if_due(evaluate, run.eval_every)
        for _, images in training.batches(make_batch):
            draw_apart()
            training.update(losses(images))
            training.save_if_due()
            training.evaluate_if_due(evaluate, run.eval_every)
    sampler = {"num_steps": run.num_steps, "guidance_scale": run.guidance_scale}
    save_painter(painter, run.out / "model", sampler, write=parallel.is_main())
    parallel.barrier()
