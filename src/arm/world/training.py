"""What is trained on: batches of captioned pictures with patch labels, and samples of all tasks from chains.

Tasks: text (facts that no picture shows), understanding (questions with short answers or a caption), drawing
(what a caption says, or what a fact names indirectly), editing, copying (what editing does to everything that an
instruction leaves alone), and interleaved (draw, ask about it, edit it, ask again).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight, pick_grid, to_float
from arm.data.mixture import Dropout, Mix, Ratios, drop_some
from arm.domain import PatchLabels, Split
from arm.sequence import Image, Sample, Text, Tokenize, Turn, assistant, user
from arm.world.chains import Chain
from arm.world.edits import EDITORS, sample_edit
from arm.world.language import FACTS, caption, long_caption, short_caption
from arm.world.questions import ASKERS, applicable, ask, fact_turn, indirect_caption
from arm.world.sampling import Kind, pick, sample_scene, tells_on_held_out
from arm.world.scene import COLORS, MAX_THINGS, PATTERNS, SHAPES, SIZES, Scene, render


def comparable_pairs(scenes: Sequence[Scene], described: Sequence[Scene]) -> Bool[Tensor, "b n"]:
    """Pairs (picture, caption) that a contrastive loss may use (`tells_on_held_out`)."""
    return torch.tensor([[not tells_on_held_out(a, b) for b in described] for a in scenes])


def twin(rng: np.random.Generator, scene: Scene, *, split: Split) -> Scene:
    """The scene after an edit of one or two of its things; itself where no edit is found."""
    kinds = [kind for kind in EDITORS if kind != "background"]
    edit = sample_edit(rng, scene, pick(rng, kinds), split=split)
    return scene if edit is None else edit.target


def patch_centers(scene: Scene, unit: float) -> Float[np.ndarray, "n 2"]:
    """Centres (x, y) in units of the scene's patches, `unit` units wide and in row-major order."""
    grid = round(scene.height / unit), round(scene.width / unit)
    rows, cols = np.indices(grid) * unit + unit / 2
    return np.stack([cols.ravel(), rows.ravel()], -1)


def untouched(a: Scene, b: Scene, unit: float) -> Bool[np.ndarray, " n"]:
    """The patches (see `patch_centers`) that no thing of only one scene reaches."""
    centers_N2 = patch_centers(a, unit)
    free = np.ones(len(centers_N2), dtype=bool)
    for thing in set(a.things) ^ set(b.things):
        away_N = np.abs(centers_N2 - (thing.x, thing.y)).max(-1)
        free &= away_N >= thing.radius + unit / 2
    return free


SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def world_batch(
    seed: int,
    step: int,
    batch: int,
    grids: tuple[GridWeight, ...],
    patch: int,
    *,
    scale: int = 1,
    split: Split = "train",
    singles: float = 0.0,
    max_things: int = MAX_THINGS,
    twins: bool = False,
) -> PictureBatch:
    """The world's batch number `step`: a pure function of its arguments.

    patch: pixels a token; scale: pixels a unit; singles: share of pictures with one thing
    (in held-out batches a thing of a held-out pair); twins: with twins of the pictures.
    """
    rng = np.random.default_rng([seed, step, SPLITS.index(split)])
    grid = pick_grid(rng, grids)
    height, width = grid.height * patch // scale, grid.width * patch // scale
    # The lone things of a batch share two colours, so that their shapes must tell them apart.
    palette = [COLORS[int(i)] for i in rng.choice(len(COLORS), 2, replace=False)]
    scenes = []
    for i in range(batch):
        alone = i < singles * batch
        lone: list[Kind] = [(None, palette[i % 2], None, None)]
        scenes.append(
            sample_scene(
                rng,
                height,
                width,
                kinds=lone if alone and split == "train" else None,
                max_things=1 if alone else max_things,
                split=split,
            )
        )
    images = np.stack([render(scene, scale) for scene in scenes])
    short = tuple(short_caption(rng, scene) for scene in scenes)
    details = tuple(long_caption(rng, scene) for scene in scenes)
    made = PictureBatch(to_float(images), short, details, tuple(scenes))
    if not twins:
        return made
    others = [twin(rng, scene, split=split) for scene in scenes]
    shared = np.stack(
        [untouched(*pair, patch / scale) for pair in zip(scenes, others, strict=True)]
    )
    painted = to_float(np.stack([render(scene, scale) for scene in others]))
    return replace(made, twins=painted, shared=torch.from_numpy(shared))


ATTRIBUTES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "pattern": PATTERNS}
REACH = 2.0
"""A patch belongs to a thing while its centre lies at most this many units outside the frame."""


def patch_labels(batch: PictureBatch, unit: float) -> PatchLabels:
    """The labels of a batch whose patches are `unit` units wide. The nearest thing wins a patch."""
    centers_N2 = patch_centers(batch.truths[0], unit)
    shape = (len(batch.truths), len(centers_N2))
    labels = np.full((*shape, len(ATTRIBUTES)), -1)
    offsets = np.zeros((*shape, 2), dtype=np.float32)
    for b, scene in enumerate(batch.truths):
        places_O2 = np.array([[thing.x, thing.y] for thing in scene.things])
        reach_O = np.array([thing.radius + REACH for thing in scene.things])
        away_NO2 = places_O2[None] - centers_N2[:, None]
        beyond_NO = np.abs(away_NO2).max(-1) - reach_O
        owner_N = beyond_NO.argmin(1)
        covered = np.nonzero(beyond_NO.min(1) <= 0)[0]
        values_OA = np.array([
            [names.index(getattr(thing, key)) for key, names in ATTRIBUTES.items()]
            for thing in scene.things
        ])  # fmt: skip
        labels[b, covered] = values_OA[owner_N[covered]]
        offsets[b, covered] = away_NO2[covered, owner_N[covered]] / unit
    return PatchLabels(torch.from_numpy(labels), torch.from_numpy(offsets))


Task = Callable[[np.random.Generator, Chain, Tokenize], Sample | None]
"""A chain of pictures -> one training sample, or None where the chain does not serve the task."""


def text(tokenize: Tokenize, sentence: str) -> Text:
    return Text(tokenize(sentence))


def picture(chain: Chain, index: int) -> Image:
    return Image(chain.codes[index].astype(np.int64))


FACTS_PER_SAMPLE = 2


def facts(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    turns: list[Turn] = []
    for _ in range(FACTS_PER_SAMPLE):
        question, answer = fact_turn(rng, FACTS[int(rng.integers(len(FACTS)))])
        turns += [user(text(tokenize, question)), assistant(text(tokenize, answer))]
    return tuple(turns)


QUESTIONS = 6
DESCRIBE = ("what do you see ?", "tell me about this picture", "what is in the picture ?")
KINDS = (*ASKERS, "existence", "count", "position", "comparison")
"""Kinds as often as asked: those that are harder to learn twice."""


def question_turns(
    rng: np.random.Generator, scene: Scene, tokenize: Tokenize, count: int
) -> list[Turn]:
    turns: list[Turn] = []
    for _ in range(count):
        question = ask(rng, scene, pick(rng, KINDS))
        if question is not None:
            turns += [
                user(text(tokenize, question.text)),
                assistant(text(tokenize, question.answer)),
            ]
    return turns


def understand(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample | None:
    index = int(rng.integers(len(chain.scenes)))
    scene, image = chain.scenes[index], picture(chain, index)
    if rng.random() < 0.12:
        answer = long_caption(rng, scene)
        return user(image, text(tokenize, pick(rng, DESCRIBE))), assistant(text(tokenize, answer))
    turns = question_turns(rng, scene, tokenize, QUESTIONS)
    if not turns:
        return None
    first = user(image, *turns[0].parts)
    return (first, *turns[1:])


INDIRECT = 0.12
"""Share of prompts that name an attribute by a fact, where one applies."""


def prompt_for(rng: np.random.Generator, scene: Scene) -> str:
    if rng.random() < INDIRECT:
        facts = applicable(scene)
        if facts:
            found = indirect_caption(rng, scene, facts[int(rng.integers(len(facts)))])
            if found is not None:
                return found
    return caption(rng, scene)


def draw(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    index = int(rng.integers(len(chain.scenes)))
    prompt = prompt_for(rng, chain.scenes[index])
    return user(text(tokenize, prompt)), assistant(picture(chain, index))


def edit(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample | None:
    if not chain.edits:
        return None
    index = int(rng.integers(len(chain.edits)))
    instruction = text(tokenize, chain.edits[index].instruction)
    return user(picture(chain, index), instruction), assistant(picture(chain, index + 1))


ASK = ("show this picture", "draw this picture", "create this picture", "please show this image")


def copying(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    image = picture(chain, int(rng.integers(len(chain.scenes))))
    return user(image, text(tokenize, pick(rng, ASK))), assistant(image)


def interleaved(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    prompt = text(tokenize, prompt_for(rng, chain.scenes[0]))
    turns: list[Turn] = [user(prompt), assistant(picture(chain, 0))]
    for index, change in enumerate(chain.edits[:1]):
        turns += question_turns(rng, chain.scenes[index], tokenize, 1)
        instruction = text(tokenize, change.instruction)
        turns += [user(instruction), assistant(picture(chain, index + 1))]
        turns += question_turns(rng, chain.scenes[index + 1], tokenize, 1)
    return tuple(turns)


TASKS: dict[str, Task] = {
    "text": facts,
    "image_to_text": understand,
    "text_to_image": draw,
    "editing": edit,
    "interleaved": interleaved,
    "copying": copying,
}
GUIDED = ("text_to_image", "editing")
"""Tasks whose condition is sometimes dropped."""


def world_samples(
    chains: Sequence[Chain], ratios: Ratios, dropout: Dropout, tokenize: Tokenize
) -> Mix:
    """The mix of the world's tasks, each sample from a random chain that serves its task."""
    names = tuple(TASKS)
    weights = np.array([getattr(ratios, name) for name in names])

    def draw(rng: np.random.Generator) -> tuple[Sample, int]:
        while True:
            kind = int(rng.choice(len(names), p=weights / weights.sum()))
            chain = chains[int(rng.integers(len(chains)))]
            sample = TASKS[names[kind]](rng, chain, tokenize)
            if sample is not None:
                guided = names[kind] in GUIDED
                return (drop_some(rng, sample, dropout) if guided else sample), kind

    return Mix(tuple(f"world/{name}" for name in names), draw)
