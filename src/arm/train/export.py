"""The last stage: one directory with everything that `Arm.from_pretrained` needs, in 16 bits."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from arm.config import to_json
from arm.models.backbone import load_backbone, save_backbone
from arm.models.pretrained import load_siglip, load_vae
from arm.models.tokenizer import VisualTokenizer
from arm.models.weights import load_tensors, save_tensors, write_json
from arm.pipeline import Defaults, load_defaults, parts_of, shipped_models


@dataclass(frozen=True)
class ExportRun:
    """Where the trained parts lie, where the model goes, and how it is meant to be used. With
    `defaults.parts` the backbone alone is written.
    """

    out: Path
    standins: Path
    tokenizer: Path
    backbone: Path
    detokenizers: tuple[Path, ...]
    defaults: Defaults


def with_backbone(source: Path, backbone: Path, out: Path) -> None:
    """Writes the model directory `out`: another backbone in 16 bits, and the parts of `source`."""
    parts = parts_of(source)
    name = next((n for n, path in shipped_models().items() if path == parts), str(parts.resolve()))
    model, vocab = load_backbone(backbone)
    save_backbone(model.half(), vocab, out / "backbone")
    write_json(to_json(replace(load_defaults(source), parts=name)), out / "arm.json")


def main(run: ExportRun) -> None:
    """Writes the model directory; what was there is replaced file by file."""
    half = torch.float16
    model, vocab = load_backbone(run.backbone)
    save_backbone(model.to(half), vocab, run.out / "backbone")
    write_json(to_json(run.defaults), run.out / "arm.json")
    if not run.defaults.parts:
        export_parts(run, half)
    size = sum(path.stat().st_size for path in run.out.rglob("*.safetensors"))
    print(f"{run.out}: {size / 1e6:.1f} MB of weights")


def export_parts(run: ExportRun, half: torch.dtype) -> None:
    """Tokenizer, towers and decoders."""
    siglip = load_siglip(run.standins / "siglip")
    VisualTokenizer.load(run.tokenizer, siglip.vision_model).save(run.out, half)
    siglip.half().save_pretrained(run.out / "siglip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run.standins / "siglip" / name, run.out / "siglip" / name)
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
