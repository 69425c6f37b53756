"""The last stage: one directory with everything that `Arm.from_pretrained` needs, in 16 bits."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.config import to_json
from arm.errors import WeightsError
from arm.files import fill_folder
from arm.model_directory import (
    TEXT_TOKENIZER_FILES,
    Defaults,
    copy_text_tokenizer,
    load_defaults,
    parts_of,
    shipped_models,
    text_tokenizer_directory,
)
from arm.models.backbone import load_backbone, save_backbone
from arm.models.pretrained import Pretrained, load_siglip, load_vae
from arm.models.pretrained_files import locate
from arm.models.tokenizer import VisualTokenizer
from arm.models.weights import load_tensors, read_json, save_tensors, write_json

PAINTER_FILES = ("config.json", "sampler.json", "painter.safetensors")


@dataclass(frozen=True)
class ExportRun:
    """Where the trained parts lie, where the model goes, and how it is meant to be used. With
    `defaults.parts` the backbone alone is written.

    text_tokenizer: where the backbone's tokenizer lies, which goes beside it; "" where the backbone
    reads the words of the text tower, as the world's do.
    """

    out: Path
    pretrained: Pretrained
    tokenizer: Path
    backbone: Path
    detokenizers: tuple[Path, ...]
    defaults: Defaults
    text_tokenizer: str = ""


def with_backbone(source: Path, backbone: Path, out: Path) -> None:
    """Writes the model directory `out`, whole or not at all: another backbone in 16 bits, and the parts of
    `source`.
    """
    parts, words = parts_of(source), text_tokenizer_directory(source)
    name = next((n for n, path in shipped_models().items() if path == parts), str(parts.resolve()))
    model, vocab = load_backbone(backbone)

    def write(folder: Path) -> None:
        save_backbone(halved(model), vocab, folder / "backbone")
        if words == source / "backbone":
            copy_text_tokenizer(words, folder / "backbone")
        write_json(to_json(replace(load_defaults(source), parts=name)), folder / "arm.json")

    fill_folder(write, out)


def main(run: ExportRun) -> None:
    """Writes the model directory. The parts of one that is there are replaced when all new ones are whole.

    Raises WeightsError that names a part's run that has not finished; what is there then stays.
    """
    for path in sources(run):
        if not path.is_file():
            raise WeightsError(
                f"weights are missing: {path} does not exist; first finish the run that writes "
                f"{path.parent}"
            )
    fill_folder(lambda folder: export(replace(run, out=folder)), run.out)
    size = sum(path.stat().st_size for path in run.out.rglob("*.safetensors"))
    print(f"{run.out}: {size / 1e6:.1f} MB of weights")


def sources(run: ExportRun) -> Iterator[Path]:
    """A file or more of each part, as its run writes it at its end."""
    yield run.backbone / "vocab.json"
    words = [run.text_tokenizer] if run.text_tokenizer else []
    if not run.defaults.parts:
        words.append(run.pretrained.siglip)
        yield run.tokenizer / "visual_tokenizer.json"
        yield run.tokenizer / "tokenizer.safetensors"
        yield locate(run.pretrained.siglip) / "config.json"
        if run.detokenizers:
            yield locate(run.pretrained.vae) / "config.json"
        yield from (source / name for source in run.detokenizers for name in PAINTER_FILES)
    yield from (locate(source) / name for source in words for name in TEXT_TOKENIZER_FILES)


def export(run: ExportRun) -> None:
    """All files of the model directory, one after the other."""
    model, vocab = load_backbone(run.backbone)
    save_backbone(halved(model), vocab, run.out / "backbone")
    if run.text_tokenizer:
        copy_text_tokenizer(locate(run.text_tokenizer), run.out / "backbone")
    write_json(to_json(run.defaults), run.out / "arm.json")
    if not run.defaults.parts:
        export_parts(run)


def halved(module: nn.Module) -> Any:
    """The module in 16 bits: bf16 stays bf16, whose range is wider, all else becomes fp16."""
    dtype = next(module.parameters()).dtype
    return module if dtype == torch.bfloat16 else module.half()


def export_parts(run: ExportRun) -> None:
    """Tokenizer, towers and decoders."""
    siglip = load_siglip(run.pretrained.siglip, keep_bf16=True)
    VisualTokenizer.load(run.tokenizer, siglip.vision_model).save(run.out, torch.float16)
    halved(siglip).save_pretrained(run.out / "siglip")
    copy_text_tokenizer(locate(run.pretrained.siglip), run.out / "siglip")
    if run.detokenizers:
        halved(load_vae(run.pretrained.vae, keep_bf16=True)).save_pretrained(run.out / "vae")
    for source in run.detokenizers:
        export_painter(source, run.out / f"detokenizer_{source.parent.name}", run.pretrained.vae)


def export_painter(source: Path, target: Path, shared_vae: str) -> None:
    """A decoder; its autoencoder too, where its run had another one than the decoders share."""
    target.mkdir(parents=True, exist_ok=True)
    for name in PAINTER_FILES[:2]:
        shutil.copyfile(source / name, target / name)
    tensors = load_tensors(source / "painter.safetensors")
    save_tensors({k: half(v) for k, v in tensors.items()}, target / "painter.safetensors")
    made_by = source.parent / "config.json"
    vae = read_json(made_by)["pretrained"]["vae"] if made_by.is_file() else shared_vae
    if vae != shared_vae:
        halved(load_vae(vae, keep_bf16=True)).save_pretrained(target / "vae")


def half(tensor: Tensor) -> Tensor:
    keeps = tensor.dtype == torch.bfloat16 or not tensor.is_floating_point()
    return tensor if keeps else tensor.to(torch.float16)
