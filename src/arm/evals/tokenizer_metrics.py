"""How much of real pictures survives the tokenizer: PSNR, SSIM, rFID, the codebook's use, zero-shot classes.

A folder of pictures of any kind; where they lie in sub-folders, a picture's class is the name of the folder
it is in (or what `classes.json` calls that folder). Each picture is cut and scaled to the model's nearest grid, encoded,
decoded and compared with what was encoded. The paper reports PSNR, and ImageNet zero-shot through z_q.

rFID is the Frechet distance (arXiv 1706.08500) between features of the pictures and of their reconstructions
(arXiv 2012.09841 made it the measure of tokenizers). It depends on the features: a figure can only be compared
with one by the same extractor, and published ones are by InceptionV3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F

from arm.data.images import fit_to_grid, open_image, to_bytes, to_float
from arm.errors import DataError, InputError, WeightsError
from arm.evals.benchmarks.files import read_json_object
from arm.evals.reconstruction import psnr, ssim, usage
from arm.evals.sheet import sheet
from arm.evals.statistics import mean_score
from arm.evals.vision import model_type, open_model, open_part, weights_key
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.models.text import TextTokenizer, text_embeddings
from arm.pipeline import Arm

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
TEMPLATES = (
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.",
    "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
"""The seven of CLIP's eighty sentences that its authors recommend for ImageNet."""
BATCH = 32
RFID_NOTE = (
    "rFID can be compared only with figures by the very same extractor and number of pictures; "
    "published ones are by InceptionV3 on 50,000"
)


@dataclass(frozen=True)
class Extractor:
    """A vision model whose features rFID is taken over: its pooled output, or the mean of its tokens."""

    model: Any
    processor: Any
    name: str
    key: str

    @torch.no_grad()
    def __call__(self, pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "n d"]:
        images = [Pillow.fromarray(p) for p in pictures]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        out = self.model(pixel_values=pixels.to(next(self.model.parameters()).device))
        pooled = getattr(out, "pooler_output", None)
        features = out.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1)
        return features.double().cpu().numpy()


def load_extractor(source: str) -> Extractor:
    """A vision model from a directory or a hub id; of a model with a text tower, its vision tower.

    Raises WeightsError for anything else.
    """
    from transformers import AutoModel

    # Not from the top: there 5.17 puts one that asks for torchvision in its place.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    directory, kind = model_type(source)
    model = open_model(AutoModel, directory)
    model = getattr(model, "vision_model", model)
    if model.main_input_name != "pixel_values":
        raise WeightsError(
            f"{source} is no vision model: its config.json says '{kind}'; give one like facebook/dinov2-base"
        )
    return Extractor(model, open_part(AutoImageProcessor, directory), source, weights_key(model))


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 sqrt(A B)) of the covariances A and B of two sets of features.

    Raises ValueError for fewer than two rows.
    """
    from scipy.linalg import sqrtm

    if len(a) < 2 or len(b) < 2:
        raise ValueError("a covariance needs at least two pictures")
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = np.asarray(sqrtm(first @ second))
    if not np.isfinite(root).all():  # singular: fewer pictures than features
        near = np.eye(len(first)) * 1e-6
        root = np.asarray(sqrtm((first + near) @ (second + near)))
    apart = a.mean(0) - b.mean(0)
    return float(apart @ apart + np.trace(first + second) - 2 * np.trace(root).real)


@dataclass(frozen=True)
class Folder:
    """Pictures, and the class of each where all of them have one; "" where they have none. classes: those
    of the whole folder, also where these pictures are a sample of it.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]


def find_pictures(root: Path, limit: int | None = None) -> Folder:
    """All pictures below a folder, or `limit` of them spread over it, in order of their paths.

    Raises InputError where there is none, DataError for a damaged `classes.json`.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder of pictures")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise InputError(f"{root} holds no picture ({', '.join(sorted(SUFFIXES))})")
    names = _class_names(root / "classes.json")
    folders = [p.parent.name if p.parent != root else "" for p in paths]
    labels = [names.get(f, f.replace("_", " ")) for f in folders]
    if not all(labels):
        labels = [""] * len(paths)
    classes = tuple(sorted(set(labels) - {""}))
    count = min(limit or len(paths), len(paths))
    places = np.unique(np.linspace(0, len(paths) - 1, count).round().astype(int))
    return Folder(tuple(paths[p] for p in places), tuple(labels[p] for p in places), classes)


def _class_names(path: Path) -> Mapping[str, str]:
    """What a file calls the folders, nothing where there is no file. Raises DataError."""
    names = read_json_object(path) if path.is_file() else {}
    for folder, name in names.items():
        if not isinstance(name, str):
            raise DataError(f"{path}: the name of '{folder}' is no text")
    return names


@dataclass
class Collected:
    """What is gathered over all pictures, in their order."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    codes: list[NDArray[np.int64]] = field(default_factory=list)
    embedded: list[Tensor] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    before: list[NDArray[np.float64]] = field(default_factory=list)
    after: list[NDArray[np.float64]] = field(default_factory=list)


def collect(
    arm: Arm, batch: Sequence[UInt8[np.ndarray, "h w 3"]], extractor: Extractor | None, into: Collected
) -> None:  # fmt: skip
    """Adds pictures of one size to what is gathered."""
    device = next(arm.tokenizer.parameters()).device
    codes_BHW = arm.tokenizer.encode(to_float(np.stack(batch)).to(device))
    painted = to_bytes(arm.detokenizer.decode(codes_BHW))
    for source, output in zip(batch, painted, strict=True):
        into.psnr.append(psnr(source, output))
        into.ssim.append(ssim(source, output))
    into.codes.extend(codes_BHW.cpu().numpy())
    pooled = arm.tokenizer.pool(arm.tokenizer.dequantize(codes_BHW))
    into.embedded.extend(F.normalize(pooled, dim=-1).detach().float().cpu())
    if extractor is not None:
        into.before.extend(extractor(batch))
        into.after.extend(extractor(list(painted)))


def class_texts(text_tokenizer: TextTokenizer, name: str, known_words: bool) -> list[str]:
    """A class in every sentence. known_words: without the words that the tokenizer does not know.

    Raises InputError for an unknown word, and for a name of which no word is known.
    """
    if known_words:
        name = text_tokenizer.known(name)
        if not name:
            raise InputError("no word of it is known")
    sentences = [template.format(name) for template in TEMPLATES]
    if known_words:
        return [text_tokenizer.known(sentence) for sentence in sentences]
    for sentence in sentences:
        text_tokenizer.ids(sentence)
    return sentences


def zero_shot(
    arm: Arm,
    embedded: Sequence[Tensor],
    labels: Sequence[str],
    classes: Sequence[str],
    known_words: bool,
) -> dict[str, Any]:
    """Whether each picture, seen through its codes, is nearest to its class's sentences among those of
    all classes.
    """
    siglip = load_siglip(arm.directory / "siglip")
    text_tokenizer = TextTokenizer(load_text_tokenizer(arm.directory / "siglip"))
    rows = []
    for name in classes:
        try:
            texts = class_texts(text_tokenizer, name, known_words)
        except InputError as error:
            return {"left_out": f"class '{name}': {error}"}
        with torch.no_grad():
            each = F.normalize(text_embeddings(siglip, text_tokenizer.tokenizer, texts), dim=-1)
        rows.append(F.normalize(each.mean(0), dim=-1).cpu())
    guesses = (torch.stack(list(embedded)) @ torch.stack(rows).T).argmax(-1).tolist()
    right = [float(classes[g] == label) for g, label in zip(guesses, labels, strict=True)]
    return {"top1": mean_score(right).to_dict(), "classes": len(classes)}


def evaluate(
    arm: Arm,
    root: Path,
    extractor: Extractor | None = None,
    limit: int | None = None,
    known_words: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """All scores of a folder as plain data; means carry 95 % intervals. limit: so many pictures, spread over
    the folder. Broken pictures are passed over and named.

    Raises InputError where no picture is left.
    """
    folder = find_pictures(root, limit)
    found, broken = Collected(), dict[str, str]()
    waiting: dict[tuple[int, ...], list[tuple[NDArray[np.uint8], str]]] = {}

    def flush(shape: tuple[int, ...]) -> None:
        collect(arm, [p for p, _ in waiting[shape]], extractor, found)
        found.labels.extend(label for _, label in waiting.pop(shape))

    for number, (path, label) in enumerate(zip(folder.paths, folder.labels, strict=True), 1):
        try:
            picture = fit_to_grid(open_image(path), arm.defaults.grids, arm.tokenizer.patch)
        except InputError as error:
            broken[str(path)] = str(error)
            continue
        waiting.setdefault(picture.shape, []).append((picture, label))
        if len(waiting[picture.shape]) == BATCH:
            flush(picture.shape)
        if number % 256 == 0:
            report(f"{number:,} of {len(folder.paths):,} pictures")
    for shape in list(waiting):
        flush(shape)
    if not found.psnr:
        raise InputError(f"{root}: none of its {len(broken):,} pictures can be read")
    used, perplexity = usage(found.codes, arm.tokenizer.fsq.num_codes)
    result: dict[str, Any] = {
        "pictures": len(found.psnr),
        "broken": len(broken),
        "psnr": mean_score(found.psnr).to_dict(),
        "ssim": mean_score(found.ssim).to_dict(),
        "codes": {"used": used, "perplexity": perplexity, "drawn": sum(c.size for c in found.codes)},
        "passed_over": broken,
    }  # fmt: skip
    if extractor is not None and len(found.psnr) > 1:
        before, after = np.stack(found.before), np.stack(found.after)
        result["rfid"] = {
            "distance": frechet_distance(before, after),
            "extractor": extractor.name,
            "extractor_hash": extractor.key[:16],
            "features": before.shape[1],
            "pictures": len(before),
        }
    if folder.classes:
        result["zero_shot"] = zero_shot(
            arm, found.embedded, found.labels, folder.classes, known_words
        )
    return result


def reconstruction_sheet(arm: Arm, root: Path, count: int = 10) -> Pillow.Image:
    """At most `count` pictures of a folder, spread over it, as the model sees them, and below each what is
    painted from its codes. Pictures that are broken or of another shape than the first are left out; where
    all of these are broken, the folder's first whole ones are shown.

    Raises InputError where there is none.
    """
    pictures = _of_one_shape(arm, find_pictures(root, count).paths, count)
    pictures = pictures or _of_one_shape(arm, find_pictures(root).paths, count)
    if not pictures:
        raise InputError(f"{root}: none of its pictures can be read")
    device = next(arm.tokenizer.parameters()).device
    codes_BHW = arm.tokenizer.encode(to_float(np.stack(pictures)).to(device))
    painted = to_bytes(arm.detokenizer.decode(codes_BHW))
    return sheet([pictures, list(painted)], ("picture", "from its codes"), margin=120)


def _of_one_shape(arm: Arm, paths: Sequence[Path], count: int) -> list[NDArray[np.uint8]]:
    """The first `count` pictures that can be read and have the shape of the first, as the model sees them."""
    found: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            picture = fit_to_grid(open_image(path), arm.defaults.grids, arm.tokenizer.patch)
        except InputError:
            continue
        if not found or picture.shape == found[0].shape:
            found.append(picture)
        if len(found) == count:
            break
    return found
