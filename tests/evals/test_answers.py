"""Answers in words and by the likeliest option: what the model sees, what is kept, what is asked again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from arm.errors import InputError
from arm.evals import answers
from arm.evals.benchmarks import mmmu, short_answers
from arm.evals.benchmarks.base import Item
from arm.evals.making import prompts_hash
from arm.evals.requests import as_turn, likelihoods
from arm.pipeline import Arm
from arm.sequence import Image, Text, Turn
from conftest import Call, TinyChain

OPTIONS = {"A": "a red star", "B": "yes", "C": "no", "D": "a moon"}


def picture(path: Path, seed: int) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(noise).save(path)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[Turn]]:
    """The batches that reach the model; it answers by how many it was asked before."""
    seen: list[list[Turn]] = []

    def answer(_: Arm, turns: Sequence[Turn], how: object) -> list[str]:
        seen.append(list(turns))
        return [f"said {sum(map(len, seen[:-1])) + n}" for n in range(len(turns))]

    monkeypatch.setattr(answers, "answer", answer)
    return seen


def test_every_picture_reaches_the_model_where_the_question_names_it(
    arm: Arm, asked: list[list[Turn]], tmp_path: Path
):
    """A picture that is named twice is seen twice, and one in an option is seen there."""
    options = {"A": "a star", "B": "<image 2>"}
    item = mmmu.question("validation_Art_1", "is <image 2> as <image 1> ?", options, "B")
    alone = mmmu.question("validation_Art_2", "is it red ?", {"A": "yes", "B": "no"}, "A")
    broken = mmmu.question("validation_Art_3", "is <image 1> as <image 2> ?", options, "B")
    codes = {}
    for n, name in enumerate(("1_1", "1_2", "2_1", "3_1")):
        path = picture(tmp_path / f"validation_Art_{name}.png", n)
        codes[name] = arm.encode(path)
    out = tmp_path / "answers.jsonl"

    def write() -> dict[str, str]:
        items = [item, alone, broken]
        return answers.write_answers(arm, items, tmp_path, out, known_words=True, batch=4)

    failed = write()
    assert failed == {
        "validation_Art_3": f"{tmp_path / 'validation_Art_3_2.png'} is missing"
    }  # fmt: skip
    ((first, second),) = asked
    shown = [part.codes if isinstance(part, Image) else "text" for part in first.parts]
    for found, wanted in zip(
        shown, ["text", "1_2", "text", "1_1", "text", "1_2", "text"], strict=True
    ):
        if wanted == "text":
            assert isinstance(found, str)
        else:
            np.testing.assert_array_equal(found, codes[wanted])
    assert first.parts[2] == Text(arm.text_tokenizer.ids("as"))
    (seen,) = [part for part in second.parts if isinstance(part, Image)]
    np.testing.assert_array_equal(seen.codes, codes["2_1"])
    (tmp_path / "validation_Art_3_2.png").write_bytes(b"no picture")
    assert "validation_Art_3_2.png" in write()["validation_Art_3"]
    assert answers.read_answers(tmp_path).keys() == {"validation_Art_1", "validation_Art_2"}
    # Another picture in an option, or other options to rank, are another benchmark.
    other = mmmu.question("validation_Art_1", "is <image 2> as <image 1> ?", options, "B")
    assert prompts_hash([other]) == prompts_hash([item])
    moved = {mark: f"other_{name}" for mark, name in item.images.items()}
    changed = Item(item.id, item.text, item.group, item.image, images=moved)
    assert prompts_hash([changed]) != prompts_hash([item])
    ranks = [Item("1", "which ?", "", "a.png", ranked={"A": text}) for text in ("red", "blue")]
    assert prompts_hash(ranks[:1]) != prompts_hash(ranks[1:])


def test_the_likeliest_option_is_the_answer(arm: Arm, tmp_path: Path):
    items = [Item(str(n), "is there a star ?", "all", f"{n}.png", ranked=OPTIONS) for n in range(3)]
    for n in range(3):
        picture(tmp_path / f"{n}.png", n)
    out = tmp_path / "answers.jsonl"
    assert answers.write_answers(arm, items[:1], tmp_path, out, batch=2) == {}  # then it is killed
    with out.open("a") as file:
        file.write('{"id": "1", "ans')
    assert answers.write_answers(arm, items, tmp_path, out, batch=2) == {}
    assert [line["id"] for line in lines(out)] == ["0", "1", "2"]
    for n, line in enumerate(lines(out)):
        turn = as_turn(arm, (tmp_path / f"{n}.png", "is there a star ?"))
        alone = {
            k: likelihoods(arm, [turn], [text], whole=True)[0][0] for k, text in OPTIONS.items()
        }
        assert line["logprobs"] == pytest.approx(alone, abs=1e-4)
        # The end of an answer is a token too.
        assert line["tokens"] == {"A": 4, "B": 2, "C": 2, "D": 3}
        means = {k: alone[k] / line["tokens"][k] for k in OPTIONS}
        assert line["answer"] == max(means, key=lambda k: means[k])


def test_length_is_evened_out_by_the_mean():
    # By the sum B would be the likeliest, by the mean of a token A is: -1.5 and -2.
    found = answers.ranked({"A": (-6.0, 4), "B": (-4.0, 2), "C": (-9.0, 3), "D": (-6.0, 4)})
    assert found["answer"] == "A"
    assert found["logprobs"]["B"] == -4.0 and found["tokens"] == {"A": 4, "B": 2, "C": 3, "D": 4}


def test_options_of_unknown_words(arm: Arm):
    def read(known_words: bool, **options: str) -> dict[str, str]:
        item = Item("7", "?", "all", "a.png", ranked=options)
        return dict(answers.options_of(arm, item, known_words))

    with pytest.raises(InputError, match="does not know the word 'zanzibar'"):
        read(False, A="a red Zanzibar", B="yes")
    assert read(True, A="a red Zanzibar", B="yes") == {"A": "a red", "B": "yes"}
    with pytest.raises(InputError, match="knows no word of option B, 'Zanzibar'"):
        read(True, A="yes", B="Zanzibar")
    with pytest.raises(InputError, match="two options of 7 are the same"):
        read(True, A="red Zanzibar", B="red")
    # The authors' own twins stay: the first of them is taken.
    assert read(False, A="red", B="red") == {"A": "red", "B": "red"}


def test_an_answer_about_a_picture_that_changed_is_given_again(
    arm: Arm, asked: list[list[Turn]], tmp_path: Path
):
    items = [Item(str(n), "is there a star ?", "all", f"{n}.png") for n in range(4)]
    for n in range(4):
        picture(tmp_path / f"{n}.png", n)

    def write(name: str = "answers") -> dict[str, str]:
        return answers.write_answers(arm, items, tmp_path, tmp_path / f"{name}.jsonl")

    assert write() == {}
    assert write() == {} and len(asked) == 4  # nothing changed, nothing is asked
    picture(tmp_path / "0.png", 9)
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "2.png").unlink()
    # Another process's file is read before the first one, and still its newer line counts.
    assert write("answers-0-of-2").keys() == {"1"}
    found = {"0": "said 4", "2": "said 2", "3": "said 3"}
    assert answers.read_answers(tmp_path) == found
    (again, withdrawn) = lines(tmp_path / "answers-0-of-2.jsonl")
    assert (again["id"], again["again"]) == ("0", 1)
    assert withdrawn == {"id": "1", "answer": None, "again": 1}
    assert write().keys() == {"1"} and len(asked) == 5
    assert answers.read_answers(tmp_path) == found
    picture(tmp_path / "1.png", 8)
    assert write() == {} and answers.read_answers(tmp_path) == {**found, "1": "said 5"}
    assert lines(tmp_path / "answers.jsonl")[-1]["again"] == 2


def test_answers_are_the_same_in_any_batch(arm: Arm, tmp_path: Path):
    asked = ("is there a star ?", "how many things are there ?", "is it red ?")
    items = [Item(str(n), asked[n % 3], "all", f"{n // 2}.png") for n in range(6)]
    for n in range(3):
        picture(tmp_path / f"{n}.png", n)
    for batch in (1, 4):
        path = tmp_path / f"{batch}/answers.jsonl"
        path.parent.mkdir()
        assert answers.write_answers(arm, items, tmp_path, path, batch=batch) == {}
    assert lines(tmp_path / "1/answers.jsonl") == lines(tmp_path / "4/answers.jsonl")


def test_vqav2_test_answers_become_the_servers_file(
    run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(short_answers, "TESTS", {"test-dev2015": 2, "test2015": 3})
    questions = [{"question_id": n, "image_id": n, "question": "is it red ?"} for n in (5, 6, 7)]
    for split, some in (("test-dev2015", questions[:2]), ("test2015", questions)):
        path = tmp_path / short_answers.question_files(split)[0]
        path.write_text(json.dumps({"questions": some}))
    picture(tmp_path / "test2015/COCO_test2015_000000000005.jpg", 5)
    code, said, errors = run(
        "vqav2", "--model", chain.model, "--data", tmp_path, "--images", tmp_path / "test2015",
        "--out", tmp_path / "out", "--known-words", "--json", tmp_path / "told.json",
    )  # fmt: skip
    assert code == 0, errors
    assert "1 of 2 items skipped, as 6" in errors
    assert "submission.json written with 1 answers: submit it to the phase test-dev" in said
    assert not (tmp_path / "out/report.json").exists()
    found = json.loads((tmp_path / "out/submission.json").read_text())
    assert [entry["question_id"] for entry in found] == [5, 6, 7]
    own = answers.read_answers(tmp_path / "out")
    assert [entry["answer"] for entry in found] == [own["5"], "", ""]
    assert json.loads((tmp_path / "told.json").read_text())["answered"] == 1
