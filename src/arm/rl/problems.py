"""What reinforcement learning asks for: prompts, edits, and conversations that preserve understanding.

They come from a domain, with their truth, or from a user's files: prompts from a text file, edits from a data
source. Problem i of step s is a pure function of (seed, s, i) in every process.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.code_shards import CodeConversations, shards_digest
from arm.data.contents import content_digest
from arm.data.conversation import Conversation, to_sample
from arm.data.images import to_float
from arm.data.mixture import MAX_REJECTED
from arm.data.records import Skipped
from arm.data.sources import open_source
from arm.domain import DrawingTask, PixelArray, TaskDomain
from arm.errors import DataError, InputError
from arm.evals.painting import canvas_of, encode_pictures
from arm.files import read_text
from arm.pipeline import Arm
from arm.rl.rewards import Kind
from arm.sequence import Image, PackedBatch, Text, Turn, Weights, flatten, pack, user
from arm.train import parallel


@dataclass(frozen=True, eq=False)
class Problem:
    """A prompt or an edit, for which a group of pictures is drawn."""

    turn: Turn
    """What the user says, with the codes of the picture to edit."""
    text: str
    """Its words."""
    grid: tuple[int, int]
    """Height and width in tokens of the pictures."""
    truth: Any
    """The truth of a domain's task; None for a user's."""
    source: PixelArray | None = None
    """The picture to edit; None for drawing."""


Maker = Callable[[Arm, int, int, Sequence[int]], list[Problem]]
"""(model, seed, step, numbers of the problems) -> the problems."""
AnswerBatches = Callable[[Arm, int, int, int, int], PackedBatch]
"""(model, seed, step, rank, count) -> `count` conversations in which the answers alone have weight."""


def _problem(arm: Arm, task: DrawingTask, index: int) -> Problem:
    grid = arm.defaults.grids[index % len(arm.defaults.grids)]
    return Problem(user(Text(arm.text_tokenizer.ids(task.text))), task.text, grid, task.truth)


def drawing_of(domain: TaskDomain) -> Maker:
    """Makes drawing problems from a domain's prompts, on the model's grids in turn."""

    def make(arm: Arm, seed: int, step: int, indices: Sequence[int]) -> list[Problem]:
        canvas = canvas_of(arm)
        rngs = [np.random.default_rng([seed, step, index, 0]) for index in indices]
        return [
            _problem(arm, domain.sample_drawing(rng, canvas, index), index)
            for rng, index in zip(rngs, indices, strict=True)
        ]

    return make


def editing_of(domain: TaskDomain) -> Maker:
    """Makes editing problems from a domain's edits."""

    def make(arm: Arm, seed: int, step: int, indices: Sequence[int]) -> list[Problem]:
        canvas = canvas_of(arm)
        tasks = [
            domain.sample_editing(np.random.default_rng([seed, step, index, 1]), canvas, index)
            for index in indices
        ]
        codes = encode_pictures(arm, [task.source for task in tasks])
        return [
            Problem(
                user(Image(c), Text(arm.text_tokenizer.ids(task.instruction))),
                task.instruction,
                (c.shape[0], c.shape[1]),
                task.truth,
                task.source,
            )
            for task, c in zip(tasks, codes, strict=True)
        ]

    return make


def questions(
    arm: Arm, domain: TaskDomain, seed: int, step: int, rank: int, count: int
) -> PackedBatch:
    """`count` of the domain's conversations about pictures. Only the answers have weight in the loss."""

    def encode(picture: PixelArray) -> NDArray[np.int64]:
        return arm.tokenizer.encode(to_float(picture[None]))[0].cpu().numpy()

    rng = np.random.default_rng([seed, step, rank, 2])
    samples = domain.sample_understanding(
        rng, canvas_of(arm), count, encode, arm.text_tokenizer.ids
    )
    weights = Weights(text=1.0, code=0.0)
    tokens = [flatten(sample, arm.vocab, weights) for sample in samples]
    return pack(tokens, max(map(len, tokens)), arm.vocab)


def read_prompts(path: Path) -> dict[int, str]:
    """The lines of a text file that are not empty, by their number from 1. Raises DataError."""
    try:
        lines = read_text(path).split("\n")
    except InputError as error:
        raise DataError(f"prompts, one a line: {error}") from None
    prompts = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not prompts:
        raise DataError(f"{path} holds no prompts; write one a line")
    return prompts


def drawing_from(path: Path, arm: Arm) -> Maker:
    """Drawing problems from a text file, on the model's grids in turn. Raises DataError, also for a prompt
    that the model cannot read: a run would end at the step that draws it.
    """
    prompts = []
    for number, text in read_prompts(path).items():
        try:
            prompts.append((text, arm.text_tokenizer.ids(text)))
        except InputError as error:
            raise DataError(f"{path}:{number}: {error}") from None

    def make(arm: Arm, seed: int, step: int, indices: Sequence[int]) -> list[Problem]:
        problems = []
        for index in indices:
            rng = np.random.default_rng([seed, step, index, 0])
            text, ids = prompts[int(rng.integers(len(prompts)))]
            grid = arm.defaults.grids[index % len(arm.defaults.grids)]
            problems.append(Problem(user(Text(ids)), text, grid, None))
        return problems

    return make


def data_digests(tasks: Mapping[Kind, Path | None], anchor: Path | None) -> dict[str, str]:
    """Digests of the users' data that a run learns from, so that a resumed run notices other data.

    tasks: the data of each task, None for the built-in problems. anchor: code shards of conversations.
    Returns SHA-256 by name: of the lines of a file of prompts, of all words and pictures of edits, of the
    shards. Raises DataError where something cannot be read.
    """

    def digests() -> dict[str, str]:
        values = {f"content of {anchor}": shards_digest(anchor)} if anchor else {}
        for kind, path in tasks.items():
            if path is not None and kind == "drawing":
                prompts = "\n".join(read_prompts(path).values())
                values[f"data of {kind}"] = hashlib.sha256(prompts.encode()).hexdigest()
            elif path is not None:
                values[f"data of {kind}"] = content_digest(open_source(path, allow_outside=True))
        return values

    return parallel.broadcast_from_main(digests)


def instruction_of(conversation: Conversation) -> str:
    """The words beside the one picture of a user's first message. Raises DataError for others."""
    first = conversation.messages[0]
    words = " ".join(part.strip() for part in first.parts if isinstance(part, str)).strip()
    pictures = [part for part in first.parts if isinstance(part, int)]
    if first.role != "user" or len(pictures) != 1 or not words:
        raise DataError("an edit begins with a user's message of one picture and an instruction")
    return words


def editing_from(path: Path, skipped: Skipped, allow_outside: bool = False) -> Maker:
    """Editing problems from a data source (`data/sources.py`): the first message of each record. What
    cannot be used is noted in `skipped` and another taken. Raises DataError where nothing can.
    """
    source = open_source(path, allow_outside)

    def one(arm: Arm, rng: np.random.Generator) -> Problem:
        reason = ""
        for _ in range(MAX_REJECTED):
            index = int(rng.integers(len(source)))
            try:
                record = source.record(index)
                text = instruction_of(record.conversation)
                ids = arm.text_tokenizer.ids(text)
                picture = record.fitted_image(0, arm.defaults.grids, arm.tokenizer.patch)
            except (DataError, InputError) as error:
                reason = str(error)
                skipped.add(source.where(index), reason)
                continue
            codes = arm.tokenizer.encode(to_float(picture[None]))[0].cpu().numpy()
            turn = user(Image(codes), Text(ids))
            return Problem(turn, text, (codes.shape[0], codes.shape[1]), None, picture)
        raise DataError(f"{path}: {MAX_REJECTED} records in a row are no edits; the last: {reason}")

    def make(arm: Arm, seed: int, step: int, indices: Sequence[int]) -> list[Problem]:
        return [one(arm, np.random.default_rng([seed, step, index, 1])) for index in indices]

    return make


def conversations(
    arm: Arm, shards: CodeConversations, seed: int, step: int, rank: int, count: int
) -> PackedBatch:
    """`count` conversations of code shards, weighted on the assistant's words alone, to keep
    understanding by. Raises DataError where none has any.
    """
    rng = np.random.default_rng([seed, step, rank, 2])
    found = []
    for _ in range(MAX_REJECTED * count):
        conversation, codes = shards[int(rng.integers(len(shards)))]
        said = [part for m in conversation.messages if m.role == "assistant" for part in m.parts]
        if any(isinstance(part, str) for part in said):
            sample = to_sample(conversation, codes, arm.text_tokenizer.ids)
            found.append(flatten(sample, arm.vocab, Weights(text=1.0, code=0.0)))
        if len(found) == count:
            return pack(found, max(map(len, found)), arm.vocab)
    raise DataError(f"{shards.directory} holds no answers in words to keep understanding by")


def answers_of(domain: TaskDomain | None, shards: CodeConversations | None) -> AnswerBatches | None:
    """The source of the conversations that preserve understanding: `shards` if there are any, else the domain."""

    def of_shards(arm: Arm, seed: int, step: int, rank: int, count: int) -> PackedBatch:
        assert shards is not None
        return conversations(arm, shards, seed, step, rank, count)

    def of_domain(arm: Arm, seed: int, step: int, rank: int, count: int) -> PackedBatch:
        assert domain is not None
        return questions(arm, domain, seed, step, rank, count)

    if shards is not None:
        return of_shards
    return None if domain is None else of_domain
