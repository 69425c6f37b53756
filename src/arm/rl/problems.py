"""What reinforcement learning asks for: prompts and edits, each with its truth, and questions to keep.

All of training combinations; problem i of step s is a pure function of (seed, s, i), whoever asks.


What reinforcement learning asks for, from a user's files: prompts of a text file, edits of a data source.

As in `problems.py`, problem i of step s is a pure function of (seed, s, i)."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arm.data.code_shards import CodeConversations, shards_digest
from arm.data.contents import content_digest
from arm.data.conversation import Conversation, to_sample
from arm.data.images import to_float
from arm.data.mixture import MAX_REJECTED
from arm.data.records import Skipped
from arm.data.sources import open_source
from arm.errors import DataError, InputError
from arm.evals.painting import encode_scenes, scene_size
from arm.files import read_text
from arm.pipeline import Arm
from arm.rl.rewards import Kind, Picture
from arm.sequence import Image, PackedBatch, Text, Tokens, Turn, Weights, flatten, pack, user
from arm.train import parallel
from arm.world.chains import Chain
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
from arm.world.tasks import understand

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


Maker = Callable[[Arm, int, int, Sequence[int]], list[Problem]]
"""(model, seed, step, numbers of the problems) -> the problems."""


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
