"""What reinforcement learning asks for: prompts and edits, each with its truth, and questions to keep.

All of training combinations; problem i of step s is a pure function of (seed, s, i), whoever asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arm.data.pictures import to_float
from arm.data.shards import Chain
from arm.data.understand import understand
from arm.evals.painting import encode_scenes, scene_size
from arm.pipeline import Arm
from arm.rewards.base import Picture
from arm.sequence import Image, PackedBatch, Text, Tokens, Turn, Weights, flatten, pack, user
from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.prompts import (
    TAGS,
    Prompt,
    dense_prompt,
    knowledge_facts,
    knowledge_prompt,
    sample_prompt,
)
from arm.world.render import render
from arm.world.sampling import pick, sample_scene

DENSE, KNOWLEDGE = 0.2, 0.15
"""Shares of drawing problems with a long prompt, and with one that names something by a fact."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One prompt, for which a group of pictures is drawn on a grid (H, W) of tokens."""

    turn: Turn
    text: str
    grid: tuple[int, int]
    truth: Prompt | Edit | None
    source: Picture | None = None


def _drawing_prompt(rng: np.random.Generator, size: tuple[int, int]) -> Prompt:
    draw = rng.random()
    if draw < DENSE:
        return dense_prompt(rng, sample_scene(rng, *size))
    if draw < DENSE + KNOWLEDGE:
        facts = knowledge_facts(in_pictures=True)
        return knowledge_prompt(rng, facts[int(rng.integers(len(facts)))])
    return sample_prompt(rng, pick(rng, TAGS), held_out=False)


def drawing_problems(arm: Arm, seed: int, step: int, indices: Sequence[int]) -> list[Problem]:
    """GenEval's kinds of prompt, long ones, and facts, on the model's grids in turn."""
    problems = []
    for index in indices:
        rng = np.random.default_rng([seed, step, index, 0])
        prompt = _drawing_prompt(rng, scene_size(arm, index))
        grid = arm.defaults.grids[index % len(arm.defaults.grids)]
        turn = user(Text(arm.text_tokenizer.ids(prompt.text)))
        problems.append(Problem(turn, prompt.text, grid, prompt))
    return problems


def editing_problems(arm: Arm, seed: int, step: int, indices: Sequence[int]) -> list[Problem]:
    """Edits of rendered pictures, all kinds equally often."""
    edits: list[Edit] = []
    for index in indices:
        rng = np.random.default_rng([seed, step, index, 1])
        kind = pick(rng, tuple(EDITORS))
        edit = None
        while edit is None:
            edit = sample_edit(rng, sample_scene(rng, *scene_size(arm, index)), kind)
        edits.append(edit)
    codes = encode_scenes(arm, [edit.source for edit in edits])
    return [
        Problem(
            user(Image(c), Text(arm.text_tokenizer.ids(edit.instruction))),
            edit.instruction,
            (c.shape[0], c.shape[1]),
            edit,
            render(edit.source, arm.defaults.scale),
        )
        for edit, c in zip(edits, codes, strict=True)
    ]


def questions(arm: Arm, seed: int, step: int, rank: int, count: int) -> PackedBatch:
    """`count` conversations about pictures, weighted on the answers alone, to keep understanding by."""
    rng = np.random.default_rng([seed, step, rank, 2])
    scenes = [sample_scene(rng, *scene_size(arm, i)) for i in range(count)]
    found: list[Tokens] = []
    for scene in scenes:
        image = to_float(render(scene, arm.defaults.scale)[None])
        chain = Chain((scene,), (), arm.tokenizer.encode(image).cpu().numpy().astype(np.uint16))
        sample = understand(rng, chain, arm.text_tokenizer.ids)
        if sample is not None:
            found.append(flatten(sample, arm.vocab, Weights(text=1.0, code=0.0)))
    return pack(found, max(map(len, found)), arm.vocab)
