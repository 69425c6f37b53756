"""Prompts and edits of a user's own files, asked for in reinforcement learning before a judge."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rl_run
from arm.data.code_shards import open_code_shards, write_code_shard
from arm.data.conversation import parse_conversation
from arm.data.records import Skipped
from arm.errors import DataError
from arm.judge import JudgeConfig
from arm.pipeline import Arm
from arm.rl import grpo
from arm.rl.problems import (
    conversations,
    drawing_from,
    editing_from,
    instruction_of,
    read_prompts,
)
from arm.rl.rewards import JudgeReward
from arm.rl.rollout import Task
from arm.rl.update import Anchors
from arm.sampling import Sampling
from arm.train.training import Loop
from conftest import TinyChain
from judge_server import judge_server
from user_data import EDITING, RECORDS, UNDERSTANDING, write_jsonl


def test_prompts_are_lines(tmp_path: Path, arm: Arm):
    path = tmp_path / "prompts.txt"
    path.write_text("a red star\n\n  two blue rings \n", encoding="utf-8")
    assert read_prompts(path) == {1: "a red star", 3: "two blue rings"}
    make = drawing_from(path, arm)
    first, again = make(arm, 1, 2, range(6)), make(arm, 1, 2, [4, 5])
    assert {p.text for p in first} == {"a red star", "two blue rings"}
    assert [p.text for p in again] == [p.text for p in first[4:]]
    assert [p.grid for p in first[:3]] == list(arm.defaults.grids)
    assert all(p.truth is None and p.source is None for p in first)


def test_files_without_prompts(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"empty\.txt holds no prompts; write one a line"):
        read_prompts(tmp_path / "empty.txt")
    with pytest.raises(DataError, match=r"^prompts, one a line: .*none\.txt cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_a_prompt_that_the_model_cannot_read_is_named_at_the_start(tmp_path: Path, arm: Arm):
    path = tmp_path / "prompts.txt"
    path.write_text("a red star\n\na red zeppelin\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"prompts\.txt:3: .*zeppelin"):
        drawing_from(path, arm)


def test_edits_are_first_messages_of_a_picture_and_words(tmp_path: Path, arm: Arm):
    """Of all tasks' records the others are passed over and named; the source is what the model sees."""
    write_jsonl(tmp_path / "train.jsonl", RECORDS)
    skipped = Skipped(tmp_path / "out/skipped.jsonl")
    problems = editing_from(tmp_path, skipped)(arm, 0, 0, range(12))
    assert {p.text for p in problems} <= {"make it blue", "what color is it?"}
    picture = problems[0].source
    assert picture is not None and picture.shape == (56, 56, 3)
    assert picture[..., 0].min() > 200 and picture[..., 1:].max() < 50
    codes = problems[0].turn.parts[0].codes  # pyright: ignore[reportAttributeAccessIssue]
    assert codes.shape == problems[0].grid == (7, 7)
    assert 0 < len(skipped) <= 4


def test_data_without_edits(tmp_path: Path, arm: Arm):
    write_jsonl(tmp_path / "train.jsonl", [RECORDS[0]])
    make = editing_from(tmp_path, Skipped(tmp_path / "skipped.jsonl"))
    with pytest.raises(
        DataError, match="100 records in a row are no edits; the last: an edit begins"
    ):
        make(arm, 0, 0, [0])


def test_an_instruction_stands_beside_one_picture():
    parsed = parse_conversation(EDITING, "here")
    assert instruction_of(parsed) == "make it blue"
    with pytest.raises(DataError, match="one picture and an instruction"):
        instruction_of(parse_conversation(RECORDS[4], "here"))


def test_answers_to_keep_come_from_code_shards(tmp_path: Path, arm: Arm):
    codes = [np.zeros((7, 7), dtype=np.uint16)]
    write_code_shard(tmp_path, 0, [(parse_conversation(UNDERSTANDING, "here"), codes)])
    batch = conversations(arm, open_code_shards(tmp_path), 0, 0, 0, 3)
    # Three answers of one word and its end.
    assert float(batch.weights.sum()) == 6.0
    write_code_shard(tmp_path / "b", 0, [(parse_conversation(RECORDS[2], "here"), codes)])
    with pytest.raises(DataError, match="holds no answers in words"):
        conversations(arm, open_code_shards(tmp_path / "b"), 0, 0, 0, 1)


def test_a_whole_run_on_own_prompts_and_edits(chain: TinyChain, tmp_path: Path):
    """Both tasks before a judge over HTTP, with an anchor on own conversations."""
    (tmp_path / "prompts.txt").write_text("a red star\na green square\n")
    write_jsonl(tmp_path / "edits/train.jsonl", [EDITING])
    codes = [np.zeros((7, 7), dtype=np.uint16)]
    write_code_shard(tmp_path / "codes", 0, [(parse_conversation(UNDERSTANDING, "here"), codes)])
    with judge_server() as server:
        judge = JudgeConfig(server.url, "judge-1", cache=tmp_path / "verdicts")
        run = replace(
            rl_run.world(str(chain.model), tmp_path / "run"),
            drawing=Task(
                1, Sampling(1.0), JudgeReward(judge, "drawing"), samples=2,
                data=tmp_path / "prompts.txt",
            ),
            editing=Task(
                1, Sampling(1.0), JudgeReward(judge, "editing"), samples=2,
                data=tmp_path / "edits",
            ),
            anchors=Anchors(questions=1, data=tmp_path / "codes"),
            loop=Loop(steps=1, seed=3),
        )  # fmt: skip
        grpo.main(run)
    asked = [json.dumps(body["messages"]) for body in server.bodies]
    assert any("make it blue" in text for text in asked)
    assert any("a red star" in text or "a green square" in text for text in asked)
    line = json.loads((run.out / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["drawing/objects"] == pytest.approx(0.8)
    assert line["editing/quality"] == pytest.approx(0.4)
    assert (run.out / "model/arm.json").is_file()
