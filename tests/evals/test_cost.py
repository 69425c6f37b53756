"""Tokens and money, by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from arm.evals.benchmarks import BENCHMARKS
from arm.evals.benchmarks.base import Item, JudgePrompt
from arm.evals.benchmarks.mmbench import MATCH_PROMPT
from arm.evals.cost import Estimate, Prices, estimate, estimate_matching, picture_tokens


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((512, 512), 1),
        ((513, 512), 2),
        ((1024, 1024), 4),  # made 768 x 768
        ((2048, 4096), 6),  # made 1024 x 2048, then 768 x 1536
        ((4096, 512), 4),  # made 2048 x 256
        ((768, 768), 4),
    ],
)
def test_tiles_of_a_picture(size: tuple[int, int], tiles: int):
    assert picture_tokens(size) == 85 + 170 * tiles


def test_a_small_picture_is_enlarged_as_the_judge_sees_it():
    assert picture_tokens((56, 56), 256) == 85 + 170  # 280 x 280
    assert picture_tokens((300, 200), 256) == 85 + 170 * 2  # 600 x 400


def test_questions_about_what_is_there():
    calls = [
        JudgePrompt("x" * 9, True, lambda reply: True),
        JudgePrompt("y" * 8, False, lambda reply: True),
    ]
    benchmark = replace(
        BENCHMARKS["gedit"], images_per_item=2, judge_prompts=lambda directory, item: calls
    )
    items = [Item("1", "", "g", "1.png"), Item("2", "", "g", "2.png")]
    sizes = {("1", 0): (512, 512), ("1", 1): None, ("2", 0): (512, 512), ("2", 1): (512, 512)}
    found = estimate(
        benchmark, items, Path(), lambda item, k: sizes[item.id, k],
        lambda item: (512, 512) if item.id == "1" else None, 1, 100,
    )  # fmt: skip
    # Item 1: one picture, asked about with its source and alone; item 2 has no source: alone, twice.
    assert found == Estimate(4, 3 + 2 * 3, (2 + 1 + 1 + 1) * 255, 400)
    assert found.cost(Prices(1e6, 2e6)) == 9 + 1275 + 800
    told = found.words("judge", Prices(10, 100))
    assert told.endswith("at most 400 in replies; at most 0.05 at these prices")
    # Of item 2's second picture the reply is kept: a question, 2 tokens of text, a picture and a reply less.
    kept = {("2", 1): [False, True]}
    left = estimate(
        benchmark, items, Path(), lambda item, k: sizes[item.id, k],
        lambda item: (512, 512) if item.id == "1" else None, 1, 100,
        settled=lambda item, k: kept.get((item.id, k), []),
    )  # fmt: skip
    assert left == Estimate(3, 3 + 2 * 2, (2 + 1 + 1) * 255, 300, kept=1)
    assert left.words("judge", None).endswith("; 1 replies are kept and not asked for again")


def test_answers_that_the_rules_cannot_read():
    """Of five items two have readable answers, one an unreadable one, one an unreadable one with a reply,
    and one no answer yet.
    """
    options = {"A": "cow", "B": "dog"}
    items = [Item(str(n), "", "g", data={"options": options, "question": "?"}) for n in range(5)]
    answers = {"0": "A", "1": "a dog", "2": "who knows", "3": "neither"}
    text = MATCH_PROMPT.format(question="?", options="A. cow B. dog", answer="")
    found = estimate_matching(
        BENCHMARKS["mmbench"], items, answers, lambda question: "neither" in question.text, 10
    )
    expected = -(-len(text + "who knows") // 4) + -(-len(text) // 4) + 64
    assert found == Estimate(2, expected, 0, 20, kept=1, at_most=True)
    assert found.words("judge", None).startswith("at most 2 questions to judge: about")
    whole = estimate_matching(BENCHMARKS["mmbench"], items[:4], answers, lambda question: False, 10)
    assert (whole.questions, whole.kept, whole.at_most) == (2, 0, False)
    assert whole.words("judge", None).startswith("2 questions to judge: about")
