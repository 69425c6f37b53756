"""The visual tokenizer (ARM section 1): frozen encoder -> projector -> FSQ -> de-projector.

The encoder is a SigLIP vision tower, of either kind that transformers has. The quantiser gives each latent dimension
two levels, its sign (FSQ, arXiv 2309.15505), so `bits` dimensions make 2**bits codes without a codebook to
learn; bit i of a code is 1 where dimension i is +1.

B batch, N = h * w tokens of a grid, D encoder width, P values of a patch. Pictures are (B, 3, H, W) in [-1, 1],
which is what SigLIP's and SigLIP2's own processors make of bytes (mean 0.5, standard deviation 0.5). A grid is
(height, width) in tokens, one token for each patch of the encoder.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arm.config import from_json
from arm.errors import ConfigError, WeightsError
from arm.files import read_json_object, write_json
from arm.models.blocks import GridTransformer
from arm.models.dit import DiTConfig, PixelDiT, patchify
from arm.models.pretrained import library_errors
from arm.models.visual import code_signs
from arm.models.weights import (
    check_shapes,
    check_sizes,
    load_parameters,
    save_tensors,
    stored_tensors,
)


class FSQ(nn.Module):
    """Quantises (..., bits) latents to their signs, with a straight-through gradient."""

    powers: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 30:
            raise ValueError(f"bits must be in 1..30, not {bits}")
        self.bits = bits
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    @property
    def num_codes(self) -> int:
        return 2**self.bits

    def forward(self, latent: Float[Tensor, "*n bits"]) -> Float[Tensor, "*n bits"]:
        """Signs in {-1, +1}. The gradient is that of tanh, which vanishes for large values."""
        bounded = torch.tanh(latent)
        signs = torch.where(latent > 0, 1.0, -1.0).to(latent.dtype)
        return bounded + (signs - bounded).detach()

    def to_codes(self, signs: Float[Tensor, "*n bits"]) -> Int[Tensor, "*n"]:
        """Signs -> integers in [0, 2**bits)."""
        return ((signs > 0).long() * self.powers).sum(-1)

    def to_signs(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*n bits"]:
        """Integers in [0, 2**bits) -> signs. The inverse of `to_codes`."""
        return code_signs(codes, self.bits)


class VisionEncoder(nn.Module):
    """A vision tower of transformers. Features have the dtype of the pictures, whatever dtype the tower has.

    `features` returns the tower's last hidden state, `pool` its own attention pooling of them, which lies in the
    space of the text tower.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.patch: int = model.config.patch_size
        self.width: int = model.config.hidden_size

    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Patch features of pictures whose height and width are multiples of the patch."""
        raise NotImplementedError

    def pool(self, features_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        return self.model.head(features_BND.to(self.model.dtype)).to(features_BND.dtype)


class FixedSizeEncoder(VisionEncoder):
    """SiglipVisionModel: one table of position embeddings, interpolated to the grid."""

    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        pixels = images_B3HW.to(self.model.dtype)
        output = self.model(pixels, interpolate_pos_encoding=True)
        return output.last_hidden_state.to(images_B3HW.dtype)


class NaFlexEncoder(VisionEncoder):
    """Siglip2VisionModel, which takes flattened patches (row, column, channel) and their grid.

    All pictures of a batch have the same grid here, so no patch is padding.
    """

    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        patches_BNP = patchify(images_B3HW.to(self.model.dtype), self.patch)
        B, N, _ = patches_BNP.shape
        grid = [side // self.patch for side in images_B3HW.shape[-2:]]
        output = self.model(
            pixel_values=patches_BNP,
            pixel_attention_mask=torch.ones(B, N, dtype=torch.long, device=images_B3HW.device),
            spatial_shapes=torch.tensor([grid] * B, device=images_B3HW.device),
        )
        return output.last_hidden_state.to(images_B3HW.dtype)


def vision_encoder(model: Any) -> VisionEncoder:
    """Wraps the vision tower of a model that `load_siglip` returned."""
    naflex = model.config.model_type == "siglip2_vision_model"
    return NaFlexEncoder(model) if naflex else FixedSizeEncoder(model)


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of the trained parts; the encoder's come with its weights. Raises ValueError for sizes that do not
    fit together.
    """

    code_bits: int
    width: int
    num_blocks: int
    num_heads: int
    pixel: DiTConfig
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        try:
            FSQ(self.code_bits)
        except ValueError as error:
            raise ValueError(f"code_{error}") from None
        for name, part in (("", self), ("pixel.", self.pixel)):
            sizes = (part.width, part.num_blocks, part.num_heads)
            if min(sizes) < 1 or not 0 < part.mlp_ratio < math.inf:
                raise ValueError(
                    f"{name}width, num_blocks, num_heads and mlp_ratio must be positive"
                )
            if part.width % (4 * part.num_heads):  # rotary angles of rows and columns, in pairs
                raise ValueError(
                    f"{name}width {part.width} is no multiple of four times {name}num_heads "
                    f"{part.num_heads}"
                )


class VisualTokenizer(nn.Module):
    """Maps pictures to codes and back to the features z_q that condition every decoder.

    encoder: the vision tower of a model that `load_siglip` returned; it is frozen here. `pixel` is the DiT of
    L_pix, which is also the smallest decoder.
    """

    def __init__(self, config: TokenizerConfig, encoder: Any) -> None:
        super().__init__()
        self.config = config
        self.encoder = vision_encoder(encoder).requires_grad_(False).eval()
        self.patch = self.encoder.patch
        dim = self.encoder.width
        shape = (config.width, config.num_blocks, config.num_heads, config.mlp_ratio)
        self.projector = GridTransformer(dim, config.code_bits, *shape)
        self.fsq = FSQ(config.code_bits)
        self.deprojector = GridTransformer(config.code_bits, dim, *shape)
        self.pixel = PixelDiT(config.pixel, dim, self.patch)

    def train(self, mode: bool = True) -> "VisualTokenizer":
        super().train(mode)
        self.encoder.eval()
        return self

    @property
    def device(self) -> torch.device:
        return self.fsq.powers.device

    def own(self) -> dict[str, nn.Parameter]:
        """All parameters but the encoder's, by name: the content of tokenizer.safetensors."""
        return {n: p for n, p in self.named_parameters() if not n.startswith("encoder.")}

    def grid(self, images_B3HW: Tensor) -> tuple[int, int]:
        """The (height, width) grid of a batch. Raises ValueError for sizes that are no multiple of the patch."""
        height, width = images_B3HW.shape[-2:]
        if height % self.patch or width % self.patch or not height or not width:
            raise ValueError(
                f"a picture of {width}x{height} does not fit patches of {self.patch} pixels; "
                f"width and height must be multiples of {self.patch}"
            )
        return height // self.patch, width // self.patch

    @torch.no_grad()
    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """z: the frozen encoder's patch features."""
        return self.encoder.features(images_B3HW)

    def quantize(
        self, z_BND: Float[Tensor, "b n d"], grid: tuple[int, int]
    ) -> Float[Tensor, "b n bits"]:
        """z -> signs in {-1, +1}, with a straight-through gradient."""
        return self.fsq(self.projector(z_BND, grid))

    @torch.no_grad()
    def encode(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b gh gw"]:
        """Pictures -> codes in [0, 2**code_bits), one for each patch."""
        grid = self.grid(images_B3HW)
        signs = self.quantize(self.features(images_B3HW.to(self.device)), grid)
        return self.fsq.to_codes(signs).unflatten(1, grid)

    def dequantize(self, codes_BHW: Int[Tensor, "b gh gw"]) -> Float[Tensor, "b n d"]:
        """Codes -> z_q, the features that condition every decoder."""
        signs = self.fsq.to_signs(codes_BHW.flatten(1).to(self.device))
        return self.deprojector(signs, (codes_BHW.shape[1], codes_BHW.shape[2]))

    def pool(self, features_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """One vector per picture, by the frozen encoder's attention pooling."""
        return self.encoder.pool(features_BND)

    def save(self, directory: Path, dtype: torch.dtype | None = None) -> None:
        """Writes visual_tokenizer.json (the sizes) and tokenizer.safetensors, without the encoder."""
        write_json(asdict(self.config), directory / "visual_tokenizer.json")
        save_tensors(self.own(), directory / "tokenizer.safetensors", dtype)

    @classmethod
    def load(cls, directory: Path, encoder: Any) -> "VisualTokenizer":
        """Reads what `save` wrote. Raises WeightsError for missing or damaged files and for wrong shapes."""
        settings = directory / "visual_tokenizer.json"
        try:
            config = from_json(TokenizerConfig, read_json_object(settings))
        except ConfigError as error:
            raise WeightsError(f"{settings}: {error}") from None
        path = directory / "tokenizer.safetensors"
        tensors = stored_tensors([path])
        check_sizes(asdict(config), tensors, settings)
        with library_errors(f"{settings} does not fit {path.name}"):
            with torch.device("meta"):
                outline = cls(config, encoder)
            check_shapes(outline.own(), tensors, path)
        model = cls(config, encoder)
        load_parameters(model.own(), tensors, path)
        return model.eval()
