"""Making pictures and answers: alone, shared by many processes, killed and gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import launch
from arm.errors import ConfigError, DataError, InputError
from arm.evals.benchmarks import BENCHMARKS
from arm.evals.benchmarks.base import Item
from arm.evals.making import (
    WHOLE,
    MakeSettings,
    Shard,
    check_or_write_manifest,
    make,
    parse_shard,
    picture_name,
    picture_path,
    picture_state,
    read_answers,
    unmade,
)
from arm.pipeline import Arm
from arm.train import parallel
from benchmark_files import pope_files, wise_files
from conftest import Call, TinyChain

ITEMS = [Item(str(n), text, "all") for n, text in enumerate(("a red star", "two rings", "a moon"))]


def pictures(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "images").glob("*.png"))}


def drawn(
    arm: Arm, out: Path, shard: Shard = WHOLE, items: list[Item] = ITEMS, batch: int = 1
) -> None:
    settings = MakeSettings(seed=3, batch=batch)
    assert make(arm, BENCHMARKS["wise"], items, out, out, settings, shard) == {}


def test_shards_make_the_very_pictures_of_one_process(arm: Arm, tmp_path: Path):
    drawn(arm, tmp_path / "one")
    whole = pictures(tmp_path / "one")
    assert set(whole) == {"0_0.png", "1_0.png", "2_0.png"}
    many = tmp_path / "many"
    drawn(arm, many, Shard(1, 2))
    assert pictures(many) == {"1_0.png": whole["1_0.png"]}
    assert unmade(BENCHMARKS["wise"], ITEMS, many) == ["0", "2"]
    # The other shard dies after its first picture and is started again.
    drawn(arm, many, Shard(0, 2), ITEMS[:2])
    assert set(pictures(many)) == {"0_0.png", "1_0.png"}
    drawn(arm, many, Shard(0, 2))
    assert pictures(many) == whole


def test_the_pictures_are_the_same_in_any_batch(arm: Arm, tmp_path: Path):
    texts = ["a red star", "two rings and a blue moon", "a moon", "a red star", "a heart", "a ring"]
    items = [Item(str(n), text, "all") for n, text in enumerate(texts)]
    drawn(arm, tmp_path / "one", items=items)
    whole = pictures(tmp_path / "one")
    drawn(arm, tmp_path / "four", items=items, batch=4)
    assert pictures(tmp_path / "four") == whole and len(set(whole.values())) > 3
    # A run that was killed after two goes on with other neighbours in its batches.
    drawn(arm, tmp_path / "killed", items=items[:2], batch=2)
    drawn(arm, tmp_path / "killed", items=items, batch=3)
    assert pictures(tmp_path / "killed") == whole


def test_an_item_that_cannot_be_made_leaves_its_batch(arm: Arm, tmp_path: Path):
    items = [ITEMS[0], Item("x", "a Zanzibar", "all"), *ITEMS[1:]]
    found = make(arm, BENCHMARKS["wise"], items, tmp_path, tmp_path, MakeSettings(batch=4))
    assert found.keys() == {"x"} and "zanzibar" in found["x"]
    assert set(pictures(tmp_path)) == {"0_0.png", "1_0.png", "2_0.png"}


def source(path: Path, shade: int) -> Path:
    Image.fromarray(np.full((56, 56, 3), shade, dtype=np.uint8)).save(path)
    return path


def test_an_edit_of_a_picture_that_changed_is_made_again(arm: Arm, tmp_path: Path):
    items = [Item(str(n), "make the star green", "all", f"{n}.png") for n in range(2)]

    def edited(out: str) -> dict[str, bytes]:
        place = tmp_path / out
        assert make(arm, BENCHMARKS["gedit"], items, tmp_path, place, MakeSettings(seed=1)) == {}
        return pictures(place)

    source(tmp_path / "0.png", 10)
    source(tmp_path / "1.png", 90)
    first = edited("out")
    source(tmp_path / "0.png", 200)
    found = edited("out")
    assert found == edited("fresh") and found["0_0.png"] != first["0_0.png"]
    assert found["1_0.png"] == first["1_0.png"]
    # What was made stays where its source is not there to be compared, or could not be edited.
    (tmp_path / "0.png").unlink()
    assert edited("out") == found
    # An edit that does not say what it was made of might be of another picture.
    source(tmp_path / "out/images/1_0.png", 0)
    assert edited("out") == found


def test_a_picture_depends_on_its_place_in_the_benchmark_alone(arm: Arm, tmp_path: Path):
    same = [Item(str(n), "a red star", "all") for n in range(2)]
    drawn(arm, tmp_path, items=same)
    made = pictures(tmp_path)
    assert made["0_0.png"] != made["1_0.png"]
    (tmp_path / "images/1_0.png").unlink()
    drawn(arm, tmp_path, items=same)  # alone, where before it came after another
    assert pictures(tmp_path) == made


def test_a_broken_picture_of_ones_own_is_made_again(arm: Arm, tmp_path: Path):
    drawn(arm, tmp_path, items=ITEMS[:1])
    made = pictures(tmp_path)
    (tmp_path / "images/0_0.png").write_bytes(made["0_0.png"][:40])
    assert picture_state(tmp_path / "images", ITEMS[0], 0) == "broken"
    drawn(arm, tmp_path, items=ITEMS[:1])
    assert pictures(tmp_path) == made


def test_answers_of_shards_are_read_together(run: Call, chain: TinyChain, tmp_path: Path):
    data, out = pope_files(tmp_path / "pope"), tmp_path / "out"
    options = ["pope-random", "--model", chain.model, "--data", data, "--out", out, "--limit", 4]
    code, said, errors = run(*options, "--shard", "1/2")
    assert code == 0, errors
    assert "2 of 4 items are made, 2 are still missing, as 0, 2" in said
    assert set(read_answers(out)) == {"1", "3"}
    assert not (out / "report.json").exists()
    assert run(*options)[0] == 0
    assert set(read_answers(out)) == {"0", "1", "2", "3"}
    lines = (out / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [
        "0",
        "2",
    ]  # what was there is not made again
    assert json.loads((out / "report.json").read_text())["items"] == 4
    (out / "answers-1-of-2.jsonl").write_text('{"id": "1"}\n')
    code, _, errors = run(*options)
    assert code == 2 and "answers-1-of-2.jsonl:1 is not an answer; remove the line" in errors
    code, _, errors = run(*options, "--shard", "0/2", "--seed", 1)
    assert code == 2 and "was made with seed=2026, now it is 1" in errors


def test_a_shard_needs_no_judge(run: Call, chain: TinyChain, tmp_path: Path):
    data, out = wise_files(tmp_path / "wise"), tmp_path / "out"
    options = ["wise", "--model", chain.model, "--data", data, "--out", out, "--limit", 2]
    code, said, _ = run(*options, "--known-words", "--shard", "0/2")
    assert code == 0 and "1 of 2 items are made, 1 are still missing, as 2" in said
    code, _, errors = run(*options, "--pictures", out / "images", "--shard", "0/2")
    assert code == 2 and "nothing to share" in errors


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0", "1/2/3"])
def test_a_shard_that_is_none(text: str):
    with pytest.raises(InputError, match="shard"):
        parse_shard(text)


def test_many_begin_one_run(tmp_path: Path):
    check_or_write_manifest(tmp_path, {"seed": 1})
    check_or_write_manifest(tmp_path, {"seed": 1})
    with pytest.raises(ConfigError, match="was made with seed=1, now it is 2"):
        check_or_write_manifest(tmp_path, {"seed": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_a_folder_names_its_pictures_in_two_ways(tmp_path: Path):
    item = Item("a/b c", "", "all")
    assert picture_name(item, 1) == "a_b_c_1.png"
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "a_b_c.png")
    assert picture_path(tmp_path, item, 0) == tmp_path / "a_b_c.png"
    assert picture_path(tmp_path, item, 1) is None
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "a_b_c_0.png")
    assert picture_path(tmp_path, item, 0) == tmp_path / "a_b_c_0.png"


@pytest.mark.parametrize("name", ["a_0.jpg", "a.jpeg", "a_0.webp", "a.JPG", "a.png"])
def test_other_systems_pictures_are_found_by_any_suffix(tmp_path: Path, name: str):
    source(tmp_path / name, 9)
    assert picture_path(tmp_path, Item("a", "", "all"), 0) == tmp_path / name
    assert picture_state(tmp_path, Item("a", "", "all"), 0) == "whole"
    assert picture_state(tmp_path, Item("a", "", "all"), 1) == "missing"


def test_a_process_of_torchrun_makes_its_share_alone(
    run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, out = pope_files(tmp_path / "pope"), tmp_path / "out"
    options = ["pope-random", "--model", chain.model, "--data", data, "--out", out, "--limit", 3]
    waited: list[int] = []
    monkeypatch.setattr(parallel, "init_processes", lambda: None)
    monkeypatch.setattr(parallel, "barrier", lambda: waited.append(1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(*options)[0] == 0
    assert set(read_answers(out)) == {"1"} and waited and not (out / "report.json").exists()
    monkeypatch.setenv("RANK", "0")
    assert run(*options)[0] == 0
    assert set(read_answers(out)) == {"0", "1", "2"} and (out / "report.json").is_file()
    code, _, errors = run(*options, "--shard", "0/2")
    assert code == 2 and "leave --shard out" in errors


@pytest.mark.slow
def test_torchrun_shares_the_items(chain: TinyChain, arm: Arm, tmp_path: Path):
    """Two processes make what one makes, and the first scores."""
    data = pope_files(tmp_path / "pope")
    outs = {"one": tmp_path / "one", "two": tmp_path / "two"}
    for processes, out in enumerate(outs.values(), 1):
        launch.run(
            "eval", "pope-random", "--model", str(chain.model), "--data", str(data), "--out",
            str(out), "--limit", "5", processes=processes,
        )  # fmt: skip
    assert read_answers(outs["one"]) == read_answers(outs["two"])
    assert len(list(outs["two"].glob("answers-*-of-2.jsonl"))) == 2
    reports = [json.loads((out / "report.json").read_text()) for out in outs.values()]
    assert reports[0]["values"] == reports[1]["values"]


@pytest.mark.parametrize(
    "line", [b'{"id": "1", "answer": 5}', b'{"id": 1, "answer": "a"}', b"\xff", b"[]"]
)
def test_an_answer_that_is_none_is_named(tmp_path: Path, line: bytes):
    (tmp_path / "answers.jsonl").write_bytes(line + b"\n")
    with pytest.raises(DataError, match=r"answers\.jsonl"):
        read_answers(tmp_path)


def test_a_kill_while_answers_are_mended_takes_none_away(
    run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, out = pope_files(tmp_path / "pope"), tmp_path / "out"
    options = ["pope-random", "--model", chain.model, "--data", data, "--out", out, "--limit", 3]
    assert run(*options)[0] == 0
    answers = read_answers(out)
    whole = Path.write_text

    def killed(path: Path, text: str, **named: str) -> int:
        if path.name.startswith("answers"):
            whole(path, text[:9], **named)
            raise KeyboardInterrupt
        return whole(path, text, **named)

    with monkeypatch.context() as inner:
        inner.setattr(Path, "write_text", killed)
        assert run(*options)[0] != 0
    assert read_answers(out) == answers
