"""A vision-language model as a judge, at any endpoint that speaks the OpenAI chat API."""

from arm.judge.endpoint import Endpoint, JudgeConfig, JudgeError, Outage
from arm.judge.question import Exhibit, Question
from arm.judge.replies import Reply
from arm.judge.rubric import (
    DRAWING,
    EDITING,
    Case,
    Judge,
    Rubric,
    Verdict,
    read_verdict,
    rubric_named,
)

__all__ = [
    "DRAWING",
    "EDITING",
    "Case",
    "Endpoint",
    "Exhibit",
    "Judge",
    "JudgeConfig",
    "JudgeError",
    "Outage",
    "Question",
    "Reply",
    "Rubric",
    "Verdict",
    "read_verdict",
    "rubric_named",
]
