"""The built-in world as a domain (`arm.domain`), and its benchmarks: `arm eval world`.

Drawing, editing and knowledge are scored at the model's default sampling, greedily, and without guidance.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

import arm
from arm.data.captioned import PictureBatch
from arm.data.mixture import Dropout, Mix, Ratios
from arm.domain import (
    Canvas,
    DrawingTask,
    EditingTask,
    PatchLabels,
    PixelArray,
    QuestionTask,
    Split,
)
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
from arm.sequence import Sample, Tokenize
from arm.world import training
from arm.world.chains import Chain, read_shards
from arm.world.edits import EDITORS, Edit, sample_edit
from arm.world.language import FACT_KINDS, build_tokenizer, with_article
from arm.world.questions import ASKERS, ask
from arm.world.sampling import pick, sample_scene
from arm.world.scene import SHAPES, Scene, render
from arm.world.scoring import (
    TAGS,
    Prompt,
    WorldReferee,
    dense_prompt,
    knowledge_facts,
    knowledge_prompt,
    sample_prompt,
)
from arm.world.training import understand, world_samples

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
        return tuple(map(len, training.ATTRIBUTES.values()))

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
        return training.world_batch(
            seed, number, size, canvas.grids, canvas.patch,
            scale=canvas.scale, split=split, singles=singles, twins=twins,
        )  # fmt: skip

    def class_of(self, truth: Scene) -> int:
        return SHAPES.index(truth.things[0].shape)

    def comparable(
        self, pictured: Sequence[Scene], described: Sequence[Scene]
    ) -> Bool[Tensor, "b n"]:
        return training.comparable_pairs(pictured, described)

    def patch_labels(self, batch: PictureBatch, canvas: Canvas) -> PatchLabels:
        return training.patch_labels(batch, canvas.patch / canvas.scale)

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
