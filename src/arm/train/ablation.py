"""The paper's Table 7 at small size: combinations of the tokenizer's losses at equal compute.

Compute is counted in FLOPs of one training step of each combination, which trains for as many steps as the common
budget allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from arm.config import MAY_CHANGE, to_json
from arm.evals.reconstruction import (
    locality,
    picture_batches,
    pooled_codes,
    reconstruct,
    usage,
    zero_shot,
)
from arm.evals.report import LOSS_COLUMNS, fill_block, markdown_grid, print_scores
from arm.evals.statistics import mean_score
from arm.files import read_json, write_json
from arm.models.detokenizer import PixelDetokenizer
from arm.models.tokenizer import VisualTokenizer
from arm.train.tokenizer import LossWeights, TokenizerRun, build, canvas_of
from arm.train.tokenizer import main as train_tokenizer


@dataclass(frozen=True)
class Row:
    """One row of the table: a combination of losses. A loss with weight 0 is off."""

    name: str
    weights: LossWeights


@dataclass(frozen=True)
class AblationRun:
    """base: the run whose losses and steps the rows change. reference: the row whose `steps` steps set the
    budget. pictures, seed: of the evaluation. into: Markdown files in whose block <!-- losses --> the table is
    written.
    """

    out: Path = field(metadata=MAY_CHANGE)
    base: TokenizerRun
    rows: tuple[Row, ...]
    reference: str
    steps: int
    pictures: int
    seed: int = 2026
    into: tuple[Path, ...] = field(default=(), metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.base.domain is None:
            raise ValueError("base needs a domain, whose held-out pictures are scored")


def step_flops(run: TokenizerRun) -> int:
    """FLOPs of the forward and backward pass of one training step."""
    trainer, _, text_tokenizers = build(run)
    assert run.domain is not None  # `AblationRun` demands one
    canvas = replace(canvas_of(run, trainer.tokenizer.patch), grids=run.grids[:1])
    batch = run.domain.pictures("train", 0, 0, run.batch, canvas, twins=run.weights.local > 0)
    counter = FlopCounterMode(display=False)
    with counter:
        trainer.losses(batch, text_tokenizers, run.weights, run.timesteps)["loss"].backward()
    return counter.get_total_flops()


def score(run: TokenizerRun, pictures: int, seed: int) -> Mapping[str, Any]:
    """Scores of a trained tokenizer: zero-shot accuracy, PSNR, usage of the codes, exact reconstructions."""
    _, siglip, text_tokenizers = build(run)
    tokenizer = VisualTokenizer.load(run.out, siglip.vision_model)
    domain, canvas = run.domain, canvas_of(run, tokenizer.patch)
    assert domain is not None  # `AblationRun` demands one
    batches = picture_batches(domain, "test", pictures, canvas, seed)
    result = reconstruct(tokenizer, PixelDetokenizer(tokenizer), batches, domain.referee(canvas))
    singles = picture_batches(domain, "test", pictures, canvas, seed + 1, singles=1.0)
    right = zero_shot(pooled_codes(tokenizer), siglip, text_tokenizers.tower, singles, domain)
    used, perplexity = usage(result.codes, tokenizer.fsq.num_codes)
    twins = picture_batches(domain, "test", pictures, canvas, seed + 2, twins=True)
    return {
        "zero_shot": mean_score(right.astype(float).tolist()).to_dict(),
        "psnr": mean_score(result.psnr.tolist()).to_dict(),
        "usage": used,
        "perplexity": perplexity,
        "locality": mean_score(locality(tokenizer, twins).tolist()).to_dict(),
        "exact": mean_score(result.exact.astype(float).tolist()).to_dict(),
        "steps": run.loop.steps,
    }


def main(run: AblationRun) -> None:
    """Trains and scores the rows that are not finished, prints the table and writes it as JSON."""
    flops = {row.name: step_flops(replace(run.base, weights=row.weights)) for row in run.rows}
    budget = flops[run.reference] * run.steps
    table: dict[str, Mapping[str, Any]] = {}
    for row in run.rows:
        out = run.out / row.name.replace("+", "_")
        steps = round(budget / flops[row.name])
        base = replace(run.base, out=out, weights=row.weights, eval_every=0)
        done = out / "scores.json"
        full = replace(base, loop=replace(base.loop, steps=steps))
        made_by = {"run": to_json(full), "pictures": run.pictures, "seed": run.seed}
        if not done.is_file() or read_json(done)["made_by"] != made_by:
            train_tokenizer(full)
            scores = score(full, run.pictures, run.seed)
            write_json({"made_by": made_by, "scores": scores}, done)
        table[row.name] = read_json(done)["scores"]
    write_json(table, run.out / "table.json")
    print_scores(table)
    for path in run.into:
        fill_block(path, "losses", markdown_grid(table, LOSS_COLUMNS, "losses"))
