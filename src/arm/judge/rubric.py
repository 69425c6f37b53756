"""Rubrics of our own, and verdicts by them: scores in [0, 1], criterion by criterion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from arm.errors import InputError
from arm.judge.endpoint import Endpoint, JudgeConfig
from arm.judge.question import Exhibit, Question
from arm.judge.replies import Reply
from arm.judge.scale import Scale
from arm.judge.verdicts import read_scores


@dataclass(frozen=True)
class Rubric:
    """What is judged, each criterion 0 to 10. `version` changes whenever the text does."""

    version: str
    task: str
    criteria: Mapping[str, str]

    def instructions(self) -> str:
        lines = [f'- "{name}": {meaning}' for name, meaning in self.criteria.items()]
        # No number: a judge that repeats the form has not given a verdict.
        shape = ", ".join(f'"{name}": <0-10>' for name in self.criteria)
        return (
            f"{self.task}\nGive each criterion a number from 0 (fails) to 10 (perfect):\n"
            + "\n".join(lines)
            + f"\nAnswer with one JSON object and nothing else: {{{shape}}}"
        )


DRAWING = Rubric(
    "drawing-2",
    "You see one picture that was made from a prompt. Judge how well it shows what the prompt asks.",
    {
        "objects": "every object that the prompt names is there, in the number it names",
        "attributes": "each object has the colours and other attributes that the prompt gives it",
        "relations": "the objects stand to each other as the prompt says; 10 where it says nothing",
    },
)
EDITING = Rubric(
    "editing-2",
    "You see two pictures: a source, then the same picture after an edit. Judge the edit.",
    {
        "instruction": "the edit does what the instruction asks; an unchanged picture does not",
        "preservation": "whatever the instruction leaves alone is as it was in the source",
        "quality": "the edited picture is clean: whole shapes, no smears, no artefacts",
    },
)
ONCE_MORE = "That could not be read. Answer with the JSON object alone, every criterion a number from 0 to 10."


def rubric_named(name: str) -> Rubric:
    """A rubric by its task. Raises InputError for another name."""
    rubrics = {"drawing": DRAWING, "editing": EDITING}
    if name not in rubrics:
        raise InputError(f"there is no rubric '{name}'; there are {', '.join(rubrics)}")
    return rubrics[name]


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to judge: a prompt or instruction, and the pictures in the order the rubric says."""

    text: str
    pictures: tuple[UInt8[np.ndarray, "h w 3"], ...]


@dataclass(frozen=True)
class Verdict:
    """`scores` in [0, 1] by criterion, and the reply they were read from."""

    scores: dict[str, float]
    reply: Reply


def read_verdict(reply: str, criteria: Sequence[str]) -> dict[str, float] | None:
    """Scores in [0, 1] by criterion; None where one is missing, ambiguous or no number from 0 to 10."""
    scores = read_scores(reply, [(name,) for name in criteria], Scale(0, 10))
    return None if scores is None else {n: s / 10 for n, s in zip(criteria, scores, strict=True)}


class Judge:
    """Judges cases by one rubric."""

    def __init__(self, config: JudgeConfig, rubric: Rubric) -> None:
        self.endpoint, self.rubric = Endpoint(config), rubric

    def __call__(self, cases: Sequence[Case]) -> list[Verdict | None]:
        """A verdict for each case, in order; None where it is missing."""
        criteria = list(self.rubric.criteria)
        label = "Prompt" if self.rubric is DRAWING else "Instruction"

        def readable(text: str) -> bool:
            return read_verdict(text, criteria) is not None

        rules = self.rubric.instructions()
        questions = [
            Question(f"{label}: {case.text}", readable, tuple(map(Exhibit, case.pictures)), rules)
            for case in cases
        ]
        verdicts: list[Verdict | None] = []
        for reply in self.endpoint.ask_each(questions, ONCE_MORE):
            scores = None if reply is None else read_verdict(reply.text, criteria)
            verdicts.append(Verdict(scores, reply) if scores and reply else None)
        return verdicts
