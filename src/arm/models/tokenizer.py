"""The visual tokenizer (ARM section 1): frozen encoder -> projector -> FSQ -> de-projector.

B batch, N = h * w tokens of a grid, D encoder width. Pictures are (B, 3, H, W) in [-1, 1]; a grid
is (height, width) in tokens, one token an encoder patch.
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
from arm.models.blocks import GridTransformer
from arm.models.dit import DiTConfig, PixelDiT
from arm.models.encoder import vision_encoder
from arm.models.fsq import FSQ
from arm.models.weights import (
    load_parameters,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
)


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of the trained part; the encoder's own come with its weights. Raises ValueError where they do
    not fit together.
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
            if part.width % (4 * part.num_heads):  # a head turns rows and columns, in pairs
                raise ValueError(
                    f"{name}width {part.width} is no multiple of four times {name}num_heads "
                    f"{part.num_heads}"
                )


class VisualTokenizer(nn.Module):
    """Pictures <-> codes, and the features z_q that a decoder paints from.

    encoder: the vision tower of what `load_siglip` gives, which is frozen here. `pixel` is the DiT
    of L_pix, which is also the smallest decoder.
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
        """Everything but the encoder, by name: what a file of this tokenizer holds."""
        return {n: p for n, p in self.named_parameters() if not n.startswith("encoder.")}

    def grid(self, images_B3HW: Tensor) -> tuple[int, int]:
        """The token grid of a batch. Raises ValueError where the size is no multiple of the patch."""
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
        """z -> signs in {-1, +1}, straight-through."""
        return self.fsq(self.projector(z_BND, grid))

    @torch.no_grad()
    def encode(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b gh gw"]:
        """Pictures -> codes in [0, 2**code_bits), one an encoder patch."""
        grid = self.grid(images_B3HW)
        signs = self.quantize(self.features(images_B3HW.to(self.device)), grid)
        return self.fsq.to_codes(signs).unflatten(1, grid)

    def dequantize(self, codes_BHW: Int[Tensor, "b gh gw"]) -> Float[Tensor, "b n d"]:
        """Codes -> z_q, the features that condition every decoder."""
        signs = self.fsq.to_signs(codes_BHW.flatten(1).to(self.device))
        return self.deprojector(signs, (codes_BHW.shape[1], codes_BHW.shape[2]))

    def pool(self, features_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """One vector a picture, by the frozen encoder's own attention pooling."""
        return self.encoder.pool(features_BND)

    def save(self, directory: Path, dtype: torch.dtype | None = None) -> None:
        """Writes the sizes (visual_tokenizer.json) and the trained part; the encoder is not repeated."""
        write_json(asdict(self.config), directory / "visual_tokenizer.json")
        save_tensors(self.own(), directory / "tokenizer.safetensors", dtype)

    @classmethod
    def load(cls, directory: Path, encoder: Any) -> "VisualTokenizer":
        """Reads what `save` wrote. Raises WeightsError for missing, damaged or ill-shaped files."""
        settings = directory / "visual_tokenizer.json"
        try:
            config = from_json(TokenizerConfig, read_json(settings))
        except ConfigError as error:
            raise WeightsError(f"{settings}: {error}") from None
        model = cls(config, encoder)
        path = directory / "tokenizer.safetensors"
        load_parameters(model.own(), load_tensors(path), path)
        return model.eval()
