"""The paper's decoder comparison in small (its Figs. 2-3): the same codes, painted three ways.

The codes decide what is shown and where, the decoder how it looks; so the decoders' pictures should
read as the same scene.
"""

from pathlib import Path
from typing import Any

from arm.data.images import GridWeight, to_bytes
from arm.evals.reconstruction import held_out_batches, reconstruct
from arm.evals.sheet import sheet
from arm.evals.statistics import mean_score
from arm.files import make_folder, write_picture
from arm.model_directory import load_detokenizer
from arm.models.detokenizer import Detokenizer
from arm.pipeline import Arm
from arm.world.reader import Reading, read
from arm.world.scene import same_scene

NAMES = ("pixel", "flux", "sana")
SHOWN = 8


def compare(arm: Arm, out: Path, count: int, seed: int) -> dict[str, Any]:
    """Each decoder's exactness and PSNR, and how often two decoders' pictures read alike.

    Writes `out`/decoders.png: the sources, then one row a decoder. Raises WeightsError for a model
    that lacks one of the three, InputError where `out` cannot be written.
    """
    make_folder(out)
    height, width = arm.defaults.grids[0]
    grids, scale = (GridWeight(height, width),), arm.defaults.scale
    batches = held_out_batches(count, grids, arm.tokenizer.patch, scale, seed)
    result: dict[str, Any] = {}
    readings: dict[str, list[Reading]] = {}
    sources = [image for batch in batches for image in to_bytes(batch.images)]
    rows = [sources[:SHOWN]]
    for name in NAMES:
        decoder: Detokenizer = load_detokenizer(arm.directory, arm.tokenizer, name)
        decoder.to(arm.tokenizer.device)
        found = reconstruct(arm.tokenizer, decoder, batches, scale)
        readings[name] = [read(image, scale) for image in found.reconstructions]
        rows.append(list(found.reconstructions[:SHOWN]))
        result[name] = {
            "exact": mean_score(found.exact.astype(float).tolist()).to_dict(),
            "psnr": mean_score(found.psnr.tolist()).to_dict(),
        }
    agreement = {}
    for i, a in enumerate(NAMES):
        for b in NAMES[i + 1 :]:
            same = [float(same_scene(p, q)) for p, q in zip(readings[a], readings[b], strict=True)]
            agreement[f"{a}_{b}"] = mean_score(same).to_dict()
    result["agreement"] = agreement
    write_picture(sheet(rows, ["source", *NAMES], margin=80), out / "decoders.png", optimize=True)
    return result
