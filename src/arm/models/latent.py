"""Latent detokenizers (ARM section 2): a DiT paints VAE latents under the condition z_q.

The networks are diffusers' own (Flux as in FLUX.1, Sana as in SANA-1.5) with z_q in place of their
text, behind one shape of call. Both predict noise - data at a noise level sigma = 1 - t, so the
velocity of our path (data - noise at t) is the negative of what they return. Weights may be bf16;
latents and velocities keep the caller's dtype. Painters are given sigma, not t: what shares a painter
out may round its inputs to bf16, and near the data 1 - t of a rounded t is far off.

B batch, C latent channels, h, w latent size, N tokens of z_q, D its width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arm.config import from_json
from arm.errors import ConfigError, InputError, WeightsError
from arm.files import read_json_object, write_json
from arm.models import flow
from arm.models.blocks import grid_sines
from arm.models.detokenizer import seeded_noise
from arm.models.pretrained import library_errors, read_config
from arm.models.tokenizer import VisualTokenizer
from arm.models.weights import (
    StoredTensor,
    check_shapes,
    check_sizes,
    load_parameters,
    save_tensors,
    stored_tensors,
    trained,
)


class Painter(Protocol):
    """A velocity field on latents: an nn.Module made by FluxPainter or SanaPainter."""

    name: str
    transformer: Any

    def to(self, device: torch.device | str) -> object: ...

    def __call__(
        self, latents_BChw: Tensor, sigma_B: Tensor, z_q_BND: Tensor, grid: tuple[int, int]
    ) -> Tensor: ...


def _grid_ids(height: int, width: int) -> Float[Tensor, "n 3"]:
    """Flux position ids (0, row, column) of a grid."""
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, cols], -1).view(-1, 3).float()


class FluxPainter(nn.Module):
    """diffusers' FluxTransformer2DModel; one packed 2x2 latent patch a token.

    The condition's tokens carry the positions of their patches, so where the code grid and the
    packed latent grid agree (patches of 16 and a VAE of factor 8), a code and its latents share a
    position. The maps of the condition stand before the transformer's own `context_embedder` and
    `text_embedder`, which are kept: from FLUX.1-dev on, only these two maps are new.
    """

    name = "flux"

    def __init__(self, transformer: Any, condition_dim: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.condition = nn.Linear(condition_dim, transformer.config.joint_attention_dim)
        self.pool = nn.Linear(condition_dim, transformer.config.pooled_projection_dim)

    def forward(
        self,
        latents_BChw: Float[Tensor, "b c h w"],
        sigma_B: Float[Tensor, " b"],
        z_q_BND: Float[Tensor, "b n d"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "b c h w"]:
        B, C, h, w = latents_BChw.shape
        packed = latents_BChw.view(B, C, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        guidance = torch.ones_like(sigma_B) if self.transformer.config.guidance_embeds else None
        dtype, device = self.transformer.dtype, latents_BChw.device
        output = self.transformer(
            hidden_states=packed.reshape(B, (h // 2) * (w // 2), 4 * C).to(dtype),
            encoder_hidden_states=self.condition(z_q_BND).to(dtype),
            pooled_projections=self.pool(z_q_BND.mean(1)).to(dtype),
            timestep=sigma_B,
            img_ids=_grid_ids(h // 2, w // 2).to(device),
            txt_ids=_grid_ids(*grid).to(device),
            guidance=guidance,
        ).sample
        unpacked = output.view(B, h // 2, w // 2, C, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return -unpacked.reshape(B, C, h, w).to(latents_BChw.dtype)


class SanaPainter(nn.Module):
    """diffusers' SanaTransformer2DModel; the condition enters by cross-attention.

    Cross-attention knows no places, so each token of the condition is told its own; the grid of the
    codes need not be that of the latents. The map of the condition stands before the transformer's
    own `caption_projection`, which is kept.
    """

    name = "sana"

    def __init__(self, transformer: Any, condition_dim: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.condition = nn.Linear(condition_dim, transformer.config.caption_channels)

    def forward(
        self,
        latents_BChw: Float[Tensor, "b c h w"],
        sigma_B: Float[Tensor, " b"],
        z_q_BND: Float[Tensor, "b n d"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "b c h w"]:
        condition = self.condition(z_q_BND)
        places_ND = grid_sines(*grid, condition.shape[-1]).to(condition)
        dtype = self.transformer.dtype
        output = self.transformer(
            hidden_states=latents_BChw.to(dtype),
            encoder_hidden_states=(condition + places_ND).to(dtype),
            timestep=1000 * sigma_B,
        ).sample
        return -output.to(latents_BChw.dtype)


def painters() -> dict[str, tuple[type[FluxPainter] | type[SanaPainter], Any]]:
    """diffusers' class name -> (our painter, their class)."""
    from diffusers.models.transformers.sana_transformer import SanaTransformer2DModel
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    return {
        "FluxTransformer2DModel": (FluxPainter, FluxTransformer2DModel),
        "SanaTransformer2DModel": (SanaPainter, SanaTransformer2DModel),
    }


def to_latents(vae: Any, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
    """Normalised latents of pictures in [-1, 1], of unit scale: the mean of an AutoencoderKL's
    posterior, or the latent of an AutoencoderDC, which has no shift.
    """
    found = vae.encode(images_B3HW.to(vae.dtype))
    mean = (found.latent_dist.mean if "latent_dist" in found else found.latent).to(images_B3HW)
    return (mean - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor


def from_latents(vae: Any, latents_BChw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `to_latents`, through the autoencoder's decoder."""
    shift = vae.config.get("shift_factor") or 0.0
    raw = latents_BChw / vae.config.scaling_factor + shift
    return vae.decode(raw.to(vae.dtype)).sample.to(latents_BChw)


def latent_shape(vae: Any, height: int, width: int) -> tuple[int, int, int]:
    """(C, h, w) of the latents of a picture in pixels: factor 8 in FLUX.1's VAE, 32 in SANA's DC-AE.

    Raises InputError where the factor does not divide the picture.
    """
    factor = getattr(vae, "spatial_compression_ratio", None)  # AutoencoderDC says it
    if factor is None:
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if height % factor or width % factor:
        raise InputError(
            f"a picture of {width}x{height} does not fit the autoencoder: both must be multiples of "
            f"{factor}; choose another size"
        )
    return vae.config.latent_channels, height // factor, width // factor


MAX_STEPS = 1000
"""Most sampling steps that a decoder's settings may ask for."""


@dataclass(frozen=True)
class Sampler:
    """The numbers of a decoder's sampler.json."""

    num_steps: int = 28
    guidance_scale: float = 1.5

    def __post_init__(self) -> None:
        if not 1 <= self.num_steps <= MAX_STEPS:
            raise ValueError(f"num_steps must be 1 to {MAX_STEPS}, not {self.num_steps}")


class LatentDetokenizer:
    """Codes -> z_q -> latents by the flow -> picture by the VAE. The paper: 28 steps, guidance 1.5."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        painter: Painter,
        vae: Any,
        num_steps: int = 28,
        guidance_scale: float = 1.5,
    ) -> None:
        self.tokenizer, self.painter, self.vae = tokenizer, painter, vae
        self.name = painter.name
        self.num_steps, self.guidance_scale = num_steps, guidance_scale
        self.as_stored = False

    def to(self, device: torch.device | str) -> object:
        """On a GPU the two large networks run in bf16, since FLUX.1's would take 48 GB in fp32; elsewhere
        in fp32.
        """
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        self.painter.transformer.to(dtype=dtype)
        self.vae.to(dtype=dtype)
        self.as_stored = False
        return [part.to(device) for part in (self.tokenizer, self.painter, self.vae)]

    @torch.no_grad()
    def decode(
        self,
        codes_BHW: Int[Tensor, "b gh gw"],
        *,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        tok, vae = self.tokenizer, self.vae
        if self.as_stored:
            self.to(tok.device)
        B, gh, gw = codes_BHW.shape
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        shape = latent_shape(vae, gh * tok.patch, gw * tok.patch)
        z_q = tok.dequantize(codes_BHW)
        # With guidance, one batch of 2B: the conditioned half and the half with an empty condition.
        both = z_q if scale == 1 else torch.cat([z_q, torch.zeros_like(z_q)])

        def velocity(x: Tensor, t_B: Tensor) -> Tensor:
            sigma_B = 1 - t_B
            if scale == 1:
                return self.painter(x, sigma_B, z_q, (gh, gw))
            full, empty = self.painter(
                torch.cat([x, x]), torch.cat([sigma_B, sigma_B]), both, (gh, gw)
            ).chunk(2)
            return empty + scale * (full - empty)

        noise = seeded_noise(shape, B, seed).to(z_q)
        latents = flow.euler(velocity, noise, num_steps or self.num_steps)
        return from_latents(vae, latents).clamp(-1, 1)

    @classmethod
    def load(
        cls, directory: Path, tokenizer: VisualTokenizer, vae: Any, as_stored: bool = False
    ) -> "LatentDetokenizer":
        """Reads what `save_painter` wrote into fp32; with `as_stored`, 16-bit weights stay so until `to` or
        the first picture. Raises WeightsError.
        """
        path = directory / "painter.safetensors"
        tensors = stored_tensors([path])
        stored = tensors.get("transformer.proj_out.weight")
        dtype = stored.dtype if as_stored and stored is not None else torch.float32
        painter = _unfilled(directory, tokenizer.encoder.width, dtype, tensors)
        load_parameters(trained(painter), tensors, path)
        settings = directory / "sampler.json"
        try:
            sampler = from_json(Sampler, read_json_object(settings))
        except ConfigError as error:
            raise WeightsError(f"{settings}: {error}") from None
        painter.requires_grad_(False).eval()
        decoder = cls(tokenizer, painter, vae, sampler.num_steps, sampler.guidance_scale)
        decoder.as_stored = as_stored
        return decoder


def _unfilled(
    directory: Path, width: int, dtype: torch.dtype, tensors: Mapping[str, StoredTensor]
) -> Any:
    """A painter of config.json's sizes on the CPU, its transformer's weights in `dtype` and uninitialised.

    Raises WeightsError, before anything is allocated, where its parameters are not those of `tensors`.
    """
    path, data, known = directory / "config.json", read_config(directory), painters()
    name = str(data.get("_class_name"))
    if name not in known:
        raise WeightsError(f"{path}: '{name}' is none of {', '.join(known)}")
    painter_class, transformer_class = known[name]
    check_sizes(data, tensors, path)
    with library_errors(f"{path} is of no {name}"):  # diffusers check few of their settings
        with torch.device("meta"):  # FLUX.1's would take 48 GB
            transformer = transformer_class.from_config(data)
            outline = painter_class(transformer, width)
        check_shapes(trained(outline), tensors, directory / "painter.safetensors")
        bare = next(transformer.buffers(), None) is None
        if not bare:  # tables, which no file holds
            transformer = transformer_class.from_config(data)
        painter = painter_class(transformer, width)
    for parameter in transformer.parameters():
        parameter.data = parameter.data.to(dtype)
    if bare:
        transformer.to_empty(device="cpu")
    return painter


def save_painter(
    painter: Any,
    directory: Path,
    sampler: dict[str, float],
    dtype: torch.dtype | None = None,
    write: bool = True,
) -> None:
    """config.json in diffusers' layout, the weights, and the sampler's defaults. All processes that
    share a painter call it, and one of them should `write`.
    """
    save_tensors(trained(painter), directory / "painter.safetensors", dtype, write)
    if write:
        painter.transformer.save_config(directory)
        write_json(sampler, directory / "sampler.json")
