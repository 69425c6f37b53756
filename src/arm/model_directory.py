"""A model's directory: found by a shipped name or a path, its arm.json, and where its parts lie."""

import os
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from arm.config import from_json
from arm.errors import ConfigError, WeightsError, did_you_mean
from arm.files import is_file
from arm.generate import Guidance
from arm.models.detokenizer import Detokenizer, PixelDetokenizer
from arm.models.latent import LatentDetokenizer
from arm.models.pretrained import load_vae
from arm.models.tokenizer import VisualTokenizer
from arm.models.weights import read_json
from arm.sampling import Sampling

TEXT_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""What a text tokenizer consists of."""


@dataclass(frozen=True)
class Defaults:
    """How a model is meant to be used, from its arm.json. Grids are (height, width) in tokens.

    parts: the model, by shipped name or path, whose tokenizer, towers and decoders this one shares;
    "" where they lie beside its backbone.
    """

    scale: int
    grids: tuple[tuple[int, int], ...]
    sampling: Sampling
    edit_sampling: Sampling
    guidance: Guidance
    edit_guidance: Guidance
    detokenizer: str
    parts: str = ""

    def __post_init__(self) -> None:
        if self.scale < 1 or not self.grids or min(map(min, self.grids)) < 1:
            raise ValueError("scale and the sides of grids must be at least 1, and a grid there")


def shipped_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    root = Path(str(resources.files("arm") / "weights"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/arm.json"))}


def find_model(source: str | Path) -> Path:
    """The directory of a shipped model's name or of a path. Raises WeightsError for neither."""
    shipped = shipped_models()
    if str(source) in shipped:
        return shipped[str(source)]
    path = Path(source)
    if is_file(path / "arm.json"):
        return path
    if os.path.isdir(path):  # unlike Path.is_dir, no error for a name that no folder can have
        raise WeightsError(f"{path} is no model directory: it has no arm.json")
    hint = (
        did_you_mean(str(source), list(shipped))
        or f" Shipped models: {', '.join(shipped) or 'none'}."
    )
    raise WeightsError(f"there is no model '{source}': no shipped name and no directory.{hint}")


def load_defaults(directory: Path) -> Defaults:
    """A model directory's arm.json. Raises WeightsError where it is damaged."""
    try:
        return from_json(Defaults, read_json(directory / "arm.json"))
    except ConfigError as error:
        raise WeightsError(f"{directory / 'arm.json'}: {error}") from None


def parts_of(directory: Path) -> Path:
    """Where the parts of a model lie that may be shared. Raises WeightsError where they are missing."""
    defaults = load_defaults(directory)
    if not defaults.parts:
        return directory
    parts = find_model(defaults.parts)
    if load_defaults(parts).parts:
        raise WeightsError(f"{parts} shares the parts of another model: {directory} must name that")
    return parts


def text_tokenizer_directory(directory: Path) -> Path:
    """Where the text tokenizer of a model's backbone lies: beside it, or with the text tower, whose words
    it reads then. Raises WeightsError where the parts are missing.
    """
    own = directory / "backbone"
    return own if (own / TEXT_TOKENIZER_FILES[0]).is_file() else parts_of(directory) / "siglip"


def copy_text_tokenizer(source: Path, target: Path) -> None:
    """Copies a text tokenizer's files."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TEXT_TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)


def load_detokenizer(directory: Path, tokenizer: VisualTokenizer, name: str) -> Detokenizer:
    """The named decoder of a model directory. Raises WeightsError for an unknown or absent one."""
    latent = sorted(path.parent.name for path in directory.glob("detokenizer_*/config.json"))
    names = ["pixel", *(found.removeprefix("detokenizer_") for found in latent)]
    if name == "pixel":
        return PixelDetokenizer(tokenizer)
    if name not in names:
        raise WeightsError(
            f"{directory} has no decoder '{name}'; it has {', '.join(names)}.{did_you_mean(name, names)}"
        )
    painter = directory / f"detokenizer_{name}"
    own = painter / "vae"
    vae = load_vae(own if own.is_dir() else directory / "vae")
    # Where a GPU is to run it in 16 bits, twice the room for fp32 would be wasted on the way.
    return LatentDetokenizer.load(painter, tokenizer, vae, as_stored=torch.cuda.is_available())


def sampler_of(directory: Path, name: str) -> dict[str, float] | None:
    """Steps and guidance of the named decoder; None of one that has none, as `pixel`."""
    path = directory / f"detokenizer_{name}" / "sampler.json"
    return read_json(path) if path.is_file() else None
