"""The last stage: a complete model directory, in 16 bits, from the outputs of training runs."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.config import to_json
from arm.errors import WeightsError
from arm.files import fill_folder, read_json, write_json
from arm.hf.files import write_transformers_files
from arm.model_directory import (
    PAINTER_FILES,
    TEXT_TOKENIZER_FILES,
    WEIGHT_ENTRIES,
    Defaults,
    copy_parts,
    copy_text_tokenizer,
)
from arm.models.backbone import load_backbone, save_backbone
from arm.models.backbone_config import backbone_directory
from arm.models.pretrained import Pretrained, load_siglip, load_vae, locate
from arm.models.tokenizer import VisualTokenizer
from arm.models.weights import load_tensors, save_tensors


@dataclass(frozen=True)
class ExportRun:
    """A model directory from the outputs of training runs, or around the other files of a model."""

    out: Path
    """The model directory to write."""
    pretrained: Pretrained
    tokenizer: Path
    """Output of a tokenizer run."""
    backbone: Path
    """Output of a language-model run, or a model directory."""
    detokenizers: tuple[Path, ...]
    """Outputs of detokenizer runs, `RUN/model`; the decoder is named after the folder RUN."""
    defaults: Defaults
    text_tokenizer: str = ""
    """Source of the backbone's text tokenizer; "" where the backbone uses the text tower's, as the world's do."""
    parts: Path | None = None
    """A model directory whose towers, tokenizers and decoders are copied in the place of all the above but
    `backbone` and `defaults`."""


def main(run: ExportRun) -> None:
    """Writes the model directory; of an existing one, the files are replaced once all new ones are complete.

    Raises WeightsError, and changes nothing, where a part is missing, naming the run that writes it.
    """
    for path in sources(run):
        if not path.is_file():
            raise WeightsError(
                f"weights are missing: {path} does not exist; first finish the run that writes "
                f"{path.parent}"
            )
    fill_folder(lambda folder: export(replace(run, out=folder)), run.out, WEIGHT_ENTRIES)
    size = sum(path.stat().st_size for path in run.out.rglob("*.safetensors"))
    print(f"{run.out}: {size / 1e6:.1f} MB of weights")


def sources(run: ExportRun) -> Iterator[Path]:
    """Files that the runs whose outputs are exported write at their end."""
    yield backbone_directory(run.backbone) / "config.json"
    text_tokenizers = [run.text_tokenizer] if run.text_tokenizer else []
    if run.parts is None:
        text_tokenizers.append(run.pretrained.siglip)
        yield run.tokenizer / "visual_tokenizer.json"
        yield run.tokenizer / "tokenizer.safetensors"
        yield locate(run.pretrained.siglip) / "config.json"
        if run.detokenizers:
            yield locate(run.pretrained.vae) / "config.json"
        yield from (source / name for source in run.detokenizers for name in PAINTER_FILES)
    yield from (
        locate(source) / name for source in text_tokenizers for name in TEXT_TOKENIZER_FILES
    )


def export(run: ExportRun) -> None:
    """Writes all files of the model directory to `run.out`, an empty folder."""
    model, vocab = load_backbone(run.backbone)
    save_backbone(to_16_bits(model), vocab, run.out)
    if run.parts is None:
        export_parts(run)
    else:
        copy_parts(run.parts, run.out)
    if run.text_tokenizer:
        copy_text_tokenizer(locate(run.text_tokenizer), run.out / "text_tokenizer")
    write_json(to_json(run.defaults), run.out / "arm.json")
    write_transformers_files(run.out)


def to_16_bits(module: nn.Module) -> Any:
    """The module in 16 bits: bf16 stays bf16, which has the wider range; everything else becomes fp16."""
    dtype = next(module.parameters()).dtype
    return module if dtype == torch.bfloat16 else module.half()


def export_parts(run: ExportRun) -> None:
    """Writes the visual tokenizer, the towers and the decoders."""
    siglip = load_siglip(run.pretrained.siglip, keep_bf16=True)
    VisualTokenizer.load(run.tokenizer, siglip.vision_model).save(run.out, torch.float16)
    to_16_bits(siglip).save_pretrained(run.out / "siglip")
    copy_text_tokenizer(locate(run.pretrained.siglip), run.out / "siglip")
    if run.detokenizers:
        to_16_bits(load_vae(run.pretrained.vae, keep_bf16=True)).save_pretrained(run.out / "vae")
    for source in run.detokenizers:
        export_painter(source, run.out / f"detokenizer_{source.parent.name}", run.pretrained.vae)


def export_painter(source: Path, target: Path, shared_vae: str) -> None:
    """Writes a decoder, and its image autoencoder where it was trained with another one than `shared_vae`."""
    target.mkdir(parents=True, exist_ok=True)
    for name in PAINTER_FILES[:2]:
        shutil.copyfile(source / name, target / name)
    tensors = load_tensors(source / "painter.safetensors")
    save_tensors({k: half(v) for k, v in tensors.items()}, target / "painter.safetensors")
    made_by = source.parent / "config.json"
    vae = read_json(made_by)["pretrained"]["vae"] if made_by.is_file() else shared_vae
    if vae != shared_vae:
        to_16_bits(load_vae(vae, keep_bf16=True)).save_pretrained(target / "vae")


def half(tensor: Tensor) -> Tensor:
    """A tensor in 16 bits; bf16 and integers unchanged."""
    keeps = tensor.dtype == torch.bfloat16 or not tensor.is_floating_point()
    return tensor if keeps else tensor.to(torch.float16)


def replace_backbone(
    source: str | Path, backbone: Path, out: Path, text_tokenizer: str | Path | None = None
) -> None:
    """Writes a complete model directory, or leaves `out` unchanged: another backbone, in 16 bits, and
    everything else of the model `source`.

    text_tokenizer: source of the new backbone's text tokenizer (None: the one of `source`).
    """
    model, vocab = load_backbone(backbone)

    def write(folder: Path) -> None:
        save_backbone(to_16_bits(model), vocab, folder)
        copy_parts(source, folder)
        if text_tokenizer is not None:
            copy_text_tokenizer(locate(text_tokenizer), folder / "text_tokenizer")
        write_transformers_files(folder)

    fill_folder(write, out, WEIGHT_ENTRIES)
