"""Rewards for reinforcement learning (ARM section 4): an attempt goes in, named components in [0, 1] come out.

`SiglipReward`: how well a drawing fits its text, the sigmoid of the scaled cosine of a SigLIP model's two
towers. `JudgeReward`: the scores of a vision-language judge (`judge/`); drawing: objects, attributes, relations;
editing: instruction, preservation, quality. A domain may have a reward of its own, which knows the truth of
its tasks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from arm.data.images import to_float
from arm.domain import PixelArray, TaskDomain
from arm.errors import ConfigError, TrainingError, shown
from arm.judge import Case, Judge, JudgeConfig, rubric_named
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.models.text import text_embeddings
from arm.models.tokenizer import vision_encoder

Components = Mapping[str, float]
Kind = Literal["drawing", "editing"]


@dataclass(frozen=True, eq=False)
class Attempt:
    """A picture that the policy made for a task."""

    text: str
    """The prompt or the instruction."""
    picture: PixelArray
    source: PixelArray | None = None
    """The picture that was to be edited; None for drawing."""
    truth: Any = None
    """The truth of a domain's task (`arm.domain`); None for a user's."""


Reward = Callable[[Sequence[Attempt]], Sequence[Any]]
"""Scores attempts: returns for each its components in [0, 1], all under the same names, or None where they are
missing, which is never zero: a missing reward leaves every statistic. A function serves, or a frozen dataclass
with `__call__`, whose fields a run's configuration then records. `as_components` lists the accepted values."""


@runtime_checkable
class CheckedReward(Protocol):
    """A reward that can tell before anything is sampled whether it works for a task."""

    def check(self, kind: Kind, *, domain: TaskDomain | None, scale: int) -> None:
        """Raises ArmError where the reward cannot work.

        kind: the task. domain: whose problems are attempted, so that attempts carry their truth; None for a
        user's. scale: pixels per unit of the model's pictures, see `arm.domain.Canvas`.
        """
        ...


def as_components(value: Any, names: Sequence[str] | None = None) -> Components | None:
    """A reward's value for one attempt as named Python floats.

    value: a mapping from names to numbers, or one number, which is then called "reward". A number is a Python,
    NumPy or torch scalar, or an array of one element. names: those of the other attempts, None if unknown.
    Returns None, a missing reward, for None and where a component is None, NaN or infinite (in float32, in
    which advantages are computed). Raises TrainingError for anything else.
    """
    if value is None:
        return None
    components = dict(value) if isinstance(value, Mapping) else {"reward": value}
    if not components:
        raise TrainingError("the reward returned no component; return numbers by name, or None")
    if names is not None and set(components) != set(names):
        raise TrainingError(
            f"the reward returned the components {_listed(components)}, but {_listed(names)} for another "
            "attempt; all attempts need the same names"
        )
    numbers = {str(name): _as_float(name, number) for name, number in components.items()}
    finite = {k: v for k, v in numbers.items() if v is not None and abs(v) <= FLOAT32_MAX}
    return finite if len(finite) == len(numbers) else None


FLOAT32_MAX = float(np.finfo(np.float32).max)


def _listed(names: Iterable[object]) -> str:
    return ", ".join(sorted(shown(str(name)) for name in names))


def _as_float(name: object, number: Any) -> float | None:
    try:
        item = number.item() if isinstance(number, np.ndarray | Tensor) else number
        if item is None or isinstance(item, float | int | np.number | np.bool_):
            return None if item is None else float(item)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        pass
    raise TrainingError(
        f"the reward returned {shown(repr(number))} for '{shown(str(name))}'; a reward is a number, numbers "
        "by name, or None where it is missing"
    )


@dataclass(frozen=True)
class SiglipReward:
    """`towers`: a directory or hub id with the model and its text tokenizer."""

    towers: Path

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return load_siglip(self.towers), load_text_tokenizer(self.towers)

    def check(self, kind: Kind, *, domain: TaskDomain | None, scale: int) -> None:
        """Raises ConfigError for editing, WeightsError where the towers cannot be loaded."""
        if kind == "editing":
            raise ConfigError(
                "SigLIP scores a picture by its text and cannot tell what an edit changed"
            )
        _ = self._loaded

    @torch.no_grad()
    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        model, tokenizer = self._loaded
        encoder = vision_encoder(model.vision_model)
        found: list[Components | None] = [None] * len(attempts)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, attempt in enumerate(attempts):
            by_shape.setdefault(attempt.picture.shape, []).append(i)
        for indices in by_shape.values():
            pixels = to_float(np.stack([attempts[i].picture for i in indices]))
            texts = [attempts[i].text for i in indices]
            image = encoder.pool(encoder.features(pixels))
            text = text_embeddings(model, tokenizer, texts)
            cosine = F.cosine_similarity(image, text)
            fit = torch.sigmoid(cosine * model.logit_scale.exp() + model.logit_bias)
            for i, value in zip(indices, fit.flatten().tolist(), strict=True):
                found[i] = {"fit": value}
        return found


@dataclass(frozen=True)
class JudgeReward:
    judge: JudgeConfig
    rubric: Kind

    @cached_property
    def client(self) -> Judge:
        """The client, with the tally of what it asked. A step that lacks too many rewards calls again
        for them alone, and then also for what could not be read: nothing else could end its wait.
        """
        return Judge(replace(self.judge, ask_again=True), rubric_named(self.rubric))

    def check(self, kind: Kind, *, domain: TaskDomain | None, scale: int) -> None:
        """Raises ConfigError for another task's rubric, JudgeError where the endpoint is down or lacks
        the model.
        """
        if self.rubric != kind:
            raise ConfigError(
                f"{kind}.reward judges by the rubric of {self.rubric}: set {kind}.reward.rubric={kind}"
            )
        self.client.endpoint.check()

    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        cases = []
        for attempt in attempts:
            if self.rubric == "editing" and attempt.source is None:
                raise ValueError("an edit is judged beside its source, which this attempt lacks")
            pictures = (
                (attempt.picture,) if attempt.source is None else (attempt.source, attempt.picture)
            )
            cases.append(Case(attempt.text, pictures))
        return [None if v is None else v.scores for v in self.client(cases)]
