"""The world's benchmarks on held-out combinations: `arm eval world`.

Each part returns plain per-sample results; `evaluate` turns them into scores with intervals. Drawing,
editing and knowledge are scored at the model's default sampling, greedily, and without guidance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arm.data.images import GridWeight
from arm.evals.painting import encode_scenes, read_codes, scene_size
from arm.evals.reconstruction import (
    held_out_batches,
    locality,
    pooled_codes,
    reconstruct,
    usage,
    zero_shot,
)
from arm.evals.statistics import Score, mean_of_groups, mean_score
from arm.generate import Guidance
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.pipeline import Arm, Codes
from arm.sampling import GREEDY, Sampling
from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.prompts import (
    TAGS,
    Prompt,
    knowledge_facts,
    knowledge_prompt,
    sample_prompt,
    satisfies,
)
from arm.world.questions import ASKERS, FACT_KINDS, Question, ask
from arm.world.sampling import sample_scene
from arm.world.scene import Scene
from arm.world.scoring import EditScore, score_edit

Report = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much to measure. The defaults are what the README's figures use."""

    pictures: int = 640
    prompts_per_tag: int = 30
    images_per_prompt: int = 2
    edits_per_kind: int = 100
    questions_per_kind: int = 100
    wise_prompts: int = 45
    seed: int = 2026


@dataclass(frozen=True)
class Setting:
    """Sampling and guidance of drawing and of editing; None is the model's default."""

    name: str
    sampling: Sampling | None = None
    edit_sampling: Sampling | None = None
    guidance: Guidance | None = None


SETTINGS = (
    Setting("default"),
    Setting("greedy", sampling=GREEDY, edit_sampling=GREEDY),
    Setting("cfg1", guidance=Guidance(1.0, 1.0)),
)


def quick(seed: int = 2026) -> Size:
    """A small run for the demo and the tests; its intervals say how little it knows."""
    return Size(96, 8, 1, 6, 12, 12, seed)


def geneval_prompts(size: Size, *, held_out: bool = True) -> list[Prompt]:
    rng = np.random.default_rng([size.seed, 1])
    return [
        sample_prompt(rng, tag, held_out=held_out)
        for tag in TAGS
        for _ in range(size.prompts_per_tag)
    ]


def wise_prompts(size: Size, *, in_pictures: bool = False) -> list[Prompt]:
    """Knowledge prompts, equally many a kind."""
    rng = np.random.default_rng([size.seed, 2])
    prompts = []
    for kind in FACT_KINDS:
        facts = [f for f in knowledge_facts(in_pictures) if f.kind == kind]
        for i in range(size.wise_prompts // len(FACT_KINDS)):
            prompts.append(knowledge_prompt(rng, facts[i % len(facts)]))
    return prompts


def draw_and_check(
    arm: Arm, prompts: Sequence[Prompt], images: int, setting: Setting, seed: int
) -> dict[str, list[float]]:
    """The share of right pictures of each prompt, by tag; prompts are the independent samples."""
    repeats = 1 if setting.sampling == GREEDY else images
    wanted = [prompt for prompt in prompts for _ in range(repeats)]
    codes = arm.draw_prompts(
        [p.text for p in wanted], sampling=setting.sampling, guidance=setting.guidance, seed=seed
    )
    readings = read_codes(arm, codes)
    right: dict[str, list[float]] = {}
    for i, prompt in enumerate(prompts):
        found = [satisfies(prompt, r) for r in readings[i * repeats : (i + 1) * repeats]]
        right.setdefault(prompt.tag, []).append(sum(found) / repeats)
    return right


def sampled_edits(arm: Arm, size: Size, *, held_out: bool = True) -> list[Edit]:
    """Equally many edits of each kind: of held-out pictures or into them, or of neither."""
    rng = np.random.default_rng([size.seed, 3])
    edits: list[Edit] = []
    for kind in EDITORS:
        found = 0
        while found < size.edits_per_kind:
            scene = sample_scene(rng, *scene_size(arm, found), held_out=held_out)
            edit = sample_edit(rng, scene, kind, held_out=held_out)
            if edit is not None:
                edits.append(edit)
                found += 1
    return edits


def score_edited(
    arm: Arm, edits: Sequence[Edit], codes: Sequence[Codes]
) -> dict[str, list[EditScore]]:
    """The scores of edited pictures given as codes, by kind."""
    scores: dict[str, list[EditScore]] = {}
    for edit, reading in zip(edits, read_codes(arm, codes), strict=True):
        scores.setdefault(edit.kind, []).append(score_edit(edit, reading))
    return scores


def edit_and_score(
    arm: Arm, edits: Sequence[Edit], setting: Setting, seed: int
) -> dict[str, list[EditScore]]:
    """The scores of each edited picture, by kind."""
    sources = encode_scenes(arm, [edit.source for edit in edits])
    codes = arm.edit_codes(
        sources, [e.instruction for e in edits],
        sampling=setting.edit_sampling, guidance=setting.guidance, seed=seed,
    )  # fmt: skip
    return score_edited(arm, edits, codes)


def perfect_edits(arm: Arm, edits: Sequence[Edit]) -> dict[str, list[EditScore]]:
    """The scores of the wanted pictures' own codes, painted: what a model that never errs would
    have with this tokenizer and decoder.
    """
    return score_edited(arm, edits, encode_scenes(arm, [edit.target for edit in edits]))


def held_out_questions(arm: Arm, size: Size) -> list[tuple[Scene, Question]]:
    rng = np.random.default_rng([size.seed, 4])
    asked: list[tuple[Scene, Question]] = []
    for kind in ASKERS:
        found = 0
        while found < size.questions_per_kind:
            scene = sample_scene(rng, *scene_size(arm, found), held_out=True)
            question = ask(rng, scene, kind)
            if question is not None:
                asked.append((scene, question))
                found += 1
    return asked


def f1(truth: Sequence[bool], said: Sequence[bool]) -> float:
    """F1 of 'yes', as POPE computes it; 0 where nothing is both said and true."""
    both = sum(t and s for t, s in zip(truth, said, strict=True))
    return 2 * both / max(1, sum(truth) + sum(said)) if both else 0.0


def f1_score(truth: Sequence[bool], said: Sequence[bool], seed: int = 0) -> Score:
    """F1 with its interval over resampled questions."""
    rng = np.random.default_rng(seed)
    t, s = np.array(truth), np.array(said)
    draws = [rng.integers(len(t), size=len(t)) for _ in range(1000)]
    low, high = np.percentile([f1(t[d].tolist(), s[d].tolist()) for d in draws], [2.5, 97.5])
    return Score(f1(truth, said), float(low), float(high), len(t))


def recon_scores(arm: Arm, size: Size) -> dict[str, Any]:
    """Reconstruction through the model's decoder, zero-shot through z_q, codebook usage."""
    grids = tuple(GridWeight(h, w) for h, w in arm.defaults.grids)
    patch, scale = arm.tokenizer.patch, arm.defaults.scale
    batches = held_out_batches(size.pictures, grids, patch, scale, size.seed)
    result = reconstruct(arm.tokenizer, arm.detokenizer, batches, scale)
    singles = held_out_batches(size.pictures // 2, grids, patch, scale, size.seed + 1, singles=1.0)
    siglip = load_siglip(arm.directory / "siglip").to(arm.tokenizer.device)
    text_tokenizer = load_text_tokenizer(arm.directory / "siglip")
    right = zero_shot(pooled_codes(arm.tokenizer), siglip, text_tokenizer, singles)
    used, perplexity = usage(result.codes, arm.vocab.num_codes)
    twins = held_out_batches(size.pictures // 2, grids, patch, scale, size.seed + 2, twins=True)
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


def answered(arm: Arm, size: Size) -> list[tuple[Question, str]]:
    """The held-out questions with the model's answers."""
    asked = held_out_questions(arm, size)
    codes = encode_scenes(arm, [scene for scene, _ in asked])
    answers = arm.answer_codes(codes, [question.text for _, question in asked])
    return [(question, answer) for (_, question), answer in zip(asked, answers, strict=True)]


def vqa_scores(arm: Arm, size: Size) -> dict[str, Any]:
    right: dict[str, list[float]] = {}
    truth, said = [], []
    for question, answer in answered(arm, size):
        right.setdefault(question.kind, []).append(float(answer == question.answer))
        if question.kind == "existence":
            truth.append(question.answer == "yes")
            said.append(answer == "yes")
    return {
        "accuracy": mean_of_groups(right).to_dict(),
        "yesno_f1": f1_score(truth, said).to_dict(),
        "kinds": {kind: mean_score(v).to_dict() for kind, v in right.items()},
    }


def _tags(right: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "overall": mean_of_groups(right).to_dict(),
        "tags": {tag: mean_score(v).to_dict() for tag, v in right.items()},
    }


def _edits(scores: Mapping[str, Sequence[EditScore]]) -> dict[str, Any]:
    def over(name: str) -> dict[str, float | int]:
        return mean_of_groups(
            {k: [getattr(s, name) for s in v] for k, v in scores.items()}
        ).to_dict()

    kinds = {k: mean_score([s.overall for s in v]).to_dict() for k, v in scores.items()}
    return {"sc": over("sc"), "pq": over("pq"), "o": over("overall"), "kinds": kinds}


def _with_settings(
    measure: Callable[[Setting], dict[str, Any]], settings: Sequence[Setting]
) -> dict[str, Any]:
    default, *others = settings
    return {**measure(default), **{setting.name: measure(setting) for setting in others}}


def evaluate(
    arm: Arm,
    size: Size | None = None,
    report: Report = lambda _: None,
    settings: Sequence[Setting] = SETTINGS,
) -> dict[str, Any]:
    """Every score of the world on held-out combinations, as nested {value, low, high, n}.

    The first setting's scores stand on top, those of the others under their names.
    """
    size = size or Size()
    prompts, knowledge = geneval_prompts(size), wise_prompts(size)
    edits = sampled_edits(arm, size)
    result: dict[str, Any] = {}
    report("reconstruction")
    result["recon"] = recon_scores(arm, size)
    report("drawing")
    images = size.images_per_prompt
    result["geneval"] = _with_settings(
        lambda s: _tags(draw_and_check(arm, prompts, images, s, size.seed)), settings
    )
    trained = draw_and_check(
        arm, geneval_prompts(size, held_out=False), images, settings[0], size.seed
    )
    result["geneval"]["trained"] = _tags(trained)
    report("editing")
    result["gedit"] = _with_settings(
        lambda s: _edits(edit_and_score(arm, edits, s, size.seed)), settings
    )
    trained_edits = sampled_edits(arm, size, held_out=False)
    result["gedit"] |= {
        "perfect": _edits(perfect_edits(arm, edits)),
        "trained": _edits(edit_and_score(arm, trained_edits, settings[0], size.seed)),
        "trained_perfect": _edits(perfect_edits(arm, trained_edits)),
    }
    report("knowledge")
    result["wise"] = _with_settings(
        lambda s: _tags(draw_and_check(arm, knowledge, images, s, size.seed)), settings
    )
    report("questions")
    result["vqa"] = vqa_scores(arm, size)
    return result
