"""The experiment from end to end, at the smallest size: every path, every control."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import rl_run
from arm.errors import ConfigError
from arm.evals.synergy import TASKS, read_scores
from arm.evals.tasks import EvalSize
from arm.files import read_json
from arm.pipeline import Arm
from arm.rl import synergy
from arm.rl.synergy import AVERAGED, PATHS, SynergyRun
from arm.train.optim import Optim
from arm.train.training import Loop
from conftest import TinyChain


@pytest.fixture(scope="module")
def run(chain: TinyChain, tmp_path_factory: pytest.TempPathFactory) -> SynergyRun:
    out = tmp_path_factory.mktemp("synergy")
    stage = rl_run.world(
        "", out, loop=Loop(steps=1, log_every=1), anchors=rl_run.Anchors(questions=1)
    )
    readme = out / "TABLE.md"
    readme.write_text("<!-- synergy -->\n<!-- /synergy -->\n")
    return SynergyRun(
        out=out,
        model=str(chain.model),
        t2i=replace(stage, editing=None),
        edit=replace(stage, drawing=None),
        joint=stage,
        sft=replace(chain.lm_run, loop=Loop(steps=1, log_every=1), optim=Optim(lr=1e-3)),  # pyright: ignore[reportArgumentType]
        size=EvalSize(
            prompts_per_tag=1, images_per_prompt=1, edits_per_kind=1, questions_per_kind=1,
            wise_prompts=3,
        ),
        seeds=(0, 1),
        temperatures=(0.0, 0.7),
        into=(readme,),
    )  # fmt: skip


@pytest.mark.slow
def test_all_paths(run: SynergyRun, monkeypatch: pytest.MonkeyPatch):
    synergy.main(run)
    table = read_json(run.out / "synergy.json")
    assert table["to_sft"].keys() == {*PATHS, *AVERAGED} - {"SFT"}
    assert table["to_continued"].keys() == table["to_sft"].keys() - {"SFT continued"}
    for row in table["to_sft"].values():
        assert row.keys() == set(TASKS)
        assert all(
            c["low"] <= c["value"] <= c["high"] and c["p_holm"] >= c["p"] for c in row.values()
        )
        assert "kept" in row["vqa"]
    assert {"unguided, sampled", "unguided, greedy", "t0", "t0.7"} == table["means"][
        "T2I -> Edit -> Joint"
    ].keys() - {"vqa"}
    # Prefixes are shared: five reinforced paths with six stages of their own, and the placebo.
    trained = {p.parents[1].name for p in run.out.glob("seed0/*/model/arm.json")}
    stages = {"t2i", "edit", "t2i-edit", "edit-t2i", "t2i-edit-joint", "placebo"}
    assert trained == {*stages, "averaged"}
    config = json.loads((run.out / "seed0/t2i-edit/config.json").read_text())
    assert config["model"] == str(run.out / "seed0/t2i/model")
    assert json.loads((run.out / "seed0/placebo/config.json").read_text())["shuffle_rewards"]
    assert "| T2I RL |" in run.into[0].read_text()
    # Called again, nothing is trained or scored again.
    monkeypatch.setattr(synergy, "score_model", None)
    monkeypatch.setattr(synergy, "trained", None)
    synergy.main(run)


def test_controls_are_at_equal_compute(run: SynergyRun):
    rl, sft = synergy.rl_flops(replace(run.t2i, model=run.model)), synergy.sft_flops(run.sft)
    assert rl > 0 and sft > 0
    # The same once more, after a kill: nothing is taken from a journal.
    assert synergy.rl_flops(replace(run.t2i, model=run.model)) == rl
    with pytest.raises(ConfigError, match=r"set sft\.rows=0"):
        synergy.sft_flops(replace(run.sft, rows=2))


def test_continued_supervision_begins_at_the_model(run: SynergyRun, tmp_path: Path):
    """What the supervised run itself began with need not be there."""
    sft = replace(run.sft, init_from=tmp_path / "gone", text_tokenizer=tmp_path / "gone")
    end = synergy.train_path(replace(run, out=tmp_path, sft=sft), 1, ("sft",))
    assert end == tmp_path / "seed1/sft/arm"
    assert Arm.from_pretrained(end).directory == end
    config = read_json(tmp_path / "seed1/sft/config.json")
    assert config["init_from"] == run.model and config["loop"]["steps"] >= 1


def test_models_are_measured_again_when_the_starting_weights_change(
    run: SynergyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []
    monkeypatch.setattr(synergy, "score_model", lambda run, at: made.append(str(at)) or {"vqa": []})
    run = replace(run, out=tmp_path)
    for _ in range(2):
        synergy.scored(run, 0, "SFT")
    assert made == [run.model]
    assert read_scores(tmp_path / "scores.json.gz")["seed0/start"]["scores"] == {"vqa": []}
    monkeypatch.setattr(synergy, "backbone_hash", lambda directory: "another")
    synergy.scored(run, 0, "SFT")
    assert made == [run.model] * 2


def test_unknown_paths_are_refused(run: SynergyRun):
    with pytest.raises(ValueError, match=r"unknown: \{'T2I'\}"):
        replace(run, paths=("SFT", "T2I"))
