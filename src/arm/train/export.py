"""The last stage: one directory with everything that `Arm.from_pretrained` needs, in 16 bits."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from arm.config import to_json
from arm.models.backbone import load_backbone, save_backbone
from arm.models.pretrained import load_siglip, load_vae
from arm.models.tokenizer import VisualTokenizer
from arm.models.weights import load_tensors, save_tensors, write_json
from arm.pipeline import Defaults


@dataclass(frozen=True)
class ExportRun:
    """Where the trained parts lie, where the model goes, and how it is meant to be used."""

    out: Path
    standins: Path
    tokenizer: Path
    backbone: Path
    detokenizers: tuple[Path, ...]
    defaults: Defaults


MADE_FOR_ONE = ("backbone", "*.md", "scores.json", "decoders.json", "losses.json")
"""What a model directory holds that is not true of it with another backbone."""


def with_backbone(source: Path, backbone: Path, out: Path) -> None:
    """Writes the model directory `out`: `source` with another backbone, in 16 bits."""
    ignored = shutil.ignore_patterns(*MADE_FOR_ONE)
    shutil.copytree(source, out, dirs_exist_ok=True, ignore=ignored)
    model, vocab = load_backbone(backbone)
    save_backbone(model.half(), vocab, out / "backbone")


def main(run: ExportRun) -> None:
    """Writes the model directory; what was there is replaced file by file."""
    half = torch.float16
    siglip = load_siglip(run.standins / "siglip")
    VisualTokenizer.load(run.tokenizer, siglip.vision_model).save(run.out, half)
    siglip.half().save_pretrained(run.out / "siglip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run.standins / "siglip" / name, run.out / "siglip" / name)
    model, vocab = load_backbone(run.backbone)
    save_backbone(model.to(half), vocab, run.out / "backbone")
    if run.detokenizers:
        load_vae(run.standins / "vae").half().save_pretrained(run.out / "vae")
    for source in run.detokenizers:
        target = run.out / f"detokenizer_{source.parent.name}"
        target.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "sampler.json"):
            shutil.copyfile(source / name, target / name)
        save_tensors(
            load_tensors(source / "painter.safetensors"), target / "painter.safetensors", half
        )
    write_json(to_json(run.defaults), run.out / "arm.json")
    size = sum(path.stat().st_size for path in run.out.rglob("*.safetensors"))
    print(f"{run.out}: {size / 1e6:.1f} MB of weights")
