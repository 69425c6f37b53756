"""SigLIP vision towers behind one shape of call (ARM section 1: the frozen encoder, output z).

Fixed-size towers, which most SigLIP2 checkpoints are, read a picture and interpolate their position
table to its grid. NaFlex towers read patches and are told the grid.

B batch, N = h * w tokens of a grid, D width. Pictures are (B, 3, H, W) in [-1, 1]: what SigLIP's and
SigLIP2's own processors make of bytes by mean 0.5 and deviation 0.5.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arm.models.dit import patchify


class VisionEncoder(nn.Module):
    """A transformers vision tower; whatever dtype it is in, features have the dtype of the pictures.

    `features` are the tower's last hidden state; `pool` is its own attention pooling over them, in
    the space of the text tower.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.patch: int = model.config.patch_size
        self.width: int = model.config.hidden_size

    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Height and width must be multiples of the patch."""
        raise NotImplementedError

    def pool(self, features_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        return self.model.head(features_BND.to(self.model.dtype)).to(features_BND.dtype)


class FixedSizeEncoder(VisionEncoder):
    """SiglipVisionModel: one position table, interpolated to the grid."""

    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        pixels = images_B3HW.to(self.model.dtype)
        found = self.model(pixels, interpolate_pos_encoding=True)
        return found.last_hidden_state.to(images_B3HW.dtype)


class NaFlexEncoder(VisionEncoder):
    """Siglip2VisionModel: rows of patches, each (row, column, channel) inside, and their grid.

    A batch has one grid here, so no patch is padding.
    """

    def features(self, images_B3HW: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        patches_BNP = patchify(images_B3HW.to(self.model.dtype), self.patch)
        B, N, _ = patches_BNP.shape
        grid = [side // self.patch for side in images_B3HW.shape[-2:]]
        found = self.model(
            pixel_values=patches_BNP,
            pixel_attention_mask=torch.ones(B, N, dtype=torch.long, device=images_B3HW.device),
            spatial_shapes=torch.tensor([grid] * B, device=images_B3HW.device),
        )
        return found.last_hidden_state.to(images_B3HW.dtype)


def vision_encoder(model: Any) -> VisionEncoder:
    """The encoder around the vision tower of what `load_siglip` gives."""
    naflex = model.config.model_type == "siglip2_vision_model"
    return NaFlexEncoder(model) if naflex else FixedSizeEncoder(model)
