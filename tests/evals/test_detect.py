"""Detectors and the colour namer: their arithmetic by hand, their paths on tiny random checkpoints."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_vision
from arm.errors import WeightsError
from arm.evals import detect
from arm.evals.benchmarks.geneval import COLORS
from arm.evals.detect import COCO_CLASSES, Found, Mask2Former, load_detector
from arm.evals.detections import ColorNamer, cut_out, load_color_namer
from arm.evals.vision import weights_key


def noise(height: int = 40, width: int = 56) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_overlaps_by_hand():
    # 2x2 boxes that share a 1x2 strip: 2 of 6.
    assert detect.overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert detect.overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0.0
    near, far = Found("cup", 0.9, (0, 0, 10, 10)), Found("cup", 0.5, (20, 0, 30, 10))
    double = Found("cup", 0.8, (0, 0, 10, 9))  # shares 90 of 100
    other = Found("bowl", 0.7, (0, 0, 10, 9))
    empty = Found("cup", 0.6, (5, 5, 5, 9))
    assert detect.surest([far, double, other, near, empty]) == [near, other, far]


def test_boxes_are_cut_at_the_picture():
    # Centre (.5, .25), size (1, .5) of a 40x40 canvas, in a picture of 40x10.
    assert detect.corners((0.5, 0.25, 1.0, 0.5), (40, 40), (40, 10)) == (0, 0, 40, 10)
    assert detect.corners((0.5, 0.5, 0.5, 0.5), (8, 4), (8, 4)) == (2, 1, 6, 3)


class FakeMask2Former(torch.nn.Module):
    """Two queries: a cow at the left half, and a thing that may be a cow or a dog at the right."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=80)
        self.device = torch.device("cpu")

    def forward(self, pixel_values: torch.Tensor) -> Any:
        logits = torch.full((1, 2, 81), -50.0)
        cow, dog = COCO_CLASSES.index("cow"), COCO_CLASSES.index("dog")
        logits[0, 0, cow] = 0.0
        logits[0, 1, cow], logits[0, 1, dog], logits[0, 1, 80] = math.log(3), math.log(6), 0.0
        masks = torch.full((1, 2, 4, 4), -4.0)
        masks[0, 0, :, :2] = 4.0
        masks[0, 1, :, 2:] = 4.0
        return SimpleNamespace(class_queries_logits=logits, masks_queries_logits=masks)


class FakeProcessor:
    def __init__(self, size: dict[str, int] | None = None) -> None:
        self.size = size or {"shortest_edge": 4}

    def to_dict(self) -> dict[str, Any]:
        return {"size": self.size}

    def __call__(self, images: Any, **_: Any) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.zeros(1, 3, 4, 4)}


def test_mask2former_scores_as_mmdet_does():
    detector = Mask2Former(FakeMask2Former(), FakeProcessor(), "fake")
    found = detector(Image.new("RGB", (4, 4)), ["cow", "dog", "cat"])
    sure = 1 / (1 + math.exp(-4))
    # The right half is a cow by 3/10 (below the threshold when its mask counts) and a dog by 6/10.
    assert [(f.name, f.box) for f in found] == [("cow", (0, 0, 2, 4)), ("dog", (2, 0, 4, 4))]
    assert [f.score for f in found] == pytest.approx([sure, 0.6 * sure], abs=1e-4)
    assert found[0].mask is not None and found[0].mask.tolist() == [[True, True, False, False]] * 4
    assert [f.name for f in detector(Image.new("RGB", (4, 4)), ["dog"])] == ["dog"]
    # Masks are scaled to the picture.
    assert detector(Image.new("RGB", (8, 8)), ["dog"])[0].box == (4, 0, 8, 8)


def test_the_official_size_stands_in_for_a_fixed_one():
    fixed = FakeProcessor({"height": 384, "width": 384})
    assert Mask2Former(FakeMask2Former(), fixed, "fake").size == detect.OFFICIAL_SIZE
    assert Mask2Former(FakeMask2Former(), FakeProcessor(), "fake").size == {"shortest_edge": 4}


@pytest.mark.parametrize("kind", ["mask2former", "owlv2", "grounding_dino"])
def test_tiny_checkpoints_of_every_family(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = getattr(tiny_vision, kind)(tmp_path / kind)
    detector = load_detector(str(source))
    assert detector.key == load_detector(str(source)).key and detector.notes
    monkeypatch.setattr(type(detector), "least", 0.0)
    picture = noise()
    found = detector(picture, ["cow", "dog"])
    assert found and {f.name for f in found} <= {"cow", "dog"}
    for one in found:
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 56 and 0 <= y0 < y1 <= 40 and 0 < one.score <= 1
        assert one.mask is None or one.mask.shape == (40, 56)
    assert (found[0].mask is not None) == (kind == "mask2former")


@pytest.mark.parametrize("kind", ["owlv2", "grounding_dino"])
def test_open_vocabulary_boxes_are_those_of_transformers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    detector: Any = load_detector(str(getattr(tiny_vision, kind)(tmp_path / kind)))
    monkeypatch.setattr(type(detector), "least", 0.0)
    monkeypatch.setattr(detect, "surest", list)
    picture, outputs = noise(), []
    detector.model.register_forward_hook(lambda *call: outputs.append(call[-1]))
    found = detector(picture, ["cow"])
    theirs = detector.processor.post_process_object_detection(
        outputs[0], threshold=0.0, target_sizes=[(40, 56)]
    )[0]
    boxes = theirs["boxes"].clamp(min=0).minimum(torch.tensor([56.0, 40.0, 56.0, 40.0]))
    assert np.allclose([f.box for f in found], boxes.numpy(), atol=1e-4)
    assert np.allclose([f.score for f in found], theirs["scores"].numpy())


def test_what_is_no_detector_is_named(tmp_path: Path):
    other = tiny_vision.clip(tmp_path / "clip")
    with pytest.raises(WeightsError, match=r"is no detector: its config\.json says 'clip'"):
        load_detector(str(other))
    with pytest.raises(WeightsError, match=r"is no CLIP model: its config\.json says 'owlv2'"):
        load_color_namer(str(tiny_vision.owlv2(tmp_path / "owl")))
    with pytest.raises(WeightsError, match=r"does not exist"):
        load_detector(str(tmp_path / "nowhere"))
    few = tiny_vision.mask2former(tmp_path / "few", num_classes=7)
    with pytest.raises(
        WeightsError, match="knows 7 classes; GenEval needs a detector of COCO's 80"
    ):
        load_detector(str(few))
    (few / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="cannot be loaded as Mask2FormerImageProcessorPil"):
        load_detector(str(few))
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        load_color_namer(str(other))


def test_a_missing_head_is_no_noise(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    source = tiny_vision.owlv2(tmp_path / "owl")
    tensors = load_file(source / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if not name.startswith("box_head.dense2")}
    assert len(kept) == len(tensors) - 2
    save_file(kept, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"has no box_head\.dense2\.bias that fits Owlv2"):
        load_detector(str(source))


def test_an_object_is_cut_out_on_grey():
    picture = np.full((4, 6, 3), 200, dtype=np.uint8)
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:4] = True
    crop = np.asarray(cut_out(Image.fromarray(picture), Found("x", 1.0, (1, 1, 5, 3), mask)))
    assert crop.shape == (2, 4, 3)
    assert crop[0, :, 0].tolist() == [0x99, 200, 200, 0x99]
    assert cut_out(Image.fromarray(picture), Found("x", 1.0, (2, 2, 2, 2))).size == (1, 1)


class FakeClip(torch.nn.Module):
    """Sees the mean red, green and blue; reads the colour's first letter."""

    def __init__(self) -> None:
        super().__init__()
        text = SimpleNamespace(max_position_embeddings=9)
        self.config, self.device = SimpleNamespace(text_config=text), torch.device("cpu")
        self.sentences: list[str] = []

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return SimpleNamespace(pooler_output=torch.nn.functional.one_hot(input_ids, 10).float())

    def get_image_features(self, pixel_values: torch.Tensor) -> Any:
        return SimpleNamespace(pooler_output=pixel_values)


def test_the_nearest_colour_is_named():
    model = FakeClip()

    def tokenizer(sentences: list[str], **_: Any) -> dict[str, torch.Tensor]:
        model.sentences = sentences
        found = [next(i for i, c in enumerate(COLORS) if f" {c}" in s) for s in sentences]
        return {"input_ids": torch.tensor(found), "attention_mask": torch.ones(len(found))}

    class Means(FakeProcessor):
        def __call__(self, images: Any, **_: Any) -> dict[str, torch.Tensor]:
            rows = torch.zeros(len(images), 10)
            for n, image in enumerate(images):
                r, g, b = np.asarray(image).reshape(-1, 3).mean(0)
                for color, value in (("red", r), ("green", g), ("blue", b)):
                    rows[n, COLORS.index(color)] = float(value)
            return {"pixel_values": rows}

    namer = ColorNamer(model, Means(), tokenizer, "fake")
    picture = np.zeros((4, 8, 3), dtype=np.uint8)
    picture[:, :4, 0] = picture[:, 4:, 2] = 255
    left, right = Found("cow", 1.0, (0, 0, 4, 4)), Found("cow", 1.0, (4, 0, 8, 4))
    assert namer(Image.fromarray(picture), [left, right]) == ["red", "blue"]
    assert model.sentences[:3] == [
        "a photo of a red cow", "a photo of a red-colored cow", "a photo of a red object"
    ]  # fmt: skip
    assert namer(Image.fromarray(picture), []) == []


def test_a_tiny_clip_names_a_colour(tmp_path: Path):
    namer = load_color_namer(str(tiny_vision.clip(tmp_path / "clip")))
    assert set(namer(noise(), [Found("cow", 1.0, (0, 0, 9, 9))])) <= set(COLORS)


def test_the_key_is_of_the_weights():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert weights_key(first) != weights_key(second)
    second.load_state_dict(first.state_dict())
    assert weights_key(first) == weights_key(second)


@pytest.mark.parametrize("kind", ["mask2former", "owlv2", "clip"])
def test_the_key_is_of_the_processor_s_settings_too(kind: str, tmp_path: Path):
    """Another size finds other objects with the same weights; another order of the same settings does not."""
    source = getattr(tiny_vision, kind)(tmp_path / kind)
    load = load_color_namer if kind == "clip" else load_detector
    file = source / "preprocessor_config.json"
    settings, key = json.loads(file.read_text()), load(str(source)).key
    assert len(key) == 64
    file.write_text(json.dumps(dict(reversed(settings.items()))))
    assert load(str(source)).key == key
    larger = {name: 2 * side for name, side in settings["size"].items()}
    file.write_text(json.dumps({**settings, "size": larger}))
    assert load(str(source)).key != key
    file.write_text(json.dumps({**settings, "image_mean": [0.5, 0.5, 0.4]}))
    assert load(str(source)).key != key


def test_names_are_coco_s_in_geneval_s_words():
    assert len(set(COCO_CLASSES)) == 80 and COCO_CLASSES[0] == "person"
    assert json.dumps(COCO_CLASSES[64:67]) == '["computer mouse", "tv remote", "computer keyboard"]'
