"""A vision-language judge's verdict as a reward (ARM section 4), see `judge/`.

Drawing: objects, attributes, relations. Editing: instruction, preservation, quality, of the source
and the edited picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from arm.errors import ConfigError
from arm.judge import Case, Judge, JudgeConfig, rubric_named
from arm.rewards.base import Attempt, Components, Kind


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

    def check(self, kind: Kind, *, of_world: bool, scale: int) -> None:
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
