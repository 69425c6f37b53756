"""Pictures into codes and out of them, by each decoder and batch size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arm.bench.rounds import Trial, Variant
from arm.domain import PictureDomain
from arm.evals.painting import canvas_of
from arm.model_directory import load_detokenizer
from arm.models.detokenizer import Detokenizer
from arm.models.latent import LatentDetokenizer
from arm.pipeline import Arm

CODES_ALIKE, VALUES_ALIKE, VALUES_ALIKE_BF16 = 0.999, 1e-3, 0.25
"""The share of codes, and the distance of pixels in [-1, 1], to which batches of two sizes must agree: a
sum of another order may turn a sign that is all but zero. In bf16 rounding alone moves pixels of `micro`
by up to 0.02; those of another picture are 0.3 apart on average.
"""


def decoders(arm: Arm) -> Iterator[Detokenizer]:
    """The pixel decoder and all others that the model has."""
    yield load_detokenizer(arm.directory, arm.tokenizer, "pixel")
    for path in sorted(arm.directory.glob("detokenizer_*/config.json")):
        name = path.parent.name.removeprefix("detokenizer_")
        yield load_detokenizer(arm.directory, arm.tokenizer, name)


def sample_pictures(arm: Arm, domain: PictureDomain, count: int, seed: int = 0) -> Tensor:
    """Pictures of the domain in the model's first size, (B, 3, H, W) in [-1, 1]."""
    canvas = canvas_of(arm)
    canvas = replace(canvas, grids=canvas.grids[:1])
    return domain.pictures("train", seed, 0, count, canvas).images


def differ_in_codes(first: Tensor, other: Tensor) -> str:
    """Compares the pictures that both have; "" for nothing."""
    count = min(len(first), len(other))
    same = float((first[:count] == other[:count]).float().mean())
    return "" if same >= CODES_ALIKE else f"only {same:.1%} of its codes are those of the first row"


def differ_in_pixels(first: Tensor, other: Tensor, most: float = VALUES_ALIKE) -> str:
    """Compares the pictures that both have; "" where no value is more than `most` apart."""
    count = min(len(first), len(other))
    apart = float((first[:count] - other[:count]).abs().max())
    return "" if apart <= most else f"its pixels are up to {apart:.2g} from the first row's"


def trials(
    arm: Arm, domain: PictureDomain, batches: Sequence[int], device: torch.device
) -> Iterator[Trial]:
    """One table for encoding and one for each decoder; their rows are batch sizes."""
    images = sample_pictures(arm, domain, max(batches)).to(device)
    tokenizer = arm.tokenizer.to(device)
    codes = torch.cat([tokenizer.encode(part) for part in images.split(min(64, len(images)))])
    size = f"{images.shape[-1]} x {images.shape[-2]} pixels"
    yield _by_batch(
        f"encode, {size}", tokenizer.encode, images, batches, [tokenizer], differ_in_codes
    )
    for decoder in decoders(arm):
        parts: list[Any] = [tokenizer]
        if isinstance(decoder, LatentDetokenizer):
            parts += [decoder.painter, decoder.vae]
            told = f"{decoder.num_steps} steps, guidance {decoder.guidance_scale:g}"
        else:
            told = f"{getattr(decoder, 'num_steps', 1)} steps"
        decoder.to(device)
        alike = partial(differ_in_pixels, most=VALUES_ALIKE_BF16 if _bf16(parts) else VALUES_ALIKE)
        title = f"decode by {decoder.name}, {size}, {told}"
        yield _by_batch(title, decoder.decode, codes, batches, parts, alike)


def _bf16(parts: Sequence[nn.Module]) -> bool:
    return any(p.dtype == torch.bfloat16 for part in parts for p in part.parameters())


def _by_batch(
    title: str,
    work: Callable[[Tensor], Tensor],
    inputs: Tensor,
    batches: Sequence[int],
    parts: Sequence[nn.Module],
    differ: Callable[[Tensor, Tensor], str],
) -> Trial:
    def variant(batch: int) -> Variant:
        chosen = inputs[:batch]
        return Variant(
            f"batch {batch}", float(batch), lambda: work(chosen),
            alive=lambda: [chosen, *(p for part in parts for p in part.state_dict().values())],
        )  # fmt: skip

    return Trial(title, "pictures", tuple(map(variant, batches)), differ)
