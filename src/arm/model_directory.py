"""A model on disk: one directory that `Arm.from_pretrained` and transformers' Auto classes read.

    arm.json                                        how the model is meant to be used (`Defaults`)
    config.json, model*.safetensors                 the backbone, `ArmForCausalLM`
    generation_config.json                          defaults of transformers' `generate`
    tokenizer.json, tokenizer_config.json           the whole text table, with our special tokens
    chat_template.jinja, processor_config.json      `ArmProcessor`
    text_tokenizer/                                 the backbone's own text tokenizer, where it is not siglip's
    siglip/                                         towers and their text tokenizer
    visual_tokenizer.json, tokenizer.safetensors    the visual tokenizer
    vae/, detokenizer_*/                            image autoencoder and latent decoders

A directory is complete, so it can be moved and copied. Earlier releases had the backbone in `backbone/` and
could name another model in arm.json that has the other files (`parts`); their exports for transformers had
the other files in `parts/`. `ModelFiles` finds the files in all three, so that they can still be read.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from arm.config import from_json, to_json
from arm.errors import ConfigError, WeightsError, did_you_mean
from arm.files import is_file, link_or_copy, read_json_object, write_json
from arm.generate import Guidance
from arm.models.backbone_config import backbone_directory
from arm.models.detokenizer import Detokenizer, PixelDetokenizer
from arm.models.latent import LatentDetokenizer
from arm.models.pretrained import load_vae
from arm.models.tokenizer import VisualTokenizer
from arm.sampling import Sampling

TEXT_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""What a text tokenizer consists of."""

BACKBONE_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json")

TRANSFORMERS_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "processor_config.json",
)
"""What transformers needs beside the backbone; made anew from the other files."""

_VAE_FILES = (
    "config.json",
    "diffusion_pytorch_model*.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
PAINTER_FILES = ("config.json", "sampler.json", "painter.safetensors")

WEIGHT_ENTRIES = (
    "model*.safetensors",
    "model.safetensors.index.json",
    "backbone",
    "text_tokenizer",
)
"""Entries of a model directory that must not outlive the model that they were written with."""

PART_FILES = (
    "visual_tokenizer.json",
    "tokenizer.safetensors",
    *(f"siglip/{name}" for name in (*BACKBONE_FILES, *TEXT_TOKENIZER_FILES)),
    *(f"vae/{name}" for name in _VAE_FILES),
    *(f"detokenizer_*/{name}" for name in PAINTER_FILES),
    *(f"detokenizer_*/vae/{name}" for name in _VAE_FILES),
)
"""Towers, visual tokenizer and decoders, as patterns. Nothing else in a model directory is copied."""


@dataclass(frozen=True)
class Defaults:
    """How a model is meant to be used: its arm.json."""

    scale: int
    """Enlargement of the built-in world's pictures; at 1 they have 48 to 64 pixels a side."""
    grids: tuple[tuple[int, int], ...]
    """(height, width) in tokens of the pictures that the model was trained on; the first is the default."""
    sampling: Sampling
    """For drawing."""
    edit_sampling: Sampling
    guidance: Guidance
    edit_guidance: Guidance
    detokenizer: str
    """The default decoder: "pixel", or the name of a `detokenizer_*` folder."""

    def __post_init__(self) -> None:
        if self.scale < 1 or not self.grids or min(map(min, self.grids)) < 1:
            raise ValueError("scale and the sides of grids must be at least 1, and a grid there")


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of one model lie."""

    settings: Path
    """arm.json."""
    backbone: Path
    """The folder of the backbone's config.json and weights."""
    parts: Path
    """The folder of the towers, the visual tokenizer and the decoders."""
    text_tokenizer: Path
    """The folder of the backbone's text tokenizer."""

    @property
    def has_own_text_tokenizer(self) -> bool:
        """Whether the backbone's text tokenizer is another one than the text tower's."""
        return self.text_tokenizer != self.parts / "siglip"

    @property
    def is_complete(self) -> bool:
        """Whether all files lie in one directory; not so in models of earlier releases."""
        return self.settings.parent == self.backbone == self.parts


def shipped_models() -> dict[str, Path]:
    """The directories of the models that come with the package, by name."""
    root = Path(str(resources.files("arm") / "weights"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/arm.json"))}


def find_model(source: str | Path) -> Path:
    """The directory of a model, by shipped name or path. Raises WeightsError where there is none."""
    shipped = shipped_models()
    if str(source) in shipped:
        return shipped[str(source)]
    path = Path(source)
    if is_file(path / "arm.json") or is_file(path / "parts/arm.json"):
        return path
    if os.path.isdir(path):  # unlike Path.is_dir, no error for a name that no folder can have
        saved_alone = is_file(path / "config.json") and " (transformers: save its processor too)"
        raise WeightsError(f"{path} is no model directory: it has no arm.json{saved_alone or ''}")
    hint = (
        did_you_mean(str(source), list(shipped))
        or f" Shipped models: {', '.join(shipped) or 'none'}."
    )
    raise WeightsError(f"there is no model '{source}': no shipped name and no directory.{hint}")


def model_files(source: str | Path) -> ModelFiles:
    """The files of a model, by shipped name or path. Raises WeightsError where they are missing."""
    directory = find_model(source)
    exported = not is_file(directory / "arm.json")  # by an earlier release, for transformers
    parts = directory / "parts" if exported else directory
    settings = parts / "arm.json"
    backbone = backbone_directory(directory)
    own = (
        [parts / "text_tokenizer", backbone]
        if backbone != directory
        else [parts / "text_tokenizer"]
    )
    if named := read_json_object(settings).get("parts"):
        other = find_model(str(named))
        if read_json_object(other / "arm.json").get("parts"):
            raise WeightsError(
                f"{other} shares the parts of another model: {directory} must name that"
            )
        parts = other
    text_tokenizer = next(
        (path for path in own if (path / TEXT_TOKENIZER_FILES[0]).is_file()), parts / "siglip"
    )
    return ModelFiles(settings, backbone, parts, text_tokenizer)


def load_defaults(source: str | Path) -> Defaults:
    """A model's arm.json. Raises WeightsError where it is damaged."""
    directory = find_model(source)
    path = directory / "arm.json"
    path = path if is_file(path) else directory / "parts/arm.json"
    data = {key: value for key, value in read_json_object(path).items() if key != "parts"}
    try:
        return from_json(Defaults, data)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None


# Copies


def copy_files(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Copies the files of a model that match `patterns` to the same places below another folder.

    Weights are hard-linked where the file system allows it. Raises WeightsError for a symbolic link, which
    might lead out of the model.
    """
    for path in _matching(source, patterns):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            link_or_copy(path.resolve(), copy)
        else:
            shutil.copyfile(path, copy)


def _matching(source: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Files below a folder, in order, each a regular file of its own or of the hub's cache."""
    root = source.resolve()
    blobs = root.parents[1] / "blobs" if root.parent.name == "snapshots" else None
    for path in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        resolved = path.resolve()
        if resolved.parent != blobs and resolved != root / path.relative_to(source):
            raise WeightsError(f"{path} is a link to {resolved}; put the file itself there")
        if resolved.is_file():
            yield path


def copy_parts(source: str | Path, directory: Path) -> None:
    """Copies what a model has beside its backbone: arm.json, towers, tokenizers and decoders.

    Raises WeightsError as `copy_files`.
    """
    files = model_files(source)
    copy_files(files.parts, directory, PART_FILES)
    if files.has_own_text_tokenizer:
        copy_files(files.text_tokenizer, directory / "text_tokenizer", TEXT_TOKENIZER_FILES)
    write_json(to_json(load_defaults(source)), directory / "arm.json")


def copy_text_tokenizer(source: Path, target: Path) -> None:
    """Copies a text tokenizer's files into a folder, which is created."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TEXT_TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)


# Decoders


def load_detokenizer(directory: Path, tokenizer: VisualTokenizer, name: str) -> Detokenizer:
    """A decoder by name, from the folder of a model's parts. Raises WeightsError for an unknown one."""
    latent = sorted(path.parent.name for path in directory.glob("detokenizer_*/config.json"))
    names = ["pixel", *(folder.removeprefix("detokenizer_") for folder in latent)]
    if name == "pixel":
        return PixelDetokenizer(tokenizer)
    if name not in names:
        raise WeightsError(
            f"{directory} has no decoder '{name}'; it has {', '.join(names)}.{did_you_mean(name, names)}"
        )
    painter = directory / f"detokenizer_{name}"
    own = painter / "vae"
    vae = load_vae(own if own.is_dir() else directory / "vae")
    # For a GPU, which computes in 16 bits, fp32 weights would need twice the memory on the way.
    return LatentDetokenizer.load(painter, tokenizer, vae, as_stored=torch.cuda.is_available())


def sampler_of(directory: Path, name: str) -> dict[str, float] | None:
    """Steps and guidance of a decoder; None for one without such settings, as `pixel`."""
    path = directory / f"detokenizer_{name}" / "sampler.json"
    return read_json_object(path) if path.is_file() else None
