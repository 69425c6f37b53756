"""What every reward shares: an attempt goes in, named components in [0, 1] come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import UInt8

from arm.world.edits import Edit
from arm.world.prompts import Prompt

Picture = UInt8[np.ndarray, "h w 3"]
Components = Mapping[str, float]
Kind = Literal["drawing", "editing"]


@dataclass(frozen=True, eq=False)
class Attempt:
    """One picture that was made for a text. `source` is the picture that was to be edited, `truth`
    what the world knows about the task; None where it is nobody's.
    """

    text: str
    picture: Picture
    source: Picture | None = None
    truth: Prompt | Edit | None = None


class Reward(Protocol):
    """A frozen dataclass, so that a run's configuration can record it."""

    def check(self, kind: Kind, *, of_world: bool, scale: int) -> None:
        """Raises ArmError in one line where this reward cannot work, before anything is trained.

        kind: the task. of_world: whether the world itself asks, so that attempts hold their truth.
        scale: pixels a unit of the model's pictures.
        """
        ...

    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        """The components of each attempt, all under the same names; None where they are missing,
        which is never zero: a missing reward leaves every statistic.
        """
        ...
