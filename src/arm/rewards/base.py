"""What every reward shares: an attempt goes in, named components in [0, 1] come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from arm.world.edits import Edit
from arm.world.prompts import Prompt

Picture = UInt8[np.ndarray, "h w 3"]
Components = Mapping[str, float]


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

    def check(self) -> None:
        """Raises ArmError in one line where this reward cannot work, before anything is trained."""
        ...

    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        """The components of each attempt, all under the same names; None where they are missing,
        which is never zero: a missing reward leaves every statistic.
        """
        ...
