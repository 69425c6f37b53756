"""Object detectors of transformers behind one protocol, for GenEval's checks.

`Mask2Former` is nearest to GenEval's own detector (mmdet's Mask2Former Swin-S, mask2former_swin-s-p4-w7-224_
lsj_8x2_50e_coco): it scores an object as mmdet does, the class's probability times the mean certainty of
its mask, over the hundred surest. What differs: the weights are the paper's own conversions for
transformers, and pictures are scaled by Pillow. `Owlv2` and `GroundingDino` find any class by its name;
their scores mean something else, so they have thresholds of their own, and their figures cannot be
compared with published ones.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image as Pillow
from torch.nn import functional as F

from arm.errors import WeightsError
from arm.evals.vision import model_type, open_model, open_part, weights_key

# Shapes: Q queries, C classes, H W a picture's pixels.

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote",
    "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in its order, by the names that GenEval's prompts use."""
MOST_OBJECTS = 100
OFFICIAL_SIZE = {"shortest_edge": 800, "longest_edge": 1333}
OVERLAP = 0.5
"""Of two boxes of a class that share more of their union, open-vocabulary detectors keep the surer."""


@dataclass(frozen=True)
class Found:
    """An object: class, confidence, box (x0, y0, x1, y1) in pixels, and its mask where there is one."""

    name: str
    score: float
    box: tuple[float, float, float, float]
    mask: Bool[np.ndarray, "h w"] | None = None


class Detector(Protocol):
    """Finds objects by class. Scores mean something else in every family, so each has its thresholds."""

    @property
    def name(self) -> str:
        """Source and family, for reports."""
        ...

    @property
    def key(self) -> str:
        """The hash of its weights and of how it is shown pictures."""
        ...

    @property
    def least(self) -> float:
        """Objects of lower scores do not count ..."""
        ...

    @property
    def least_counting(self) -> float:
        """... and for GenEval's counting tag those below this do not."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """How it differs from GenEval's own detector."""
        ...

    def __call__(self, image: Pillow.Image, classes: Sequence[str]) -> list[Found]:
        """All objects of these classes with a score above `least`, in an RGB picture."""
        ...


def looking_key(model: Any, processor: Any) -> str:
    """The hash of a model's weights and of the settings of its image processor, as another size of the
    pictures finds other objects.
    """
    settings = json.dumps(processor.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(f"{weights_key(model)} {settings}".encode()).hexdigest()


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / both if both > 0 else 0.0


def surest(found: Sequence[Found]) -> list[Found]:
    """Without empty boxes and those that overlap a surer one of their class, the surest first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: -f.score):
        x0, y0, x1, y1 = one.box
        if (
            x1 > x0
            and y1 > y0
            and all(k.name != one.name or overlap(k.box, one.box) <= OVERLAP for k in kept)
        ):
            kept.append(one)
    return kept


def corners(
    box: Sequence[float], canvas: tuple[float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box (cx, cy, w, h) in shares of a canvas (width, height) -> (x0, y0, x1, y1) in pixels, cut at
    the picture's size (width, height).
    """
    x, y, w, h = box
    sides = [(x - w / 2, 0), (y - h / 2, 1), (x + w / 2, 0), (y + h / 2, 1)]
    x0, y0, x1, y1 = (min(max(at * canvas[axis], 0.0), float(size[axis])) for at, axis in sides)
    return x0, y0, x1, y1


class Mask2Former:
    """Instance segmentation over COCO's 80 classes; boxes are those of the masks."""

    least, least_counting = 0.3, 0.9
    notes = (
        "detector: Mask2Former of transformers with the same scores and thresholds as GenEval's of mmdet; other "
        "conversion of the weights, pictures scaled by Pillow",
    )

    def __init__(self, model: Any, processor: Any, source: str) -> None:
        """Raises WeightsError for a model of other classes than COCO's 80."""
        if model.config.num_labels != len(COCO_CLASSES):
            raise WeightsError(
                f"{source} knows {model.config.num_labels} classes; GenEval needs a detector of COCO's "
                f"{len(COCO_CLASSES)}"
            )
        self.model, self.processor = model, processor
        self.name, self.key = f"{source} (Mask2Former)", looking_key(model, processor)
        own = dict(processor.size)
        # Published conversions carry 384x384, which neither the paper nor mmdet uses.
        self.size = own if "shortest_edge" in own else OFFICIAL_SIZE

    @torch.no_grad()
    def __call__(self, image: Pillow.Image, classes: Sequence[str]) -> list[Found]:
        inputs = self.processor(images=image, size=self.size, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.model.device)
        out = self.model(pixel_values=pixels)
        probabilities_QC = out.class_queries_logits[0].softmax(-1)[:, :-1]
        most = min(MOST_OBJECTS, probabilities_QC.numel())
        scores, places = probabilities_QC.flatten().topk(most)
        queries, labels = places // len(COCO_CLASSES), places % len(COCO_CLASSES)
        masks = F.interpolate(out.masks_queries_logits, pixels.shape[-2:], mode="bilinear")
        masks = F.interpolate(masks, (image.height, image.width), mode="bilinear")[0]
        found = []
        for score, query, label in zip(
            scores.tolist(), queries.tolist(), labels.tolist(), strict=True
        ):
            mask_HW = masks[query] > 0
            if COCO_CLASSES[label] not in classes or not mask_HW.any():
                continue
            sure = float(masks[query][mask_HW].sigmoid().mean()) * score
            if sure > self.least:
                rows, columns = (mask_HW.any(1 - axis).nonzero() for axis in (0, 1))
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                x0, y0, x1, y1 = (float(side) for side in box)
                found.append(
                    Found(COCO_CLASSES[label], sure, (x0, y0, x1, y1), mask_HW.cpu().numpy())
                )
        return found


class Owlv2:
    """Boxes of any class, asked for as "a photo of a CLASS"."""

    least = least_counting = 0.2
    notes = (
        "detector: OWLv2, asked for the prompt's own classes alone, threshold 0.2 for every tag, of boxes that "
        "overlap by half the surest; colours by boxes without masks; not comparable with published GenEval scores",
    )

    def __init__(self, model: Any, processor: Any, tokenizer: Any, source: str) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer
        self.name, self.key = f"{source} (OWLv2)", looking_key(model, processor)

    @torch.no_grad()
    def __call__(self, image: Pillow.Image, classes: Sequence[str]) -> list[Found]:
        device = self.model.device
        length = self.model.config.text_config.max_position_embeddings
        texts = self.tokenizer(
            [f"a photo of a {name}" for name in classes],
            padding="max_length", truncation=True, max_length=length, return_tensors="pt",
        )  # fmt: skip
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"]
        out = self.model(
            input_ids=texts["input_ids"].to(device),
            attention_mask=texts["attention_mask"].to(device),
            pixel_values=pixels.to(device),
        )
        scores_QC = out.logits[0].sigmoid()
        best, labels = scores_QC.max(-1)
        side = max(image.size)  # the picture is padded to a square
        return surest(
            [
                Found(
                    classes[int(label)],
                    float(score),
                    corners(box.tolist(), (side, side), image.size),
                )
                for score, label, box in zip(best, labels, out.pred_boxes[0], strict=True)
                if score > self.least
            ]
        )


class GroundingDino:
    """Boxes of any class, asked for one class at a time so that no box can mean two."""

    least = least_counting = 0.35
    notes = (
        "detector: Grounding DINO, asked for each of the prompt's own classes, threshold 0.35 for every tag, of "
        "boxes that overlap by half the surest; colours by boxes without masks; not comparable with published "
        "GenEval scores",
    )

    def __init__(self, model: Any, processor: Any, tokenizer: Any, source: str) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer
        self.name, self.key = f"{source} (Grounding DINO)", looking_key(model, processor)

    @torch.no_grad()
    def __call__(self, image: Pillow.Image, classes: Sequence[str]) -> list[Found]:
        device = self.model.device
        seen = self.processor(images=image, return_tensors="pt")
        found = []
        for name in classes:
            text = self.tokenizer([f"{name}."], return_tensors="pt")
            ids = text["input_ids"].to(device)
            out = self.model(
                input_ids=ids,
                attention_mask=text["attention_mask"].to(device),
                token_type_ids=torch.zeros_like(ids),
                pixel_values=seen["pixel_values"].to(device),
                pixel_mask=seen["pixel_mask"].to(device),
            )
            scores = out.logits[0].sigmoid().amax(-1)
            found += [
                Found(name, float(score), corners(box.tolist(), image.size, image.size))
                for score, box in zip(scores, out.pred_boxes[0], strict=True)
                if score > self.least
            ]
        return surest(found)


def load_detector(source: str) -> Detector:
    """A detector from a directory or a hub id, by what its config.json says it is.

    Raises WeightsError where it is no detector, or damaged.
    """
    from transformers import (
        AutoTokenizer,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessorPil,
    )

    directory, kind = model_type(source)
    if kind == "mask2former":
        processor = open_part(Mask2FormerImageProcessorPil, directory)
        model = open_model(Mask2FormerForUniversalSegmentation, directory)
        return Mask2Former(model, processor, source)
    if kind == "owlv2":
        processor = open_part(Owlv2ImageProcessorPil, directory)
        tokenizer = open_part(AutoTokenizer, directory)
        return Owlv2(open_model(Owlv2ForObjectDetection, directory), processor, tokenizer, source)
    if kind == "grounding-dino":
        processor = open_part(GroundingDinoImageProcessorPil, directory)
        tokenizer = open_part(AutoTokenizer, directory)
        model = open_model(GroundingDinoForObjectDetection, directory)
        return GroundingDino(model, processor, tokenizer, source)
    raise WeightsError(
        f"{source} is no detector: its config.json says '{kind}'; give a Mask2Former (COCO instances), an "
        "OWLv2 or a Grounding DINO"
    )
