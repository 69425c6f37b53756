"""How much of a picture survives the tokens: exactness, PSNR, zero-shot accuracy, codebook usage."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional as F

from arm.data.captioned import PictureBatch
from arm.data.images import to_bytes
from arm.domain import Canvas, PictureDomain, Referee, Split
from arm.models.detokenizer import Detokenizer, PixelDetokenizer
from arm.models.text import (
    has_known_word,
    same_texts,
    text_embeddings,
    tower_embeddings,
    tower_ids,
)
from arm.models.tokenizer import VisualTokenizer

ZERO_SHOT_TEMPLATES = ("{}", "a picture of {}", "an image of {}", "show {}", "draw {}")
BATCH = 32


@dataclass(frozen=True)
class Reconstruction:
    """Scores of N pictures after encoding and decoding, with their codes."""

    exact: NDArray[np.bool_]
    """(N,) Whether the referee recognizes the very content of the picture."""
    clear: NDArray[np.bool_]
    """(N,) Whether it does so beyond doubt."""
    psnr: NDArray[np.float64]
    """(N,) In dB."""
    ssim: NDArray[np.float64]
    """(N,) At most 1."""
    codes: tuple[NDArray[np.int64], ...]
    """N grids (H, W)."""
    images: tuple[NDArray[np.uint8], ...]
    """The N pictures, uint8 RGB."""
    reconstructions: tuple[NDArray[np.uint8], ...]
    """What was decoded, uint8 RGB."""


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB; capped at 100 for equal ones."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else min(100.0, 10 * math.log10(255**2 / error))


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Structural similarity of two pictures; skimage's window of 7 pixels, or less for smaller ones."""
    window = min(7, (min(a.shape[:2]) - 1) | 1)
    found = structural_similarity(a, b, win_size=window, channel_axis=2, data_range=255)
    return np.asarray(found).item()


def picture_batches(
    domain: PictureDomain,
    split: Split,
    count: int,
    canvas: Canvas,
    seed: int,
    singles: float = 0.0,
    twins: bool = False,
) -> list[PictureBatch]:
    """`count` pictures of a split in batches of one grid each."""
    return [
        domain.pictures(
            split, seed, i, min(BATCH, count - i * BATCH), canvas, singles=singles, twins=twins
        )
        for i in range(math.ceil(count / BATCH))
    ]


def reconstruct(
    tokenizer: VisualTokenizer,
    decoder: Detokenizer,
    batches: Sequence[PictureBatch],
    referee: Referee,
) -> Reconstruction:
    """Encodes and decodes the pictures and compares what comes back with them."""
    device = next(tokenizer.parameters()).device
    exact, clear, ratios, structure = [], [], [], []
    codes, images, painted = [], [], []
    for batch in batches:
        codes_BHW = tokenizer.encode(batch.images.to(device))
        outputs = to_bytes(decoder.decode(codes_BHW))
        for truth, source, output in zip(
            batch.truths, to_bytes(batch.images), outputs, strict=True
        ):
            recognition = referee.recognize(truth, output)
            exact.append(recognition.exact)
            clear.append(recognition.clear)
            ratios.append(psnr(source, output))
            structure.append(ssim(source, output))
            images.append(source)
            painted.append(output)
        codes.extend(codes_BHW.cpu().numpy())
    return Reconstruction(
        np.array(exact),
        np.array(clear),
        np.array(ratios),
        np.array(structure),
        tuple(codes),
        tuple(images),
        tuple(painted),
    )


@torch.no_grad()
def class_embeddings(
    siglip: Any, text_tokenizer: Any, names: Sequence[str]
) -> Float[Tensor, "c d"]:
    """The mean normalised text embedding of each name over the templates."""
    rows = []
    for name in names:
        texts = [template.format(name) for template in ZERO_SHOT_TEMPLATES]
        rows.append(F.normalize(text_embeddings(siglip, text_tokenizer, texts), dim=-1).mean(0))
    return F.normalize(torch.stack(rows), dim=-1)


@torch.no_grad()
def zero_shot(
    pooled: Callable[[Tensor], Tensor],
    siglip: Any,
    text_tokenizer: Any,
    batches: Sequence[PictureBatch],
    domain: PictureDomain,
) -> NDArray[np.bool_]:
    """Whether the text nearest to each picture of one thing is that of its class, of the domain's classes.

    pooled: pictures (B, 3, H, W) -> embeddings (B, D) in the text tower's space.
    """
    classes = class_embeddings(siglip, text_tokenizer, domain.class_names)
    right = []
    for batch in batches:
        embedded = F.normalize(pooled(batch.images.to(siglip.device)), dim=-1)
        guesses = (embedded @ classes.T).argmax(-1).tolist()
        right += [
            guess == domain.class_of(truth)
            for guess, truth in zip(guesses, batch.truths, strict=True)
        ]
    return np.array(right)


def pooled_codes(tokenizer: VisualTokenizer) -> Callable[[Tensor], Tensor]:
    """The embedding of a picture through its codes: pooled z_q."""
    return lambda images: tokenizer.pool(tokenizer.dequantize(tokenizer.encode(images)))


def locality(tokenizer: VisualTokenizer, batches: Sequence[PictureBatch]) -> NDArray[np.float64]:
    """Of each picture with a changed twin: the share of the untouched patches that keep their code."""
    device = next(tokenizer.parameters()).device
    kept = []
    for batch in batches:
        if batch.twins is None or batch.shared is None:
            raise ValueError("locality is measured on batches with twins")
        pairs = (
            tokenizer.encode(x.to(device)).flatten(1).cpu() for x in (batch.images, batch.twins)
        )
        same = torch.eq(*pairs)
        for same_N, shared_N in zip(same, batch.shared, strict=True):
            if shared_N.any() and not shared_N.all():
                kept.append(float(same_N[shared_N].float().mean()))
    return np.array(kept)


def fidelity(
    tokenizer: VisualTokenizer, decoder: Detokenizer, batches: Iterable[PictureBatch]
) -> dict[str, float]:
    """How near any pictures are to themselves after encode and decode; no reader is asked."""
    ratios, structure, codes = [], [], []
    for batch in batches:
        codes_BHW = tokenizer.encode(batch.images)
        codes.extend(codes_BHW.cpu().numpy())
        for source, output in zip(
            to_bytes(batch.images), to_bytes(decoder.decode(codes_BHW)), strict=True
        ):
            ratios.append(psnr(source, output))
            structure.append(ssim(source, output))
    used, perplexity = usage(codes, tokenizer.fsq.num_codes)
    return {
        "psnr": float(np.mean(ratios)),
        "ssim": float(np.mean(structure)),
        "codes_used": used,
        "perplexity": perplexity,
        "pictures": float(len(ratios)),
    }


@torch.no_grad()
def retrieval(
    tokenizer: VisualTokenizer, siglip: Any, text_tokenizer: Any, batches: Iterable[PictureBatch]
) -> float | None:
    """Share of pictures whose own caption is nearest to their pooled z_q among their batch's captions;
    one that reads the same is right too. `words` is the text tower's tokenizer; pictures of whose caption
    it knows no word are left out; None where none is left.
    """
    right: list[bool] = []
    for batch in batches:
        ids = tower_ids(siglip, text_tokenizer, batch.captions)
        told = has_known_word(text_tokenizer, ids)
        ids, images = ids[told], batch.images[told.cpu()]
        if len(ids):
            pooled = F.normalize(pooled_codes(tokenizer)(images), dim=-1)
            texts = F.normalize(tower_embeddings(siglip, ids), dim=-1)
            guesses = (pooled @ texts.T).argmax(-1)
            right += same_texts(ids, ids)[torch.arange(len(ids)), guesses.cpu()].tolist()
    return float(np.mean(right)) if right else None


def usage(codes: Sequence[NDArray[np.int64]], num_codes: int) -> tuple[float, float]:
    """Share of the codebook used at least once, and exp(entropy) / num_codes."""
    counts = np.bincount(np.concatenate([c.ravel() for c in codes]), minlength=num_codes)
    p = counts[counts > 0] / counts.sum()
    return float((counts > 0).mean()), float(np.exp(-(p * np.log(p)).sum()) / num_codes)


def quick_scores(
    tokenizer: VisualTokenizer,
    siglip: Any,
    text_tokenizer: Any,
    domain: PictureDomain,
    canvas: Canvas,
    count: int,
    seed: int = 77,
) -> dict[str, float]:
    """The numbers to watch while a tokenizer trains, on `count` pictures of the split dev."""
    result = reconstruct(
        tokenizer,
        PixelDetokenizer(tokenizer),
        picture_batches(domain, "dev", count, canvas, seed),
        domain.referee(canvas),
    )
    singles = picture_batches(domain, "dev", count, canvas, seed + 1, singles=1.0)
    used, perplexity = usage(result.codes, tokenizer.fsq.num_codes)
    return {
        "exact": float(result.exact.mean()),
        "clear": float(result.clear.mean()),
        "psnr": float(result.psnr.mean()),
        "zero_shot": float(
            zero_shot(pooled_codes(tokenizer), siglip, text_tokenizer, singles, domain).mean()
        ),
        "codes_used": used,
        "perplexity": perplexity,
    }
