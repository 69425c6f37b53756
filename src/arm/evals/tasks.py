"""Scores of a model on the tasks of a domain: drawings, edits and answers, with 95 % intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arm.domain import DrawingTask, EditingTask, EditScore, QuestionTask, Referee, TaskDomain
from arm.evals.painting import canvas_of, encode_pictures, paint_each
from arm.evals.statistics import Score, mean_of_groups, mean_score
from arm.generate import Guidance
from arm.pipeline import Arm, Codes
from arm.sampling import GREEDY, Sampling

Progress = Callable[[str], None]
"""Called with the name of each part as it begins."""


@dataclass(frozen=True)
class EvalSize:
    """How much is measured. The defaults are what published figures use."""

    pictures: int = 640
    prompts_per_tag: int = 30
    images_per_prompt: int = 2
    edits_per_kind: int = 100
    questions_per_kind: int = 100
    wise_prompts: int = 45
    seed: int = 2026


def quick_size(seed: int = 2026) -> EvalSize:
    """A small run for the demo and the tests, whose intervals are wide."""
    return EvalSize(96, 8, 1, 6, 12, 12, seed)


@dataclass(frozen=True)
class SamplingSetting:
    """Sampling and guidance of drawing and of editing; None is the model's default."""

    name: str
    sampling: Sampling | None = None
    edit_sampling: Sampling | None = None
    guidance: Guidance | None = None


SETTINGS = (
    SamplingSetting("default"),
    SamplingSetting("greedy", sampling=GREEDY, edit_sampling=GREEDY),
    SamplingSetting("cfg1", guidance=Guidance(1.0, 1.0)),
)


def draw_and_check(
    arm: Arm,
    referee: Referee,
    tasks: Sequence[DrawingTask],
    images: int,
    setting: SamplingSetting,
    seed: int,
) -> dict[str, list[float]]:
    """The share of right pictures of each prompt, in [0, 1], by kind. Prompts are the independent samples;
    `images` are drawn of each, one where sampling is greedy.
    """
    repeats = 1 if setting.sampling == GREEDY else images
    repeated = [task for task in tasks for _ in range(repeats)]
    codes = arm.draw_prompts(
        [task.text for task in repeated],
        sampling=setting.sampling,
        guidance=setting.guidance,
        seed=seed,
    )
    pictures = paint_each(arm, codes)
    shares: dict[str, list[float]] = {}
    for i, task in enumerate(tasks):
        drawn = pictures[i * repeats : (i + 1) * repeats]
        right = [referee.draws_right(task, picture) for picture in drawn]
        shares.setdefault(task.kind, []).append(sum(right) / repeats)
    return shares


def score_edited(
    arm: Arm, referee: Referee, tasks: Sequence[EditingTask], codes: Sequence[Codes]
) -> dict[str, list[EditScore]]:
    """The scores of edited pictures given as codes, by kind."""
    scores: dict[str, list[EditScore]] = {}
    for task, picture in zip(tasks, paint_each(arm, codes), strict=True):
        scores.setdefault(task.kind, []).append(referee.score_edit(task, picture))
    return scores


def edit_and_score(
    arm: Arm,
    referee: Referee,
    tasks: Sequence[EditingTask],
    setting: SamplingSetting,
    seed: int,
) -> dict[str, list[EditScore]]:
    """The scores of each edited picture, by kind."""
    codes = arm.edit_codes(
        encode_pictures(arm, [task.source for task in tasks]),
        [task.instruction for task in tasks],
        sampling=setting.edit_sampling,
        guidance=setting.guidance,
        seed=seed,
    )
    return score_edited(arm, referee, tasks, codes)


def perfect_edits(
    arm: Arm, referee: Referee, tasks: Sequence[EditingTask]
) -> dict[str, list[EditScore]]:
    """The scores of the targets' own codes, painted: what a model without errors would have with this
    tokenizer and decoder.
    """
    targets = encode_pictures(arm, [task.target for task in tasks])
    return score_edited(arm, referee, tasks, targets)


def answer_questions(arm: Arm, tasks: Sequence[QuestionTask]) -> list[str]:
    """The model's answer to each question."""
    codes = encode_pictures(arm, [task.picture for task in tasks])
    return arm.answer_codes(codes, [task.text for task in tasks])


def f1(truth: Sequence[bool], said: Sequence[bool]) -> float:
    """F1 of 'yes', as POPE computes it; 0 where nothing is both said and true."""
    both = sum(t and s for t, s in zip(truth, said, strict=True))
    return 2 * both / max(1, sum(truth) + sum(said)) if both else 0.0


def f1_score(truth: Sequence[bool], said: Sequence[bool], seed: int = 0) -> Score:
    """F1 with its interval over resampled questions."""
    rng = np.random.default_rng(seed)
    t, s = np.array(truth), np.array(said)
    draws = [rng.integers(len(t), size=len(t)) for _ in range(1000)]
    low, high = np.percentile([f1(t[d].tolist(), s[d].tolist()) for d in draws], [2.5, 97.5])
    return Score(f1(truth, said), float(low), float(high), len(t))


def question_scores(arm: Arm, tasks: Sequence[QuestionTask]) -> dict[str, Any]:
    """Accuracy over the kinds of question, F1 of yes/no questions, and accuracy by kind."""
    right: dict[str, list[float]] = {}
    truth, said = [], []
    for task, answer in zip(tasks, answer_questions(arm, tasks), strict=True):
        right.setdefault(task.kind, []).append(float(answer == task.answer))
        if task.kind == "existence":
            truth.append(task.answer == "yes")
            said.append(answer == "yes")
    return {
        "accuracy": mean_of_groups(right).to_dict(),
        "yesno_f1": f1_score(truth, said).to_dict(),
        "kinds": {kind: mean_score(v).to_dict() for kind, v in right.items()},
    }


def drawing_table(shares: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The mean over kinds, and each kind's."""
    return {
        "overall": mean_of_groups(shares).to_dict(),
        "tags": {tag: mean_score(v).to_dict() for tag, v in shares.items()},
    }


def editing_table(scores: Mapping[str, Sequence[EditScore]]) -> dict[str, Any]:
    """SC, PQ and O as means over kinds, in [0, 10], and O of each kind."""

    def over_kinds(name: str) -> dict[str, float | int]:
        values = {kind: [getattr(score, name) for score in v] for kind, v in scores.items()}
        return mean_of_groups(values).to_dict()

    kinds = {k: mean_score([score.overall for score in v]).to_dict() for k, v in scores.items()}
    return {
        "sc": over_kinds("sc"),
        "pq": over_kinds("pq"),
        "o": over_kinds("overall"),
        "kinds": kinds,
    }


def by_setting(
    measure: Callable[[SamplingSetting], dict[str, Any]], settings: Sequence[SamplingSetting]
) -> dict[str, Any]:
    """The first setting's scores, and those of the others under their names."""
    default, *others = settings
    return {**measure(default), **{setting.name: measure(setting) for setting in others}}


def drawing_and_editing(
    arm: Arm,
    domain: TaskDomain,
    tasks: tuple[Sequence[DrawingTask], Sequence[EditingTask]],
    images: int,
    settings: tuple[SamplingSetting, SamplingSetting],
    seed: int,
) -> dict[str, Any]:
    """The means over kinds of drawing ("geneval", 0 to 1) and of editing ("gedit", O, 0 to 10), each at its
    own setting.
    """
    referee = domain.referee(canvas_of(arm))
    drawn = draw_and_check(arm, referee, tasks[0], images, settings[0], seed)
    edited = edit_and_score(arm, referee, tasks[1], settings[1], seed)
    overall = {kind: [score.overall for score in scores] for kind, scores in edited.items()}
    return {
        "geneval": mean_of_groups(drawn).to_dict(),
        "gedit": mean_of_groups(overall).to_dict(),
    }
