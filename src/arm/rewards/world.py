"""The world's rewards, exact and free: the reader says what a picture shows.

Drawing: follow, restraint, quality (`world/draw_score.py`). Editing: follow, preserve, quality
(`world/edit_score.py`), of which a copied source follows nothing and a blank or over-edited picture
preserves nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from arm.errors import ConfigError
from arm.rewards.base import Attempt, Components, Kind
from arm.world.draw_score import score_drawing
from arm.world.edit_score import score_edit
from arm.world.edits import Edit
from arm.world.prompts import Prompt
from arm.world.reader import read


@dataclass(frozen=True)
class WorldReward:
    """Scores attempts whose `truth` is a prompt or an edit. `scale`: pixels a unit of the pictures."""

    scale: int = 1

    def check(self, kind: Kind, *, of_world: bool, scale: int) -> None:
        """Raises ConfigError for a user's prompts and edits, and for pictures of another scale."""
        if not of_world:
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
        raise ValueError("the world scores only what it asked for: this attempt has no truth")
