"""MMBench's reading with a language model's help; files, rotations and rules are in test_understanding."""

import pytest

from arm.evals.benchmarks import mmbench
from arm.evals.benchmarks.base import Item

OPTIONS = {"A": "a cow", "B": "z", "C": "zebras"}
ITEM = Item("1", "", "scene", data={"options": OPTIONS, "question": "what is it ?", "answer": "A",
                                    "ability": ""})  # fmt: skip


def test_only_what_the_rules_cannot_read_is_asked_about():
    assert mmbench.match_prompt(ITEM, "C") is None
    assert mmbench.match_prompt(ITEM, "it is a cow") is None
    prompt = mmbench.match_prompt(ITEM, "something that moos")
    assert prompt is not None and prompt.endswith(
        "Question: what is it ?\nOptions: A. a cow B. z C. zebras\nAnswer: something that moos\nLetter:"
    )


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"), ("(C)", "C"), ("Letter: A", "A"), ("a cow", "A"), ("Z", ""), ("Z.", ""),
        ("Z, as none of the options is meant", ""), ("A or Z", None), ("A or B", None), ("D", None),
        ("", None), ("I cannot tell", None),
    ],
)  # fmt: skip
def test_reading_the_language_model(reply: str, expected: str | None):
    """Z means none also where an option's text is a z."""
    assert mmbench.read_match(ITEM, reply) == expected


def test_an_answer_that_means_no_option_is_wrong_and_counted():
    found = mmbench.score([ITEM], {"1": mmbench.NO_OPTION})
    assert found.overall.value == 0.0 and found.missing == 0 and found.details["unreadable"] == 1.0
