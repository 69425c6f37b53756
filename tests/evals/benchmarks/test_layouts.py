"""Each benchmark is read from its authors' repository or data set, as their instructions leave it.

The files here are tiny imitations made by hand. Where the environment variable ARM_BENCHMARKS names a
folder with the authors' real files, these are put into the authors' layouts and their items counted.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arm.errors import DataError
from arm.evals.benchmarks import (
    BENCHMARKS,
    choices,
    dsg,
    editing,
    geneval,
    mmbench,
    mmmu,
    short_answers,
    wise,
    yesno,
)
from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.files import image_folder

REAL = os.environ.get("ARM_BENCHMARKS")
needs_real_files = pytest.mark.skipif(
    REAL is None, reason="needs the authors' files: set ARM_BENCHMARKS to a folder with them"
)


def write(path: Path, content: Any) -> Path:
    """A file of text, or of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def picture(path: Path, shade: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, dtype=np.uint8)).save(path)
    return path


def texts(items: Sequence[Item]) -> dict[str, str]:
    return {item.id: item.text for item in items}


def test_geneval_is_a_clone(tmp_path: Path):
    line = {"tag": "colors", "include": [{"class": "cow", "count": 1}], "prompt": "a red cow"}
    write(tmp_path / "prompts/evaluation_metadata.jsonl", json.dumps(line) + "\r\n")
    for folder in (tmp_path, tmp_path / "prompts"):
        assert texts(geneval.load(folder, partial=True)) == {"00000": "a red cow"}


def wise_clone(root: Path) -> Path:
    for n, theme in enumerate(wise.THEMES):
        entry = {"Prompt": f"old {n}", "Explanation": "e", "prompt_id": (1, 500, 801)[n]}
        write(root / f"WISE_legacy/data/{theme}.json", [entry])
        write(root / f"WISE_legacy/data/{theme}_rewrite.json", [])
        new = {**entry, "Prompt": f"new {n}"}
        write(root / f"data_verified/{theme}_verified.json", [new])
    write(root / "data_verified/merge.json", [])
    return root


def test_wise_is_a_clone_with_both_protocols(tmp_path: Path):
    root = wise_clone(tmp_path)
    old = {"1": "old 0", "500": "old 1", "801": "old 2"}
    for folder in ("", "WISE_legacy", "WISE_legacy/data"):
        assert texts(wise.load(root / folder, "legacy", partial=True)) == old
    new = {name: text.replace("old", "new") for name, text in old.items()}
    for folder in ("", "data_verified"):
        assert texts(wise.load(root / folder, "verified", partial=True)) == new


@pytest.mark.parametrize("protocol", ["legacy", "verified"])
def test_wise_asks_in_our_words_where_the_authors_are_not_there(
    protocol: wise.Protocol, tmp_path: Path
):
    item = Item("1", "the drink of Oktoberfest", "culture", data={"explanation": "a beer"})
    prompt = wise.judge_prompt(tmp_path, protocol, item)
    assert "Prompt: the drink of Oktoberfest\nExplanation: a beer\n" in prompt
    form = prompt.rpartition("\n\n")[2]  # a judge that only repeats it gives no verdict
    assert "{" not in prompt and wise.picture_score(form, protocol) is None
    assert "in our own words" in wise.judge_note(tmp_path, protocol)
    template = f"P {wise.PROMPT_PLACE} E {wise.EXPLANATION_PLACE}"
    write(tmp_path / wise.JUDGE_FILES[protocol], [template])
    assert wise.judge_prompt(tmp_path, protocol, item) == "P the drink of Oktoberfest E a beer"
    assert "in the authors' words" in wise.judge_note(tmp_path, protocol)


def test_dpg_is_a_clone_of_ella(tmp_path: Path):
    write(tmp_path / "dpg_bench/prompts/COCOval1.txt", "a dog on grass")
    (tmp_path / "dpg_bench/prompts/10.txt").write_bytes("\ufeffa cat\r\n".encode())
    write(tmp_path / "dpg_bench/prompts/._10.txt", "not a prompt")
    head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
    rows = ['COCOval1,"a dog, on grass",k,1,0,e,w,t,Is there a dog?', "COCOval1,a,k,2,1,e,w,t,Big?"]
    csv = "\ufeff" + "\r\n".join([head, *rows]) + "\r\n"
    (tmp_path / "dpg_bench/dpg_bench.csv").write_bytes(csv.encode())
    for folder in (tmp_path, tmp_path / "dpg_bench"):
        items = dsg.load_dpg(folder, partial=True)
        assert texts(items) == {"10": "a cat", "COCOval1": "a dog on grass"}
        assert [len(item.data["questions"]) for item in items] == [0, 2]
        assert items[1].data["questions"][2] == {"text": "Big?", "parents": [1]}


def test_dsg_is_a_clone(tmp_path: Path):
    head = ",".join(dsg.COLUMNS)
    write(tmp_path / "dsg/data/dsg-1k-anns.csv", f"{head}\nvrd_1,a dog,1,0,Is there a dog?\n")
    for folder in (tmp_path, tmp_path / "dsg", tmp_path / "dsg/data"):
        assert texts(dsg.load_dsg(folder, partial=True)) == {"vrd_1": "a dog"}


def test_imgedit_is_a_clone_with_the_pictures_unpacked_in_it(tmp_path: Path):
    basic = tmp_path / "Benchmark/Basic"
    edit = {"prompt": "make it blue", "id": "animal/1.jpg", "edit_type": "adjust"}
    write(basic / "basic_edit.json", {"1082": edit})
    write(basic / "prompts.json", {"adjust": "Rate <edit_prompt>."})
    picture(tmp_path / "Benchmark/singleturn/animal/1.jpg")
    for folder in (tmp_path, tmp_path / "Benchmark"):
        (item,) = editing.load_imgedit(folder, partial=True)
        assert item.text == "make it blue"
        assert editing.imgedit_prompt(folder, item) == "Rate make it blue."
        images = image_folder(BENCHMARKS["imgedit"], [item], folder)
        assert images == tmp_path / "Benchmark/singleturn"
    (item,) = editing.load_imgedit(basic, partial=True)
    assert image_folder(BENCHMARKS["imgedit"], [item], basic) == basic  # named with --images
    (basic / "prompts.json").unlink()
    with pytest.raises(DataError, match=r"judge's prompts of ImgEdit-Bench: .* or prompts\.json"):
        editing.imgedit_prompt(basic, item)


def gedit_rows() -> list[dict[str, Any]]:
    """Two English instructions under one key, and one in Chinese."""
    from io import BytesIO

    def entry(language: str, text: str, shade: int) -> dict[str, Any]:
        file = BytesIO()
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "PNG")
        return {
            "task_type": "subject-remove",
            "key": "4a7d",
            "instruction": text,
            "instruction_language": language,
            "input_image": {"bytes": file.getvalue(), "path": None},
            "Intersection_exist": True,
        }

    return [entry("en", "remove the cat", 1), entry("cn", "-", 2), entry("en", "no dog", 3)]


def gedit_data_set(root: Path, layout: str) -> Path:
    """The data set as a library leaves it."""
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(gedit_rows()).cast_column("input_image", datasets.Image())
    folder = root / layout
    if layout == "save_to_disk":
        datasets.DatasetDict({"train": data}).save_to_disk(folder)
    elif layout == "save_to_disk of the split":
        data.save_to_disk(folder)
    else:
        inner = "snapshots/0123/data" if layout == "the hub's cache" else "data"
        (folder / inner).mkdir(parents=True)
        data.to_parquet(folder / inner / "train-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize(
    "layout", ["save_to_disk", "save_to_disk of the split", "hf download", "the hub's cache"]
)
def test_gedit_is_the_data_set(layout: str, tmp_path: Path):
    folder = gedit_data_set(tmp_path, layout)
    items = editing.load_gedit(folder, partial=True)
    assert texts(items) == {"4a7d": "remove the cat", "4a7d-2": "no dog"}
    assert {item.group for item in items} == {"subject-remove"}
    assert items[1].image == "fullset/subject-remove/en/4a7d-2.png"
    sources = tmp_path / "sources"
    assert editing.unpack_gedit(folder, items, sources)
    for item, shade in zip(items, (1, 3), strict=True):
        with Image.open(sources / str(item.image)) as image:
            assert image.getpixel((0, 0)) == (shade, 0, 0)
    prompts = editing.gedit_prompts(folder, items[0])
    assert [prompt.shows_source for prompt in prompts] == [True, False]
    assert "remove the cat" in prompts[0].text and "<instruction>" not in prompts[0].text
    forms = [prompt.text.rpartition("\n\n")[2] for prompt in prompts]
    assert not any(p.readable(form) for p, form in zip(prompts, forms, strict=True))
    assert "in our own words" in editing.gedit_note(folder)
    with pytest.raises(DataError, match="GEdit-Bench \\(EN\\) has 606 or 604 items"):
        editing.load_gedit(folder)


def test_pope_is_a_clone_beside_the_pictures_of_coco(tmp_path: Path):
    line = {"question_id": 1, "image": "COCO_1.jpg", "text": "Is there a cat?", "label": "no"}
    for split in yesno.POPE_SPLITS:
        write(tmp_path / f"output/coco/coco_pope_{split}.json", json.dumps(line))
    picture(tmp_path / "val2014/COCO_1.jpg")
    items = yesno.load_pope_splits(tmp_path, partial=True)
    assert [item.id for item in items] == ["random/1", "popular/1", "adversarial/1"]
    assert image_folder(BENCHMARKS["pope"], items, tmp_path) == tmp_path / "val2014"
    (item,) = yesno.load_pope(tmp_path / "output/coco", "random", partial=True)
    assert item.data["answer"] == "no"


def mme_release(root: Path) -> Path:
    """A picture of each subtask, in both of the release's forms, with Windows line endings."""
    for task in (*yesno.PERCEPTION, *yesno.COGNITION):
        is_split = task in ("artwork", "celebrity", "landmark", "posters", "scene")
        texts_at = root / task / ("questions_answers_YN" if is_split else "")
        pictures_at = root / task / ("images" if is_split else "")
        lines = [f"Is it {task}? Please answer yes or no.\tYes", "Is it not?\tNo"]
        texts_at.mkdir(parents=True, exist_ok=True)
        (texts_at / "0001.txt").write_bytes("\r\n".join(lines).encode())
        suffix = "png" if task in yesno.COGNITION else "jpg"
        picture(pictures_at / f"0001.{suffix}")
    return root


@pytest.mark.parametrize("below", yesno.MME_FOLDERS)
def test_mme_is_the_release(below: str, tmp_path: Path):
    mme_release(tmp_path / below)
    items = yesno.load_mme(tmp_path, partial=True)
    assert len(items) == 28 and [item.id for item in items] == [str(n) for n in range(28)]
    assert (items[0].group, items[0].text, items[0].data) == (
        "OCR", "Is it OCR? Please answer yes or no.", {"answer": "yes"}
    )  # fmt: skip
    assert items[1].data == {"answer": "no"}
    by_task = {item.group: str(item.image) for item in items}
    assert by_task["artwork"].endswith("artwork/images/0001.jpg")
    assert by_task["code_reasoning"].endswith("code_reasoning/0001.png")
    assert all((tmp_path / str(item.image)).is_file() for item in items)
    right = yesno.score_mme(items, {item.id: item.data["answer"] for item in items})
    assert right.details == {"unreadable": 0.0, "perception": 2000.0, "cognition": 800.0}


def test_mme_without_a_subtask_is_named(tmp_path: Path):
    root = mme_release(tmp_path)
    for file in (root / "count").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="the subtask count of MME is missing"):
        yesno.load_mme(root, partial=True)


def test_mmmu_is_the_data_set_saved_to_disk(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    row = {
        "id": "validation_Math_1", "question": "2 + 2?", "options": "['3', '4']", "answer": "B",
        "question_type": "multiple-choice", "image_1": {"bytes": b"png", "path": None},
    }  # fmt: skip
    data = datasets.Dataset.from_list([row])
    datasets.DatasetDict({"validation": data}).save_to_disk(tmp_path / "Math")
    (item,) = mmmu.load(tmp_path, partial=True)
    assert item.group == "Math" and item.data == {"options": {"A": "3", "B": "4"}, "answer": "B"}
    assert mmmu.unpack(tmp_path, [item], tmp_path / "sources")
    assert (tmp_path / "sources/validation_Math_1_1.png").read_bytes() == b"png"


def test_mmbench_is_one_table_or_the_folder_of_it(tmp_path: Path):
    head = ["index", "question", "hint", "A", "B", "answer", "category", "image"]
    line = ["1", "which ?", "", "cow", "dog", "A", "scene", "x" * 99]
    table = "\ufeff" + "\r\n".join("\t".join(cells) for cells in (head, line)) + "\r\n"
    path = tmp_path / "MMBench_DEV_EN.tsv"
    path.write_bytes(table.encode())
    (tmp_path / "OtherBench.tsv").write_text("another benchmark's")
    for where in (tmp_path, path):
        assert [item.id for item in mmbench.load(where)] == ["1", "1000001"]
    (tmp_path / "MMBench_TEST_EN.tsv").write_text("")
    with pytest.raises(DataError, match=r"several tables .*; name one of the files instead"):
        mmbench.load(tmp_path)


def test_seed_gqa_and_vqav2_find_their_pictures(tmp_path: Path):
    question = {f"choice_{c}": c for c in "abcd"} | {
        "question_id": "1", "question": "Which?", "question_type_id": 1, "answer": "A",
        "data_id": "12_34", "data_type": "image",
    }  # fmt: skip
    seed = tmp_path / "seed"
    write(seed / "SEED-Bench.json", {"question_type": {"Scene": 1}, "questions": [question]})
    picture(seed / "SEED-Bench-image/p.png").rename(seed / "SEED-Bench-image/12_34")
    items = choices.load_seed(seed, partial=True)
    assert image_folder(BENCHMARKS["seed"], items, seed) == seed / "SEED-Bench-image"

    gqa = tmp_path / "gqa"
    asked = {"question": "Is it?", "answer": "yes", "imageId": "n7", "types": {"structural": "x"}}
    write(gqa / "questions1.2/testdev_balanced_questions.json", {"1": asked})
    picture(gqa / "images/n7.jpg")
    items = short_answers.load_gqa(gqa, partial=True)
    assert image_folder(BENCHMARKS["gqa"], items, gqa) == gqa / "images"

    vqa = tmp_path / "vqa"
    asked = {"question_id": 1, "image_id": 42, "question": "Q?"}
    write(vqa / f"Questions/{short_answers.QUESTIONS}", {"questions": [asked]})
    answers = {"question_id": 1, "answer_type": "other", "answers": [{"answer": "a"}] * 10}
    write(vqa / f"Annotations/{short_answers.ANNOTATIONS}", {"annotations": [answers]})
    picture(vqa / "Images/mscoco/val2014/COCO_val2014_000000000042.jpg")
    items = short_answers.load(vqa, partial=True)
    assert image_folder(BENCHMARKS["vqav2"], items, vqa) == vqa / "Images/mscoco/val2014"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_is_expected_where_is_said_in_one_line(name: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"does not hold .*: expected .* in it") as error:
        BENCHMARKS[name].load(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(DataError, match="is not a folder; name the one with the files of"):
        BENCHMARKS[name].load(tmp_path / "nowhere")


@needs_real_files
def test_the_real_files_in_the_authors_layouts(tmp_path: Path):
    """As many items as published, the same as from the real files' own folder."""
    real = Path(str(REAL))
    layouts = {
        "WISE_legacy/data": "wise/legacy",
        "data_verified": "wise/verified",
        "prompts": "geneval",
        "dsg/data": "dsg1k",
        "output/coco": "pope/coco",
    }
    for place, source in layouts.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to((real / source).resolve())
    basic = tmp_path / "Benchmark/Basic"
    basic.mkdir(parents=True)
    (basic / "basic_edit.json").symlink_to((real / "imgedit/basic_edit.json").resolve())
    (basic / "prompts.json").symlink_to((real / "imgedit/judge_prompts.json").resolve())
    for name, folder, count in (
        ("wise", "wise", 1000), ("wise-verified", "wise", 1000), ("geneval", "geneval", 553),
        ("dsg", "dsg1k", 1060), ("pope", "pope", 9000), ("imgedit", "imgedit", 737),
    ):  # fmt: skip
        items = BENCHMARKS[name].load(tmp_path)
        assert len(items) == count and items == BENCHMARKS[name].load(real / folder)


@needs_real_files
def test_the_real_prompts_and_questions_as_files_of_their_own(tmp_path: Path):
    real = Path(str(REAL))
    for item in dsg.load_dpg(real / "dpg_bench"):
        write(tmp_path / f"dpg_bench/prompts/{item.id}.txt", item.text)
    items = dsg.load_dpg(tmp_path)
    prompts = {name: text.strip() for name, text in texts(dsg.load_dpg(real / "dpg_bench")).items()}
    assert len(items) == 1065 and texts(items) == prompts
    questions: dict[Path, str] = {}
    for item in yesno.load_mme(real / "mme"):
        path = (tmp_path / str(item.image)).with_suffix(".txt")
        line = f"{item.text}\t{item.data['answer'].title()}\n"
        questions[path] = questions.get(path, "") + line
    for path, lines in questions.items():
        write(path, lines)
    released = yesno.load_mme(tmp_path)
    assert len(released) == 2374
    for one, other in zip(released, yesno.load_mme(real / "mme"), strict=True):
        assert (one.id, one.group, one.text.strip(), one.data) == (
            other.id, other.group, other.text.strip(), other.data
        )  # fmt: skip
