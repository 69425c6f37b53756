"""The world's benchmarks: `arm eval world`.

Drawing, editing and knowledge are scored at the model's default sampling, greedily, and without guidance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import arm
from arm.domain import Split
from arm.evals import tasks
from arm.evals.painting import canvas_of
from arm.evals.reconstruction import (
    locality,
    picture_batches,
    pooled_codes,
    reconstruct,
    usage,
    zero_shot,
)
from arm.evals.statistics import mean_score
from arm.evals.tasks import EvalSize, Progress, SamplingSetting
from arm.model_directory import find_model
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.models.weights import load_tensors
from arm.pipeline import Arm
from arm.world.domain import World

SCORING_CODE = (
    "domain.py",
    "evals/painting.py",
    "evals/reconstruction.py",
    "evals/tasks.py",
    "world/*.py",
)
"""The files of the package that decide what is asked of a model and how it is scored."""


def code_hash() -> str:
    """SHA-256 of the scoring code, over its files in order of their paths."""
    root = Path(arm.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SCORING_CODE for path in root.glob(pattern)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_text(encoding="utf-8").encode())
    return digest.hexdigest()


def model_hash(model: str | Path) -> str:
    """SHA-256 of all tensors in a model's directory, by shipped name or path.

    Names and files do not count, so a model that is only written in another layout keeps its hash. Raises
    WeightsError where there is no such model.
    """
    digests = set()
    for path in find_model(model).rglob("*.safetensors"):
        for tensor in load_tensors(path).values():
            data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            about = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
            digests.add(hashlib.sha256(about + data).hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def provenance(model: str | Path, size: EvalSize, split: Split) -> dict[str, Any]:
    """What a file of scores was made by: hashes of the weights and of the scoring code, the split, the size."""
    return {
        "weights": model_hash(model),
        "code": code_hash(),
        "split": split,
        "size": asdict(size),
    }


def reconstruction_scores(arm: Arm, world: World, size: EvalSize, split: Split) -> dict[str, Any]:
    """Reconstruction through the model's decoder, zero-shot through z_q, codebook usage, locality."""
    canvas = canvas_of(arm)
    batches = picture_batches(world, split, size.pictures, canvas, size.seed)
    result = reconstruct(arm.tokenizer, arm.detokenizer, batches, world.referee(canvas))
    half = size.pictures // 2
    singles = picture_batches(world, split, half, canvas, size.seed + 1, singles=1.0)
    siglip = load_siglip(arm.directory / "siglip").to(arm.tokenizer.device)
    text_tokenizer = load_text_tokenizer(arm.directory / "siglip")
    right = zero_shot(pooled_codes(arm.tokenizer), siglip, text_tokenizer, singles, world)
    used, perplexity = usage(result.codes, arm.vocab.num_codes)
    twins = picture_batches(world, split, half, canvas, size.seed + 2, twins=True)
    return {
        "exact": mean_score(result.exact.astype(float).tolist()).to_dict(),
        "clear": mean_score(result.clear.astype(float).tolist()).to_dict(),
        "psnr": mean_score(result.psnr.tolist()).to_dict(),
        "ssim": mean_score(result.ssim.tolist()).to_dict(),
        "zero_shot": mean_score(right.astype(float).tolist()).to_dict(),
        "usage": used,
        "perplexity": perplexity,
        "locality": mean_score(locality(arm.tokenizer, twins).tolist()).to_dict(),
    }


def evaluate(
    arm: Arm,
    size: EvalSize | None = None,
    progress: Progress = lambda _: None,
    settings: Sequence[SamplingSetting] = tasks.SETTINGS,
    split: Split = "test",
) -> dict[str, Any]:
    """Every score of the world on held-out combinations, as nested {value, low, high, n}.

    The first setting's scores are at the top, those of the others under their names.
    """
    size, world = size or EvalSize(), World()
    canvas, images, seed = canvas_of(arm), size.images_per_prompt, size.seed
    referee = world.referee(canvas)
    result: dict[str, Any] = {}
    progress("reconstruction")
    result["recon"] = reconstruction_scores(arm, world, size, split)

    def drawn(prompts: Sequence[tasks.DrawingTask], setting: SamplingSetting) -> dict[str, Any]:
        shares = tasks.draw_and_check(arm, referee, prompts, images, setting, seed)
        return tasks.drawing_table(shares)

    def edited(edits: Sequence[tasks.EditingTask], setting: SamplingSetting) -> dict[str, Any]:
        return tasks.editing_table(tasks.edit_and_score(arm, referee, edits, setting, seed))

    progress("drawing")
    prompts = world.prompts(split, size.prompts_per_tag, seed)
    result["geneval"] = tasks.by_setting(lambda setting: drawn(prompts, setting), settings)
    trained = world.prompts("train", size.prompts_per_tag, seed)
    result["geneval"]["trained"] = drawn(trained, settings[0])
    progress("editing")
    edits = world.edits(split, size.edits_per_kind, seed, canvas)
    result["gedit"] = tasks.by_setting(lambda setting: edited(edits, setting), settings)
    trained_edits = world.edits("train", size.edits_per_kind, seed, canvas)
    result["gedit"] |= {
        "perfect": tasks.editing_table(tasks.perfect_edits(arm, referee, edits)),
        "trained": edited(trained_edits, settings[0]),
        "trained_perfect": tasks.editing_table(tasks.perfect_edits(arm, referee, trained_edits)),
    }
    progress("knowledge")
    knowledge = world.knowledge_prompts(split, size.wise_prompts, seed)
    result["wise"] = tasks.by_setting(lambda setting: drawn(knowledge, setting), settings)
    progress("questions")
    questions = world.questions(split, size.questions_per_kind, seed, canvas)
    result["vqa"] = tasks.question_scores(arm, questions)
    return result
