"""The built-in world as a domain (`arm.domain`), its referee, and its rewards for reinforcement learning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from arm.data.captioned import PictureBatch
from arm.data.mixture import Dropout, Mix, Ratios
from arm.domain import (
    Canvas,
    DrawingTask,
    EditingTask,
    EditScore,
    PatchLabels,
    PixelArray,
    QuestionTask,
    Recognition,
    Split,
    TaskDomain,
)
from arm.errors import ConfigError
from arm.rl.rewards import Attempt, Components, Kind
from arm.sequence import Sample, Tokenize
from arm.world import pictures
from arm.world.chains import Chain, read_shards
from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.language import with_article
from arm.world.prompts import (
    TAGS,
    Prompt,
    dense_prompt,
    knowledge_facts,
    knowledge_prompt,
    sample_prompt,
    satisfies,
)
from arm.world.questions import ASKERS, FACT_KINDS, ask
from arm.world.reader import agrees, read
from arm.world.render import render
from arm.world.sampling import pick, sample_scene
from arm.world.scene import SHAPES, Scene, same_scene
from arm.world.scoring import score_drawing, score_edit
from arm.world.tasks import understand, world_samples
from arm.world.words import build_tokenizer

DENSE_SHARE, KNOWLEDGE_SHARE = 0.2, 0.15
"""Shares of training prompts that name every thing of a scene, and that name something by a fact."""


def scene_size(canvas: Canvas, index: int) -> tuple[int, int]:
    """Height and width in units of the canvas's grid number `index`, counted round the grids."""
    height, width = canvas.size(index)
    return height // canvas.scale, width // canvas.scale


def drawing_task(prompt: Prompt) -> DrawingTask:
    return DrawingTask(prompt.tag, prompt.text, prompt)


def editing_task(edit: Edit, scale: int) -> EditingTask:
    return EditingTask(
        edit.kind, edit.instruction, render(edit.source, scale), render(edit.target, scale), edit
    )


@dataclass(frozen=True)
class WorldReferee:
    """Reads pictures by geometry (`world/reader.py`). `scale`: pixels a unit of the pictures."""

    scale: int

    def draws_right(self, task: DrawingTask, picture: PixelArray) -> bool:
        return satisfies(task.truth, read(picture, self.scale))

    def score_edit(self, task: EditingTask, picture: PixelArray) -> EditScore:
        return score_edit(task.truth, read(picture, self.scale))

    def recognize(self, truth: Scene, picture: PixelArray) -> Recognition:
        reading = read(picture, self.scale)
        return Recognition(same_scene(truth, reading), agrees(truth, reading))

    def look_alike(self, first: PixelArray, second: PixelArray) -> bool:
        return same_scene(read(first, self.scale), read(second, self.scale))


@dataclass(frozen=True)
class World:
    """The procedural world: rendered scenes of 1 to 4 things, of which everything is known.

    Its training split never shows or states the held-out combinations of `world/sampling.py`.
    """

    name: Literal["world"] = "world"

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(map(with_article, SHAPES))

    @property
    def label_sizes(self) -> tuple[int, ...]:
        return tuple(map(len, pictures.ATTRIBUTES.values()))

    def pictures(
        self,
        split: Split,
        seed: int,
        number: int,
        size: int,
        canvas: Canvas,
        *,
        singles: float = 0.0,
        twins: bool = False,
    ) -> PictureBatch:
        return pictures.world_batch(
            seed, number, size, canvas.grids, canvas.patch,
            scale=canvas.scale, split=split, singles=singles, twins=twins,
        )  # fmt: skip

    def class_of(self, truth: Scene) -> int:
        return SHAPES.index(truth.things[0].shape)

    def comparable(
        self, pictured: Sequence[Scene], described: Sequence[Scene]
    ) -> Bool[Tensor, "b n"]:
        return pictures.comparable_pairs(pictured, described)

    def patch_labels(self, batch: PictureBatch, canvas: Canvas) -> PatchLabels:
        return pictures.patch_labels(batch, canvas.patch / canvas.scale)

    def text_tokenizer(self) -> Any:
        return build_tokenizer()

    def referee(self, canvas: Canvas) -> WorldReferee:
        return WorldReferee(canvas.scale)

    def read_chains(self, directory: Path) -> Iterator[Chain]:
        return read_shards(directory)

    def chain_samples(
        self, chains: Sequence[Chain], ratios: Ratios, dropout: Dropout, tokenize: Tokenize
    ) -> Mix:
        return world_samples(chains, ratios, dropout, tokenize)

    def prompts(self, split: Split, per_kind: int, seed: int) -> list[DrawingTask]:
        """`per_kind` prompts of each of GenEval's tags."""
        rng = np.random.default_rng([seed, 1])
        return [
            drawing_task(sample_prompt(rng, tag, split=split))
            for tag in TAGS
            for _ in range(per_kind)
        ]

    def knowledge_prompts(self, split: Split, count: int, seed: int) -> list[DrawingTask]:
        rng = np.random.default_rng([seed, 2])
        tasks = []
        for kind in FACT_KINDS:
            facts = [f for f in knowledge_facts(split) if f.kind == kind]
            for i in range(count // len(FACT_KINDS)):
                tasks.append(drawing_task(knowledge_prompt(rng, facts[i % len(facts)])))
        return tasks

    def edits(self, split: Split, per_kind: int, seed: int, canvas: Canvas) -> list[EditingTask]:
        """`per_kind` edits of each kind: of held-out pictures or into them, or of neither for "train"."""
        rng = np.random.default_rng([seed, 3])
        edits: list[Edit] = []
        for kind in EDITORS:
            of_kind: list[Edit] = []
            while len(of_kind) < per_kind:
                size = scene_size(canvas, len(of_kind))
                scene = sample_scene(rng, *size, split=split)
                edit = sample_edit(rng, scene, kind, split=split)
                if edit is not None:
                    of_kind.append(edit)
            edits += of_kind
        return [editing_task(edit, canvas.scale) for edit in edits]

    def questions(
        self, split: Split, per_kind: int, seed: int, canvas: Canvas
    ) -> list[QuestionTask]:
        rng = np.random.default_rng([seed, 4])
        tasks: list[QuestionTask] = []
        for kind in ASKERS:
            count = 0
            while count < per_kind:
                size = scene_size(canvas, count)
                scene = sample_scene(rng, *size, split=split)
                question = ask(rng, scene, kind)
                if question is not None:
                    picture = render(scene, canvas.scale)
                    tasks.append(QuestionTask(kind, picture, question.text, question.answer))
                    count += 1
        return tasks

    def sample_drawing(self, rng: np.random.Generator, canvas: Canvas, index: int) -> DrawingTask:
        """A prompt of one of GenEval's tags, one that names every thing of a scene, or one by a fact."""
        draw = rng.random()
        if draw < DENSE_SHARE:
            scene = sample_scene(rng, *scene_size(canvas, index))
            return drawing_task(dense_prompt(rng, scene))
        if draw < DENSE_SHARE + KNOWLEDGE_SHARE:
            facts = knowledge_facts("train")
            return drawing_task(knowledge_prompt(rng, facts[int(rng.integers(len(facts)))]))
        return drawing_task(sample_prompt(rng, pick(rng, TAGS), split="train"))

    def sample_editing(self, rng: np.random.Generator, canvas: Canvas, index: int) -> EditingTask:
        """An edit of a kind drawn at random, all kinds equally often."""
        kind = pick(rng, tuple(EDITORS))
        edit = None
        while edit is None:
            edit = sample_edit(rng, sample_scene(rng, *scene_size(canvas, index)), kind)
        return editing_task(edit, canvas.scale)

    def sample_understanding(
        self,
        rng: np.random.Generator,
        canvas: Canvas,
        count: int,
        encode: Callable[[PixelArray], NDArray[np.int64]],
        tokenize: Tokenize,
    ) -> list[Sample]:
        """Questions and answers about a picture, or its description; none of a picture that allows none."""
        scenes = [sample_scene(rng, *scene_size(canvas, i)) for i in range(count)]
        samples = []
        for scene in scenes:
            codes = encode(render(scene, canvas.scale))
            chain = Chain((scene,), (), codes[None].astype(np.uint16))
            samples.append(understand(rng, chain, tokenize))
        return [sample for sample in samples if sample is not None]


@dataclass(frozen=True)
class WorldReward:
    """Scores attempts at the world's own prompts and edits (`world/scoring.py`), all in [0, 1]. Drawing:
    follow, restraint, quality. Editing: follow, preserve, quality; a copied source follows nothing, and a
    blank or over-edited picture preserves nothing. `scale`: pixels a unit of the pictures.
    """

    scale: int = 1

    def check(self, kind: Kind, *, domain: TaskDomain | None, scale: int) -> None:
        """Raises ConfigError for a user's prompts and edits, and for pictures of another scale."""
        if not isinstance(domain, World):
            raise ConfigError(
                f"the world's reward scores only what the world asks for: with {kind}.data set, "
                f"{kind}.reward must be another one, such as a judge's"
            )
        if scale != self.scale:
            raise ConfigError(
                f"the model's pictures have {scale} pixels a unit: set {kind}.reward.scale={scale}"
            )

    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        return [self._score(attempt) for attempt in attempts]

    def _score(self, attempt: Attempt) -> Components:
        reading = read(attempt.picture, self.scale)
        if isinstance(attempt.truth, Prompt):
            return asdict(score_drawing(attempt.truth, reading))
        if isinstance(attempt.truth, Edit):
            return asdict(score_edit(attempt.truth, reading))
        raise ValueError("the world scores only its own tasks: this attempt has no truth")
