"""Multiple choice and SEED-Bench: scores worked out by hand, on tiny files in the authors' format."""

import json
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import BENCHMARKS, choices

OPTIONS = {"A": "a dog", "B": "two cats", "C": "grass", "D": "none"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"), ("B.", "B"), ("(C) grass", "C"), ("The answer is D", "D"), ("Two cats.", "B"),
        ("A", "A"), ("A small animal sits here", None),  # an article, perhaps
        ("b", None), ("A or B", None), ("a dog on grass", None), ("", None), ("a horse", None),
    ],
)  # fmt: skip
def test_a_letter_is_read_by_rules_alone(answer: str, expected: str | None):
    assert choices.read_choice(answer, OPTIONS) == expected


def test_a_choice_is_asked_for_in_lines():
    assert choices.choice_prompt("What is it?", {"A": "x", "B": "y"}, "Look.") == (
        "Look.\nWhat is it?\nA. x\nB. y\nAnswer with the option's letter from the given choices directly."
    )


def seed_question(number: int, kind: int, answer: str, **more: object) -> dict[str, object]:
    texts = {f"choice_{c}": f"{c}{c}" for c in "abcd"}
    return {"question_id": str(number), "question": "Which?", "question_type_id": kind, **texts,
            "answer": answer, "data_id": f"p_{number}", "data_type": "image", **more}  # fmt: skip


def test_seed_by_hand(tmp_path: Path):
    data = {
        "question_type": {"Scene Understanding": 1, "Instances Counting": 5, "Action": 10},
        "questions": [
            seed_question(1, 1, "A"), seed_question(2, 1, "B"), seed_question(3, 5, "C"),
            seed_question(4, 10, "A", data_type="video"), seed_question(5, 5, "D"),
        ],
    }  # fmt: skip
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(data))
    items = choices.load_seed(tmp_path, partial=True)
    assert [(i.id, i.group, i.image) for i in items] == [
        ("1", "Scene Understanding", "p_1"), ("2", "Scene Understanding", "p_2"),
        ("3", "Instances Counting", "p_3"), ("5", "Instances Counting", "p_5"),
    ]  # fmt: skip
    # The question alone is asked; its options are ranked.
    assert items[0].text == "Which?"
    assert items[0].ranked == {"A": "aa", "B": "bb", "C": "cc", "D": "dd"}
    found = choices.score_ranked(items, {"1": "A", "2": "D", "3": "C"})
    # Two of three, not the mean of the groups' .5 and 1.
    assert found.overall.value == pytest.approx(2 / 3)
    assert found.groups["Scene Understanding"].value == 0.5
    assert (found.missing, found.total) == (1, 4)
    with pytest.raises(DataError, match="SEED-Bench \\(pictures\\) has 14,232 or 14,233 items"):
        choices.load_seed(tmp_path)
    data["questions"] = [seed_question(1, 1, "A", data_type="Single Image")]
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="'Single Image' belongs to SEED-Bench-2"):
        choices.load_seed(tmp_path)


def test_seed_by_letters_is_another_benchmark(tmp_path: Path):
    data = {"question_type": {"Scene": 1}, "questions": [seed_question(1, 1, "C")]}
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(data))
    (item,) = choices.load_seed_letters(tmp_path, partial=True)
    assert item.text.startswith(
        "Which?\nA. aa\nB. bb\nC. cc\nD. dd\nAnswer with the option's letter"
    )
    assert item.ranked == {}
    assert choices.score_letters([item], {"1": "it is cc"}).overall.value == 1.0
    assert "likelihood" in " ".join(BENCHMARKS["seed"].notes)
    assert "letter" in " ".join(BENCHMARKS["seed-letters"].notes)
