"""Questions about pictures: tiny files in their authors' layouts, with scores worked out by hand."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from arm.errors import DataError
from arm.evals.benchmarks import choices, gqa, mmbench, mmmu, seed, vqav2, yesno
from arm.evals.benchmarks.registry import BENCHMARKS


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


# Multiple choice

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


# MMMU


def mmmu_files(root: Path, **changes: str) -> Path:
    """Two subjects of two questions; the first picture of each is one pixel of its number."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number, subject in enumerate(("Art_Theory", "Math")):
        picture = io.BytesIO()
        Image.new("RGB", (2, 2), (number, 0, 0)).save(picture, "PNG")
        rows = [
            {
                "id": f"validation_{subject}_1", "question": "<image 1> Which?",
                "options": "['a red fox', 'a blue fox']", "answer": "B",
                "question_type": "multiple-choice",
                "image_1": {"bytes": picture.getvalue(), "path": "1.png"},
            },
            {
                "id": f"validation_{subject}_2", "question": "How many?", "options": "[]",
                "answer": "['4', 'four']", "question_type": "open", "image_1": None,
            },
        ]  # fmt: skip
        rows = [{changes.get(k, k): v for k, v in row.items()} for row in rows]
        (root / subject).mkdir(parents=True)
        parquet.write_table(
            pa.Table.from_pylist(rows), root / subject / "validation-00000-of-00001.parquet"
        )
    return root


def test_mmmu_by_hand(tmp_path: Path):
    root = mmmu_files(tmp_path / "mmmu")
    items = mmmu.load(root, partial=True)
    assert [i.id for i in items][:2] == ["validation_Art_Theory_1", "validation_Art_Theory_2"]
    assert {i.group for i in items} == {"Art_Theory", "Math"}
    assert items[0].text == (
        "<image 1> Which?\n\n(A) a red fox\n(B) a blue fox\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert items[1].data == {"options": {}, "answer": ["4", "four"]}
    answers = {
        "validation_Art_Theory_1": "The answer is (B).",
        "validation_Art_Theory_2": "so there are 4.0 of them",
        "validation_Math_1": "who knows",
        "validation_Math_2": None,
    }
    found = mmmu.score(items, answers)
    # Right, right, unreadable and therefore wrong, missing: two of three.
    assert found.overall.value == pytest.approx(2 / 3)
    assert (found.missing, found.total, found.details) == (1, 4, {"unreadable": 1.0})
    assert found.groups["Math"].value == 0.0
    # The authors' answer file counts where it lies beside the questions.
    truth = {"question_type": "multiple-choice", "ground_truth": "A"}
    open_truth = {"question_type": "short-answer", "ground_truth": "5"}
    told = {i.id: truth if i.data["options"] else open_truth for i in items}
    write(root / mmmu.ANSWERS, told)
    assert [i.data["answer"] for i in mmmu.load(root, partial=True)] == ["A", "5", "A", "5"]
    del told["validation_Math_1"]
    write(root / mmmu.ANSWERS, told)
    with pytest.raises(DataError, match="no answer to validation_Math_1"):
        mmmu.load(root, partial=True)


def test_mmmu_unpacks_its_pictures(tmp_path: Path):
    root, folder = mmmu_files(tmp_path / "mmmu"), tmp_path / "sources"
    items = mmmu.load(root, partial=True)
    mmmu.unpack(root, items, folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "validation_Art_Theory_1.png", "validation_Math_1.png"
    ]  # fmt: skip
    with Image.open(folder / str(items[2].image)) as picture:
        assert picture.getpixel((0, 0)) == (1, 0, 0)


def test_mmmu_of_another_layout_is_named(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"is no MMMU directory: it has no \*/validation-\*\.parquet"
    ):
        mmmu.load(tmp_path)
    root = mmmu_files(tmp_path / "other", options="choices")
    with pytest.raises(DataError, match="lacks the columns options"):
        mmmu.load(root, partial=True)
    (root / "Math/validation-00000-of-00001.parquet").write_bytes(b"PAR")
    (root / "Art_Theory/validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="is no parquet file"):
        mmmu.load(root, partial=True)
    with pytest.raises(DataError, match="MMMU \\(validation\\) has 900 items, this directory 4"):
        mmmu.load(mmmu_files(tmp_path / "cut"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("(A) or rather (B)", "B"), ("A B", "B"), ("B", "B"), ("B.", "B"), ("b", None),
        ("I would say it is a red fox there", "A"), ("a red fox", None), ("", None),
    ],
)  # fmt: skip
def test_mmmu_reads_choices_as_its_authors_do(answer: str, expected: str | None):
    assert mmmu.read_choice(answer, {"A": "a red fox", "B": "a blue fox"}) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("The result is 1,250", "1250", True), ("x = 0.5", "0.50", True), ("0.504", "0.5", True),
        ("It is MgS", ["$MgS$", "MgS"], True), ("a transformation", "Transformation", True),
        ("C", "C", True), ("cat", "C", False), ("the answer is vitamin c now", "C", True), ("42", "4", False),
        ("2e3 m", "2000", True),
    ],
)  # fmt: skip
def test_mmmu_reads_open_answers_as_its_authors_do(
    answer: str, truth: str | list[str], right: bool
):
    # A lone letter is sought with a space beside it, so that it is not found inside a word.
    assert mmmu.agrees(answer, truth) is right


# MMBench


def picture_text() -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def mmbench_file(root: Path, *rows: dict[str, str], without: str = "") -> Path:
    names = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image",
             "l2-category"]  # fmt: skip
    names = [n for n in names if n != without]
    root.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(names), *("\t".join(row.get(n, "") for n in names) for row in rows)]
    (root / "mmbench_dev.tsv").write_text("\n".join(lines) + "\n")
    return root


def row(index: int, answer: str, **more: str) -> dict[str, str]:
    base = {"index": str(index), "question": "Which?", "hint": "nan", "A": "x1", "B": "y2",
            "answer": answer, "category": "identity", "image": picture_text(),
            "l2-category": "perception"}  # fmt: skip
    return {**base, **more}


def test_mmbench_is_right_only_in_every_rotation(tmp_path: Path):
    root = mmbench_file(
        tmp_path / "b", row(1, "A", C="z3"), row(2, "B"), row(3, "A", category="ocr")
    )
    items = mmbench.load(root)
    assert [i.id for i in items] == [
        "1", "1000001", "2000001", "2", "1000002", "3", "1000003"
    ]  # fmt: skip
    # Pass 1 begins at the second option: y2, z3, x1, so that x1 is C; pass 2 at z3, so x1 is B.
    assert items[1].data["options"] == {"A": "y2", "B": "z3", "C": "x1"}
    assert [i.data["answer"] for i in items[:3]] == ["A", "C", "B"]
    assert items[1].text.startswith("Which?\nA. y2\nB. z3\nC. x1\nAnswer with")
    answers = {
        "1": "A", "1000001": "C", "2000001": "B",  # right in all
        "2": "B", "1000002": "B",  # wrong in the second
        "3": "A", "1000003": None,  # a pass is missing, none is wrong
    }  # fmt: skip
    found = mmbench.score(items, answers)
    assert found.overall.value == 0.5 and (found.missing, found.total) == (1, 3)
    assert found.details == {"unreadable": 0.0, "first_pass": 1.0, "perception": 0.5}
    wrong = mmbench.score(items, {**answers, "3": "no idea"})
    assert wrong.overall.value == pytest.approx(1 / 3) and wrong.missing == 0
    assert wrong.details["unreadable"] == 1.0


def test_mmbench_takes_rotations_from_the_file(tmp_path: Path):
    rows = [row(5, "A"), row(1_000_005, "B", A="y2", B="x1", image="5")]
    items = mmbench.load(mmbench_file(tmp_path / "b", *rows))
    assert [(i.id, i.data["answer"], i.image) for i in items] == [
        ("5", "A", "5.jpg"), ("1000005", "B", "5.jpg")
    ]  # fmt: skip
    mmbench.unpack(tmp_path / "b", items, tmp_path / "sources")
    assert [p.name for p in (tmp_path / "sources").iterdir()] == ["5.jpg"]
    with Image.open(tmp_path / "sources/5.jpg") as picture:
        assert picture.size == (8, 8)
    more = [*rows, row(6, "A")]
    with pytest.raises(DataError, match="question 6 has 1 of 2 rotations: the file is cut"):
        mmbench.load(mmbench_file(tmp_path / "cut", *more))


def test_mmbench_of_another_layout_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"it has one \.tsv file, not none"):
        mmbench.load(tmp_path)
    with pytest.raises(DataError, match="lacks the columns answer; its test split has no answers"):
        mmbench.load(mmbench_file(tmp_path / "test", row(1, "A"), without="answer"))
    with pytest.raises(DataError, match="index 1: the answer 'D' is none of A, B"):
        mmbench.load(mmbench_file(tmp_path / "d", row(1, "D")))
    with pytest.raises(DataError, match="two items have the same id"):
        mmbench.load(mmbench_file(tmp_path / "twice", row(1, "A"), row(1, "A")))


# SEED-Bench


def seed_question(number: int, kind: int, answer: str, **more: object) -> dict[str, object]:
    texts = {f"choice_{c}": f"{c}{c}" for c in "abcd"}
    return {"question_id": str(number), "question": "Which?", "question_type_id": kind, **texts,
            "answer": answer, "data_id": f"p_{number}", "data_type": "image", **more}  # fmt: skip


def test_seed_by_hand(tmp_path: Path):
    data = {
        "question_type": {"Scene Understanding": 1, "Instances Counting": 5, "Action": 10},
        "questions": [
            seed_question(1, 1, "A"), seed_question(2, 1, "B"), seed_question(3, 5, "C"),
            seed_question(4, 10, "A", data_type="video"),
        ],
    }  # fmt: skip
    write(tmp_path / "SEED-Bench.json", data)
    items = seed.load(tmp_path, partial=True)
    assert [(i.id, i.group, i.image) for i in items] == [
        ("1", "Scene Understanding", "p_1"), ("2", "Scene Understanding", "p_2"),
        ("3", "Instances Counting", "p_3"),
    ]  # fmt: skip
    found = choices.score_choices(items, {"1": "A", "2": "D", "3": "cc"})
    # Two of three, not the mean of the groups' .5 and 1.
    assert found.overall.value == pytest.approx(2 / 3)
    assert found.groups["Scene Understanding"].value == 0.5
    with pytest.raises(DataError, match="SEED-Bench \\(pictures\\) has 14,232 items"):
        seed.load(tmp_path)
    data["questions"] = [seed_question(1, 1, "A", data_type="Single Image")]
    write(tmp_path / "SEED-Bench.json", data)
    with pytest.raises(DataError, match="'Single Image' belongs to SEED-Bench-2"):
        seed.load(tmp_path)


# GQA


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
    items = gqa.load(tmp_path, partial=True)
    assert (items[0].image, items[0].group) == ("n7.jpg", "verify")
    assert items[0].text == "Is it?\nAnswer the question using a single word or phrase."
    found = gqa.score(items, {"1": "Yes.", "2": "a dog", "3": "left"})
    assert found.overall.value == pytest.approx(2 / 3)
    assert found.details == {"open": 0.5, "binary": 1.0}
    with pytest.raises(DataError, match="has 12,578 items, this directory 3"):
        gqa.load(tmp_path)
    with pytest.raises(DataError, match="is no GQA directory"):
        gqa.load(tmp_path / "nowhere")


# VQAv2


def test_vqav2_by_hand(tmp_path: Path):
    people = [["2"] * 4 + ["3"] * 6, ["yes"] * 10, ["cat"] * 2 + ["kitten"] * 8]
    kinds = ["number", "yes/no", "other"]
    questions = [{"question_id": n, "image_id": 42, "question": "Q?"} for n in range(3)]
    annotations = [
        {"question_id": n, "answer_type": kinds[n], "answers": [{"answer": a} for a in people[n]]}
        for n in range(3)
    ]
    write(tmp_path / vqav2.QUESTIONS, {"questions": questions})
    write(tmp_path / vqav2.ANNOTATIONS, {"annotations": annotations})
    items = vqav2.load(tmp_path, partial=True)
    assert (items[0].image, items[0].group) == ("COCO_val2014_000000000042.jpg", "number")
    found = vqav2.score(items, {"0": "Two", "1": "no", "2": "a cat"})
    # Four of ten said 2: with one of them left out three remain, with another four: always 1.
    # Two said cat: 2/3 when another is left out (8 times), 1/3 when one of them is (2 times).
    assert found.groups["number"].value == 1.0 and found.groups["yes/no"].value == 0.0
    assert found.groups["other"].value == pytest.approx((8 * 2 / 3 + 2 * 1 / 3) / 10)
    assert found.overall.value == pytest.approx((1 + 0 + 0.6) / 3)
    write(tmp_path / vqav2.ANNOTATIONS, {"annotations": annotations[:2]})
    with pytest.raises(DataError, match="has no answers to question 2"):
        vqav2.load(tmp_path, partial=True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Two dogs.", "2 dogs"), ("1,000", "1000"), ("dont", "don't"), ("x-ray", "x ray"),
        ("couldnt've", "couldn't've"), ("3.5", "3.5"), ("yes!", "yes"), ("a/b", "b"),
        ("red, blue", "red blue"), ("none", "0"),
    ],
)  # fmt: skip
def test_vqav2_answers_are_normalised(answer: str, expected: str):
    assert vqav2.normalised(answer) == expected


# POPE as one


def test_pope_reports_each_split_and_their_mean(tmp_path: Path):
    for split, labels in (("random", "yn"), ("popular", "yyn"), ("adversarial", "n")):
        lines = [
            json.dumps({"question_id": n, "image": "x.jpg", "text": "Is there a car?",
                        "label": "yes" if label == "y" else "no"})
            for n, label in enumerate(labels)
        ]  # fmt: skip
        path = tmp_path / f"coco/coco_pope_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
    items = yesno.load_pope_splits(tmp_path, partial=True)
    assert [i.id for i in items] == [
        "random/0", "random/1", "popular/0", "popular/1", "popular/2", "adversarial/0"
    ]  # fmt: skip
    answers = {i.id: "yes" for i in items}
    found = yesno.score_pope_splits(items, answers)
    assert {k: v.value for k, v in found.groups.items()} == {
        "random": 0.5, "popular": pytest.approx(2 / 3), "adversarial": 0.0
    }  # fmt: skip
    assert found.overall.value == pytest.approx((1 / 2 + 2 / 3) / 3)
    # F1 of yes: precision 1/2, 2/3 and 0, recall 1, 1 and 0.
    f1 = [2 / 3, 4 / 5, 0.0]
    assert found.details["f1"] == pytest.approx(sum(f1) / 3)
    assert found.details["popular f1"] == pytest.approx(f1[1])
    assert yesno.score_pope_splits(items, {"random/0": "yes"}).missing == 5


def test_all_are_offered_by_name():
    names = {"geneval", "pope", "mmmu", "mmbench", "seed", "gqa", "vqav2"}
    assert names <= BENCHMARKS.keys()
    assert all(BENCHMARKS[n].notes for n in ("mmmu", "mmbench", "seed", "gqa", "vqav2"))
    assert BENCHMARKS["geneval"].pictures == 4 and BENCHMARKS["geneval"].detected


@pytest.mark.parametrize("content", ["[]", "{}", "3", '"x"', "[1]", '{"a": 1}', "null", "", "{"])
@pytest.mark.parametrize(
    "name",
    [
        "geneval", "dpg", "gedit", "imgedit", "wise", "pope", "mme", "seed", "gqa", "vqav2"
    ],
)  # fmt: skip
def test_files_of_another_shape_are_one_clear_line(name: str, content: str, tmp_path: Path):
    files = (
        "evaluation_metadata.jsonl", "prompts.jsonl", "gedit_edit.json", "basic_edit.json",
        "legacy/cultural_common_sense.json", "legacy/spatio-temporal_reasoning.json",
        "legacy/natural_science.json", "coco/coco_pope_random.json", "mme_questions.jsonl",
        "SEED-Bench.json", "testdev_balanced_questions.json", vqav2.QUESTIONS, vqav2.ANNOTATIONS,
    )  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    with pytest.raises(DataError) as error:
        BENCHMARKS[name].load(tmp_path)
    assert "\n" not in str(error.value)
