"""Choices of judges: yes or no, and letters."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.judge.choices import read_letter, read_yes_no

YES_NO = [
    ("Yes", True),
    ("**Yes**, it is.", True),
    ("**No**, there is no dog.", False),
    ("No\nIt is a cat", False),
    ("no: a cat", False),
    ("_no_", False),
    ("not sure", None),
    ("yesterday", None),
    ("", None),
    ("Yes, at first sight.\n</think>\nNo", False),
    ("Yes. Wait, no.", False),
    ("Yes, no", None),
    ("yes or no", None),
    ("Yes/No", None),
    ("Answer: yes", True),
    ("The answer is no.", False),
    ('{"answer": "yes"}', True),
    ('{"reasoning": "No dog.", "answer": "yes"}', True),
    ("Yes\nNo other animals are visible.", True),
    ("Yes, there is no dog", True),
    ("No idea", None),
    ("no doubt", None),
    ("No one is there", None),
    ("Is there a dog? No.", False),
    ("**Answer:** **Yes**", True),
    ("YES", True),
    ("\uff39\uff25\uff33", True),
    ("Yes.", True),
    ("Yes!", True),
    ("Yes?", None),
    ("<think>yes</think>No", False),
    ("<think>yes", None),
    ("| Answer | Yes |", True),
    ("1. Yes", True),
    ("\u2705 Yes", True),
    ("Yes \u2705", True),
    ("Therefore, no.", False),
    ("No, wait, yes.", True),
    ("No. 5 is on the shirt", None),
    ("Answer: Yes or No", None),
    ('{"answer": "yes"', None),
    ("No it is a cat", False),
    ("Yes.\nNo.", False),
    ("(no)", False),
    ("No dog is visible.", None),
    ("yes and no", None),
    ("Answer with one word, yes or no.", None),
    ("The picture shows a cat. Yes.", True),
    ("Yes - a cat", True),
    ("Yes \u2014 a cat", True),
    ("Yes (100%)", True),
    ("No, it isn't.", False),
]

CONTRADICTIONS = [
    ("Yes, there is a dog. However, no, it is not brown.", None),
    ("No.\n\nExplanation: yes, a cat could be there.", None),
    ("Explanation: yes, it could be.\nNo", False),
    ("Yes, at first sight.\nNo, it is a cat.", False),
    ("First: Yes. Second look: No.", False),
    ("Yes, it seems. So no, it is a cat.", False),
    ("No no no.", None),
    ("Neither yes nor no", None),
    ("Maybe yes", None),
    ("Probably no.", None),
    ("Yes, definitely yes.", True),
    ("Q: Is there a dog?\nA: No", False),
    ("I'm sorry, but I can't help with that.", None),
    ('```json\n{"answer": "Yes"}\n```', True),
    ("<answer>no</answer>", False),
    ("\\boxed{Yes}", True),
]


@pytest.mark.parametrize(("reply", "expected"), YES_NO + CONTRADICTIONS)
def test_yes_and_no(reply: str, expected: bool | None):
    assert read_yes_no(reply) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"), ("<think>A</think>B", "B"), ("A or B", None), ("The answer is (C).", "C"),
        ("Letter: A\nNo. Letter: B", "B"), ("Z", "Z"), ("hm", None), ("**B**", "B"), ("B. horse", "B"),
        ("A small pony", None), ("A is the answer", "A"), ("Option A? No, option B.", "B"), ("<think>B", None),
        ("\uff22", "B"), ('{"letter": "B", "reasoning": "not A"}', "B"), ("E", None), ("Answer: A or B", None),
    ],
)  # fmt: skip
def test_letters(reply: str, expected: str | None):
    assert read_letter(reply, "ABCDZ") == expected


FORMS = (
    "{}", "{}.", "**{}**", "{}!", "{}, it is so.", "{}\nThe picture shows it.", "Answer: {}", "**Answer:** {}",
    "The answer is {}.", '{{"answer": "{}"}}', "{{'answer': '{}', 'reasoning': 'No dog, yes a cat'}}", "<answer>{}</answer>",
    "| Answer | {} |", "\\boxed{{{}}}", "1. {}", "{} (certain)", "Therefore, {}.", "### {}", "`{}`",
)  # fmt: skip
THOUGHTS = (
    "", "<think>{}</think>", "{}, at first sight.\n</think>\n", "<thinking>\nSay {}. Or not.\n</thinking>\n\n",
    "{}.\n\nWait.\n\n",
)  # fmt: skip


@given(st.booleans(), st.booleans(), st.sampled_from(FORMS), st.sampled_from(THOUGHTS),
       st.sampled_from((str.lower, str.upper, str.title)))  # fmt: skip
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_last_answer_is_read_in_every_form(
    says: bool, drafted: bool, form: str, thought: str, spelled: Callable[[str], str]
):
    words = {True: spelled("yes"), False: spelled("no")}
    reply = thought.format(words[drafted]) + form.format(words[says])
    assert read_yes_no(reply) is says
    assert read_yes_no("<think>" + form.format(words[says])) is None
