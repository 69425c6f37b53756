"""The colour of a detected object by CLIP, as GenEval asks it (arXiv 2310.11513).

The object is cut out along its mask, the rest painted grey, and the crop is compared with ten colours in
three sentences each. GenEval's own CLIP is OpenAI's ViT-L/14, on the hub openai/clip-vit-large-patch14.


What a detector and CLIP see in the pictures of a run, kept so that no picture is looked at twice.

    RUN/detections/HASH.json   the objects in one picture: class, confidence, box, colour

The hash is over the picture's pixels, the weights of detector and CLIP and the settings of their image
processors, and what was looked for: a killed run goes on, another detector or another size that it is shown
starts anew, and a picture that changed is looked at again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F

from arm.errors import InputError, WeightsError
from arm.evals.benchmarks import geneval
from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.files import Picture, read_picture
from arm.evals.benchmarks.geneval import COLORS
from arm.evals.detect import Detector, Found, load_detector, looking_key
from arm.evals.making import picture_path
from arm.evals.vision import model_type, open_model, open_part
from arm.files import read_json, write_json

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


@dataclass(frozen=True)
class Viewer:
    """A detector, and CLIP for the colours of what it finds."""

    detector: Detector
    namer: ColorNamer

    def look(self, picture: Picture, item: Item) -> list[geneval.Detection]:
        """The objects that an item asks about, with the colours of those whose colour it asks for."""
        image = Pillow.fromarray(picture)
        names, colored = geneval.classes(item)
        found = self.detector(image, names)
        asked = [one for one in found if one.name in colored]
        colors = dict(zip(map(id, asked), self.namer(image, asked), strict=True))
        return [geneval.Detection(o.name, o.box, o.score, colors.get(id(o))) for o in found]

    def key(self, picture: Picture, item: Item) -> str:
        """What a look depends on, as a file name."""
        seen = [self.detector.key, self.namer.key, *geneval.classes(item), picture.shape]
        digest = hashlib.sha256(json.dumps(seen).encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
        return digest.hexdigest()

    def report(self) -> dict[str, Any]:
        """Who looked, and how that differs from GenEval's own detector."""
        clip = "colours: CLIP ViT-L/14 of OpenAI is GenEval's own; another CLIP gives other figures"
        return {
            "detector": self.detector.name,
            "detector_hash": self.detector.key,
            "clip": self.namer.name,
            "clip_hash": self.namer.key,
            "notes": [*self.detector.notes, clip],
        }


def load_viewer(detector: str | None, clip: str | None) -> Viewer:
    """Raises InputError where one is not named, WeightsError where one cannot be loaded."""
    if detector is None or clip is None:
        raise InputError(
            "geneval is scored by a detector and a CLIP model: name them with --detector and --clip "
            "(as facebook/mask2former-swin-small-coco-instance, openai/clip-vit-large-patch14)"
        )
    return Viewer(load_detector(detector), load_color_namer(clip))


def see(
    viewer: Viewer,
    items: Sequence[Item],
    pictures: int,
    folder: Path,
    cache: Path,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, list[bool | None]]:
    """Whether each picture of each item in `folder` shows what was asked; None where it is missing or
    broken. What was seen is kept in `cache`.
    """
    cache.mkdir(parents=True, exist_ok=True)
    thresholds = (viewer.detector.least, viewer.detector.least_counting)
    right: dict[str, list[bool | None]] = {}
    for number, item in enumerate(items, 1):
        paths = [picture_path(folder, item, k) for k in range(pictures)]
        shown = [None if path is None else read_picture(path) for path in paths]
        right[item.id] = [
            None
            if p is None
            else geneval.check(item, seen_before(viewer, p, item, cache), *thresholds)
            for p in shown
        ]
        if number % 32 == 0 or number == len(items):
            report(f"{number} of {len(items)} prompts looked at")
    return right


def seen_before(
    viewer: Viewer, picture: Picture, item: Item, cache: Path
) -> list[geneval.Detection]:
    """What the cache holds of a picture; where it holds nothing, or half a file, the viewer looks."""
    path = cache / f"{viewer.key(picture, item)}.json"
    try:
        return [
            geneval.Detection(d["name"], tuple(d["box"]), d["score"], d["color"])
            for d in read_json(path)
        ]
    except (WeightsError, KeyError, TypeError):
        found = viewer.look(picture, item)
        write_json([asdict(d) for d in found], path)
        return found


def in_words(right: Mapping[str, Sequence[bool | None]]) -> dict[str, list[list[str | None]]]:
    """Checks as a report shows them beside the pictures: `[item][picture]`, one verdict each."""
    return {
        name: [[None if r is None else "right" if r else "wrong"] for r in checks]
        for name, checks in right.items()
    }
