"""A published benchmark run from the library, without the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from arm.errors import DataError, InputError
from arm.evals import BenchmarkSettings, run_benchmark
from arm.evals.benchmarks import BENCHMARKS
from arm.evals.making import MakeSettings, Shard
from arm.judge import JudgeConfig
from benchmark_files import pope_files, reply, wise_files
from conftest import Call, TinyChain
from judge_server import judge_server

FEW = MakeSettings(limit=4, known_words=True)


@pytest.fixture
def settings(chain: TinyChain, tmp_path: Path) -> BenchmarkSettings:
    data = pope_files(tmp_path / "pope")
    return BenchmarkSettings(data=data, out=tmp_path / "out", model=str(chain.model), make=FEW)


def test_the_report_is_that_of_the_command(
    settings: BenchmarkSettings, run: Call, chain: TinyChain, tmp_path: Path
):
    lines: list[str] = []
    outcome = run_benchmark("pope-random", settings, notify=lines.append)
    assert outcome.report is not None and outcome.submission is None and outcome.items == 4
    assert outcome.report["items"] == 4 and outcome.report["missing"] == 0
    assert lines[0] == "4 of 4 answers"
    assert json.loads((settings.out / "report.json").read_text()) == outcome.report
    code, said, _ = run(
        "pope-random", "--model", chain.model, "--data", settings.data, "--out", tmp_path / "cli",
        "--limit", 4, "--known-words", "--seed", 0,
    )  # fmt: skip
    assert code == 0 and "0.0% of 4 verdicts are missing" in said
    assert json.loads((tmp_path / "cli/report.json").read_text()) == outcome.report


def test_a_benchmark_of_ones_own_needs_no_entry_in_the_list(settings: BenchmarkSettings):
    own = replace(BENCHMARKS["pope-random"], name="my-pope", notes=("mine",))
    outcome = run_benchmark(own, settings)
    assert outcome.report is not None and outcome.report["benchmark"] == "my-pope"
    assert "mine" in outcome.report["notes"]


def test_a_shard_makes_its_items_and_scores_none(settings: BenchmarkSettings):
    outcome = run_benchmark("pope-random", replace(settings, shard=Shard(1, 2)))
    assert outcome.report is None and outcome.unmade == ["0", "2"] and outcome.items == 4
    whole = run_benchmark("pope-random", settings)
    assert whole.report is not None and whole.unmade == ()


def test_unknown_names_and_contradictions(settings: BenchmarkSettings, tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no benchmark 'poppe'.* Did you mean 'pope'"):
        run_benchmark("poppe", settings)
    with pytest.raises(InputError, match="no --pictures to score"):
        run_benchmark("pope-random", replace(settings, pictures=tmp_path))
    with pytest.raises(InputError, match="wise is scored by a judge"):
        run_benchmark("wise", replace(settings, data=wise_files(tmp_path / "wise")))


def test_who_sees_the_estimate_may_stop_the_run(settings: BenchmarkSettings, tmp_path: Path):
    class TooDear(Exception):
        pass

    def refuse(judge: str, estimate: object) -> None:
        raise TooDear(judge)

    with judge_server(reply) as server:
        judged = replace(
            settings, data=wise_files(tmp_path / "wise"), judge=JudgeConfig(server.url, "judge-1")
        )
        with pytest.raises(TooDear, match="judge-1"):
            run_benchmark("wise", judged, before_judging=refuse)
        assert server.bodies == [] and not (settings.out / "images").exists()
        outcome = run_benchmark("wise", replace(judged, make=replace(FEW, limit=1)))
    assert outcome.report is not None and outcome.report["judge"]["model"] == "judge-1"


def test_where_pictures_were_looked_for(settings: BenchmarkSettings):
    """Said once, in one line, where none is there."""
    (settings.data / "0.png").unlink()
    lines: list[str] = []
    with pytest.raises(DataError, match="nothing to score"):
        run_benchmark("pope-random", settings, notify=lines.append)
    (line,) = [line for line in lines if "skipped" in line]
    assert "4 of 4 items skipped, as 0: " in line and "0.png is missing" in line
    assert f"looked for in {settings.data}, {settings.data}/val2014" in line
    assert line.endswith("name their folder with --images")
