"""The paper's decoder comparison in small (its Figs. 2-3): the same codes, painted three ways.

The codes decide what is shown and where, the decoder how it looks; so the decoders' pictures should
read as the same scene.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arm.data.images import to_bytes
from arm.domain import Domain, PixelArray, Split
from arm.evals.painting import canvas_of
from arm.evals.reconstruction import picture_batches, reconstruct
from arm.evals.sheet import sheet
from arm.evals.statistics import mean_score
from arm.files import make_folder, write_picture
from arm.model_directory import load_detokenizer
from arm.models.detokenizer import Detokenizer
from arm.pipeline import Arm

NAMES = ("pixel", "flux", "sana")
SHOWN = 8


def compare(
    arm: Arm, domain: Domain, out: Path, count: int, seed: int, split: Split = "test"
) -> dict[str, Any]:
    """Each decoder's exactness and PSNR, and how often two decoders' pictures look alike to the referee.

    Writes `out`/decoders.png: the sources, then one row a decoder. Raises WeightsError for a model
    that lacks one of the three, InputError where `out` cannot be written.
    """
    make_folder(out)
    canvas = canvas_of(arm)
    canvas = replace(canvas, grids=canvas.grids[:1])
    batches = picture_batches(domain, split, count, canvas, seed)
    referee = domain.referee(canvas)
    result: dict[str, Any] = {}
    pictures: dict[str, Sequence[PixelArray]] = {}
    sources = [image for batch in batches for image in to_bytes(batch.images)]
    rows = [sources[:SHOWN]]
    for name in NAMES:
        decoder: Detokenizer = load_detokenizer(arm.directory, arm.tokenizer, name)
        decoder.to(arm.tokenizer.device)
        scored = reconstruct(arm.tokenizer, decoder, batches, referee)
        pictures[name] = scored.reconstructions
        rows.append(list(scored.reconstructions[:SHOWN]))
        result[name] = {
            "exact": mean_score(scored.exact.astype(float).tolist()).to_dict(),
            "psnr": mean_score(scored.psnr.tolist()).to_dict(),
        }
    agreement = {}
    for i, a in enumerate(NAMES):
        for b in NAMES[i + 1 :]:
            pairs = zip(pictures[a], pictures[b], strict=True)
            same = [float(referee.look_alike(p, q)) for p, q in pairs]
            agreement[f"{a}_{b}"] = mean_score(same).to_dict()
    result["agreement"] = agreement
    write_picture(sheet(rows, ["source", *NAMES], margin=80), out / "decoders.png", optimize=True)
    return result
