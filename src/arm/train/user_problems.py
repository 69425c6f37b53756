"""What reinforcement learning asks for, from a user's files: prompts of a text file, edits of a data source.

As in `problems.py`, problem i of step s is a pure function of (seed, s, i).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from arm.data.code_shards import CodeConversations
from arm.data.conversation import Conversation, to_sample
from arm.data.mixture import TRIES
from arm.data.pictures import to_float
from arm.data.skipped import Skipped
from arm.data.sources import open_source
from arm.data.transforms import fit_to_grid
from arm.errors import DataError, InputError
from arm.pipeline import Arm
from arm.sequence import Image, PackedBatch, Text, Weights, flatten, pack, user
from arm.train.problems import Problem

Maker = Callable[[Arm, int, int, Sequence[int]], list[Problem]]
"""(model, seed, step, numbers of the problems) -> the problems."""


def read_prompts(path: Path) -> dict[int, str]:
    """The lines of a text file that are not empty, by their number from 1. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no text file of prompts, one a line ({error})") from None
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


def instruction_of(conversation: Conversation) -> str:
    """The words beside the one picture of a user's first message. Raises DataError for others."""
    first = conversation.messages[0]
    words = " ".join(part.strip() for part in first.parts if isinstance(part, str)).strip()
    pictures = [part for part in first.parts if isinstance(part, int)]
    if first.role != "user" or len(pictures) != 1 or not words:
        raise DataError("an edit begins with a user's message of one picture and an instruction")
    return words


def editing_from(path: Path, skipped: Skipped) -> Maker:
    """Editing problems from a data source (`data/sources.py`): the first message of each record. What
    cannot be used is noted in `skipped` and another taken. Raises DataError where nothing can.
    """
    source = open_source(path)

    def one(arm: Arm, rng: np.random.Generator) -> Problem:
        reason = ""
        for _ in range(TRIES):
            index = int(rng.integers(len(source)))
            try:
                record = source.record(index)
                text = instruction_of(record.conversation)
                ids = arm.text_tokenizer.ids(text)
                picture = fit_to_grid(record.image(0), arm.defaults.grids, arm.tokenizer.patch)
            except (DataError, InputError) as error:
                reason = str(error)
                skipped.add(source.where(index), reason)
                continue
            codes = arm.tokenizer.encode(to_float(picture[None]))[0].cpu().numpy()
            turn = user(Image(codes), Text(ids))
            return Problem(turn, text, (codes.shape[0], codes.shape[1]), None, picture)
        raise DataError(f"{path}: {TRIES} records in a row are no edits; the last: {reason}")

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
    for _ in range(TRIES * count):
        conversation, codes = shards[int(rng.integers(len(shards)))]
        said = [part for m in conversation.messages if m.role == "assistant" for part in m.parts]
        if any(isinstance(part, str) for part in said):
            sample = to_sample(conversation, codes, arm.text_tokenizer.ids)
            found.append(flatten(sample, arm.vocab, Weights(text=1.0, code=0.0)))
        if len(found) == count:
            return pack(found, max(map(len, found)), arm.vocab)
    raise DataError(f"{shards.directory} holds no answers in words to keep understanding by")
