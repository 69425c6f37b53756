"""The colour of a detected object by CLIP, as GenEval asks it (arXiv 2310.11513).

The object is cut out along its mask, the rest painted grey, and the crop is compared with ten colours in
three sentences each. GenEval's own CLIP is OpenAI's ViT-L/14, on the hub openai/clip-vit-large-patch14.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F

from arm.errors import WeightsError
from arm.evals.benchmarks.geneval import COLORS
from arm.evals.detect import Found, looking_key
from arm.evals.vision import model_type, open_model, open_part

TEMPLATES = (
    "a photo of a {c} {name}",
    "a photo of a {c}-colored {name}",
    "a photo of a {c} object",
)
BACKGROUND = "#999"


def cut_out(image: Pillow.Image, found: Found) -> Pillow.Image:
    """The object's box, with grey where its mask is not; at least one pixel."""
    if found.mask is not None:
        blank = Pillow.new("RGB", image.size, BACKGROUND)
        image = Pillow.composite(image, blank, Pillow.fromarray(found.mask))
    x0, y0, x1, y1 = (round(side) for side in found.box)
    return image.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))


class ColorNamer:
    """A CLIP model that names colours. name, key: what it is, and the hash of its weights and of how it is
    shown pictures.
    """

    def __init__(self, model: Any, processor: Any, tokenizer: Any, source: str) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer
        self.name, self.key = source, looking_key(model, processor)
        self.texts: dict[str, Tensor] = {}

    @torch.no_grad()
    def colors_of(self, name: str) -> Float[Tensor, "10 d"]:
        """One embedding a colour: the mean over the sentences about a thing of this class."""
        if name not in self.texts:
            sentences = [t.format(c=color, name=name) for color in COLORS for t in TEMPLATES]
            length = self.model.config.text_config.max_position_embeddings
            tokens = self.tokenizer(
                sentences, padding=True, truncation=True, max_length=length, return_tensors="pt"
            )
            features = self.model.get_text_features(
                input_ids=tokens["input_ids"].to(self.model.device),
                attention_mask=tokens["attention_mask"].to(self.model.device),
            ).pooler_output
            each = F.normalize(features, dim=-1).reshape(len(COLORS), len(TEMPLATES), -1)
            self.texts[name] = F.normalize(each.mean(1), dim=-1)
        return self.texts[name]

    @torch.no_grad()
    def __call__(self, image: Pillow.Image, found: Sequence[Found]) -> list[str]:
        """The colour of each object in an RGB picture."""
        if not found:
            return []
        crops = [cut_out(image, one) for one in found]
        pixels = self.processor(images=crops, return_tensors="pt")["pixel_values"]
        seen = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
        return [
            COLORS[int((self.colors_of(one.name) @ feature).argmax())]
            for one, feature in zip(found, seen.pooler_output, strict=True)
        ]


def load_color_namer(source: str) -> ColorNamer:
    """A CLIP model from a directory or a hub id. Raises WeightsError for anything else."""
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    directory, kind = model_type(source)
    if kind != "clip":
        raise WeightsError(
            f"{source} is no CLIP model: its config.json says '{kind}'; GenEval's own is "
            "openai/clip-vit-large-patch14"
        )
    return ColorNamer(
        open_model(CLIPModel, directory),
        open_part(CLIPImageProcessorPil, directory),
        open_part(AutoTokenizer, directory),
        source,
    )
