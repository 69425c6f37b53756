"""VQAv2 and GQA: scores worked out by hand, on tiny files in the authors' format."""

import json
from pathlib import Path

import pytest

from arm.errors import DataError
from arm.evals.benchmarks import BENCHMARKS, short_answers


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_vqav2_by_hand(tmp_path: Path):
    people = [["2"] * 4 + ["3"] * 6, ["yes"] * 10, ["cat"] * 2 + ["kitten"] * 8]
    kinds = ["number", "yes/no", "other"]
    questions = [{"question_id": n, "image_id": 42, "question": "Q?"} for n in range(3)]
    annotations = [
        {"question_id": n, "answer_type": kinds[n], "answers": [{"answer": a} for a in people[n]]}
        for n in range(3)
    ]
    write(tmp_path / short_answers.QUESTIONS, {"questions": questions})
    write(tmp_path / short_answers.ANNOTATIONS, {"annotations": annotations})
    items = short_answers.load(tmp_path, partial=True)
    assert (items[0].image, items[0].group) == ("COCO_val2014_000000000042.jpg", "number")
    found = short_answers.score(items, {"0": "Two", "1": "no", "2": "a cat"})
    # Four of ten said 2: with one of them left out three remain, with another four: always 1.
    # Two said cat: 2/3 when another is left out (8 times), 1/3 when one of them is (2 times).
    assert found.groups["number"].value == 1.0 and found.groups["yes/no"].value == 0.0
    assert found.groups["other"].value == pytest.approx((8 * 2 / 3 + 2 * 1 / 3) / 10)
    assert found.overall.value == pytest.approx((1 + 0 + 0.6) / 3)
    write(tmp_path / short_answers.ANNOTATIONS, {"annotations": annotations[:2]})
    with pytest.raises(DataError, match="has no answers to question 2"):
        short_answers.load(tmp_path, partial=True)


def vqav2_questions(root: Path, split: str, *numbers: int) -> None:
    questions = [{"question_id": n, "image_id": 42, "question": "Q?"} for n in numbers]
    write(root / short_answers.question_files(split)[0], {"questions": questions})


def test_vqav2_test_splits_are_for_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vqav2_questions(tmp_path, "test-dev2015", 7, 8)
    with pytest.raises(
        DataError, match=r"VQAv2 \(test-dev2015\) has 107,394 items, this folder has 2"
    ):
        short_answers.load(tmp_path)
    items = short_answers.load(tmp_path, partial=True)
    assert [(i.id, i.group, i.image) for i in items] == [
        (n, "test-dev2015", "COCO_test2015_000000000042.jpg") for n in ("7", "8")
    ]
    trial = short_answers.submission(tmp_path, items, {"7": "Two"})
    assert trial is not None and "a trial of 2 of 107,394 questions" in trial.advice
    monkeypatch.setattr(short_answers, "TESTS", {"test-dev2015": 2, "test2015": 3})
    part = short_answers.submission(tmp_path, items, {"7": " Two", "8": "no"})
    assert part is not None and "put v2_OpenEnded_mscoco_test2015_questions.json" in part.advice
    vqav2_questions(tmp_path, "test2015", 6, 7, 8)
    assert [i.id for i in short_answers.load(tmp_path)] == [
        "7",
        "8",
    ]  # test-dev goes before the whole test
    found = short_answers.submission(tmp_path, items, {"7": " Two"})
    assert found is not None and "to the phase test-dev at https://eval.ai/" in found.advice
    assert "1 questions have no answer" in found.advice
    assert found.entries == [
        {"question_id": 7, "answer": "Two"}, {"question_id": 8, "answer": ""},
        {"question_id": 6, "answer": ""},
    ]  # fmt: skip
    whole = BENCHMARKS["vqav2-test"].load(tmp_path)
    assert [i.id for i in whole] == ["6", "7", "8"] and {i.group for i in whole} == {"test2015"}
    handed = short_answers.submission(tmp_path, whole, {"6": "a", "7": "b", "8": "c"})
    assert handed is not None and "phase test-standard" in handed.advice
    write(
        tmp_path / short_answers.question_files("test2015")[0],
        {"questions": [{"question_id": "7a"}]},
    )
    with pytest.raises(DataError, match="the question_id '7a' is not a whole number"):
        short_answers.submission(tmp_path, items, {})
    # The validation split goes before both, and is scored here.
    write(tmp_path / short_answers.QUESTIONS, {"questions": []})
    with pytest.raises(
        DataError, match=r"expected v2_mscoco_val2014_annotations\.json or Annotations/"
    ):
        short_answers.load(tmp_path)
    assert [i.id for i in BENCHMARKS["vqav2-test-dev"].load(tmp_path)] == ["7", "8"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Two dogs.", "2 dogs"), ("1,000", "1000"), ("dont", "don't"), ("x-ray", "x ray"),
        ("couldnt've", "couldn't've"), ("3.5", "3.5"), ("yes!", "yes"), ("a/b", "b"),
        ("red, blue", "red blue"), ("none", "0"),
    ],
)  # fmt: skip
def test_vqav2_answers_are_normalised(answer: str, expected: str):
    assert short_answers.normalised(answer) == expected


def test_gqa_by_hand(tmp_path: Path):
    def ask(answer: str, kind: str) -> dict[str, object]:
        return {
            "question": "Is it?",
            "answer": answer,
            "imageId": "n7",
            "types": {"structural": kind},
        }

    questions = {"1": ask("yes", "verify"), "2": ask("dog", "query"), "3": ask("left", "query")}
    write(tmp_path / "testdev_balanced_questions.json", questions)
    items = short_answers.load_gqa(tmp_path, partial=True)
    assert (items[0].image, items[0].group) == ("n7.jpg", "verify")
    assert items[0].text == "Is it?\nAnswer the question using a single word or phrase."
    found = short_answers.score_gqa(items, {"1": "Yes.", "2": "a dog", "3": "left"})
    assert found.overall.value == pytest.approx(2 / 3)
    assert found.details == {"open": 0.5, "binary": 1.0}
    with pytest.raises(DataError, match="has 12,578 items, this folder has 3"):
        short_answers.load_gqa(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        short_answers.load_gqa(tmp_path / "nowhere")
