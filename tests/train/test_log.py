"""What a run says while it trains: a JSON-lines file always, W&B where a project is named."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from arm.train.log import Log


def test_scalars_go_to_a_file_and_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = Log(tmp_path, "run", 10, 0)
    log.write(5, {"loss": 0.5})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5, "loss": 0.5}
    assert "run 5/10 loss 0.5" in capsys.readouterr().out


def test_lines_after_the_resumed_step_are_dropped(tmp_path: Path):
    for start, steps in ((0, (1, 2, 3)), (2, (3,))):
        log = Log(tmp_path, "run", 3, start)
        for step in steps:
            log.write(step, {"loss": float(step)})
        log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_wandb_takes_part_where_a_project_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    run = SimpleNamespace(
        log=lambda values, step: seen.append((values, step)), finish=lambda: seen.append("finished")
    )
    fake = SimpleNamespace(init=lambda **options: seen.append(options["name"]) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    Log(tmp_path, "quiet", 1, 0).close()
    assert seen == []
    monkeypatch.setenv("WANDB_PROJECT", "arm")
    log = Log(tmp_path, "run", 1, 0)
    log.write(1, {"loss": 2.0})
    log.close()
    assert seen == ["run", ({"loss": 2.0}, 1), "finished"]


def test_wandb_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_PROJECT", "arm")
    Log(tmp_path, "run", 1, 0).close()
    assert "not installed" in capsys.readouterr().out


def test_a_line_that_a_full_disk_cut_is_dropped(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    Log(tmp_path, "run", 3, 2).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'


def test_without_tensorboard_one_line_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for name in [n for n in sys.modules if n.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    log = Log(tmp_path, "lm", steps=1, start=0)
    log.close()
    assert capsys.readouterr().out.splitlines() == [
        "lm: no TensorBoard files without tensorboard: pip install 'arm-lmm[train]'"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
