"""Figures: told apart by content, drawn from what the commands write, and refused in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arm.errors import DataError, InputError
from arm.evals import guidance
from arm.evals.plots import (
    _by_category,
    _differences,
    _guided,
    _of_world,
    _smooth,
    _swept,
    _synergy,
    _trained,
    inline,
    lacking,
    painter_of,
    plot,
    read_source,
)
from conftest import Call

pytest.importorskip("matplotlib", reason="plots need matplotlib, the extra `plots`")

SCORE = {"value": 0.5, "low": 0.4, "high": 0.7, "n": 9}
BOTH = {"geneval": SCORE, "gedit": {"value": 6.0, "low": 5.0, "high": 7.0, "n": 9}}
REPORT = {"benchmark": "gedit", "groups": {"add <one>": SCORE, "tone": SCORE}}
SWEPT = {
    f"t{t:g} text {g.text:g} image {g.image:g}": BOTH
    for t in guidance.TEMPERATURES for g in guidance.GUIDANCES
}  # fmt: skip
GUIDED = {f"text {s:g}": BOTH for s in guidance.SCALES}
WORLD = {
    "geneval": {"overall": SCORE, "tags": {"colors": SCORE}},
    "gedit": {"o": SCORE, "kinds": {"move": SCORE}},
    "vqa": {"accuracy": SCORE, "kinds": {"count": SCORE}},
}
COMPARED = {
    "benchmark": "wise", "difference": {"value": -0.1, "low": -0.2, "high": 0.0},
    "groups": {"time": {"value": 0.1, "low": -0.1, "high": 0.3}},
}  # fmt: skip
GAIN = {"value": 0.1, "low": 0.0, "high": 0.2, "p_holm": 0.01, "seeds": [0.6, 0.7]}
SYNERGY = {
    "sft": {"geneval": 0.55, "gedit": 0.55, "vqa": 0.55},
    "to_sft": {"Edit RL": {"geneval": GAIN, "gedit": {**GAIN, "p_holm": 0.2}, "vqa": GAIN}},
}
LOG = [
    {"step": 0, "held_out/geneval": 0.5, "held_out/gedit": 6.0},
    *({"step": n, "drawing/reward": n / 5, "loss": 1.0} for n in range(1, 5)),
    {"step": 4, "held_out/geneval": 0.75, "held_out/gedit": 7.0},
]


@pytest.mark.parametrize(
    ("data", "painter", "words"),
    [
        (REPORT, _by_category, ("add &lt;one&gt;", "tone", "score, 95 % interval")),
        (SWEPT, _swept, ("temperature", "guidance 2.25", "drawing", "editing")),
        (GUIDED, _guided, ("guidance by the text", "world-gedit")),
        (WORLD, _of_world, ("colors", "move", "count")),
        (COMPARED, _differences, ("all items", "time", "A - B")),
        (SYNERGY, _synergy, ("Edit RL", "world-gedit: difference to SFT (0.55)", "understanding")),
        (LOG, _trained, ("reward", "drawing", "world-gedit, of 10", "held-out combinations")),
    ],
)
def test_each_kind_of_data(data: Any, painter: Any, words: tuple[str, ...]):
    assert painter_of(data, Path("x")) is painter
    drawn = painter(data, "svg")
    assert drawn == painter(data, "svg")  # the same bytes each time
    text = drawn.decode()
    assert all(f">{word}" in text for word in words)


def test_a_running_mean_by_hand():
    assert _smooth([1.0, 3.0, 5.0, 1.0], 2).tolist() == [1.0, 2.0, 4.0, 3.0]
    assert _smooth([2.0], 5).tolist() == [2.0]


def test_runs_and_files(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    # A run that still writes: its last line is half there.
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in LOG) + '{"st')
    assert read_source(run) == LOG
    plot(run, tmp_path / "a/rl.png")
    assert Image.open(tmp_path / "a/rl.png").width > 1000
    (run / "report.json").write_text(json.dumps(REPORT))
    plot(run, tmp_path / "r.svg")
    assert "tone" in (tmp_path / "r.svg").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"a", "run", "r.svg"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "holds nothing that can be drawn"),
        ("[1, 2]", "holds nothing that can be drawn"),
        ('{"benchmark"', "is not a JSON file"),
        ('{"geneval": 0.79}', "holds nothing that can be drawn"),
        ('{"geneval": {"tags": {}}, "gedit": 1}', "holds nothing that can be drawn"),
        ('{"text 1": {"geneval": 0.5, "gedit": 1}}', "holds nothing that can be drawn"),
        ('{"text 1": 5}', "holds nothing that can be drawn"),
        ('{"benchmark": "x", "groups": ["a"]}', "damaged or of another version"),
        ('{"benchmark": "x", "groups": "a"}', "damaged or of another version"),
        ('{"benchmark": "wise", "groups": {"a": {"value": 1}}}', "damaged or of another version"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, text: str, message: str):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises((InputError, DataError), match=message):
        plot(tmp_path / "x.json", tmp_path / "x.svg")
    assert not (tmp_path / "x.svg").exists()


def test_bad_paths(tmp_path: Path, run: Call):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    (tmp_path / "lm.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "bad.jsonl").write_text('{"step": 1}\nnothing\n{"step": 2}\n')
    (tmp_path / "latin.jsonl").write_bytes(b'{"step": "\xff"}\n')
    out = tmp_path / "x.svg"
    for arguments, message in (
        ((tmp_path / "none", "--out", out), "does not exist"),
        ((tmp_path, "--out", tmp_path / "x.pdf"), "neither .svg nor .png"),
        ((tmp_path / "lm.jsonl", "--out", out), "has no rewards to draw"),
        ((tmp_path / "bad.jsonl", "--out", out), "bad.jsonl:2: not JSON"),
        ((tmp_path / "latin.jsonl", "--out", out), "latin.jsonl is not UTF-8 text"),
        ((tmp_path, "--out", tmp_path / "lm.jsonl/x.svg"), "cannot be written"),
    ):
        code, _, errors = run("plot", *arguments)
        assert code == 2 and message in errors and errors.count("\n") == 1
    code, said, _ = run("plot", tmp_path, "--out", out)
    assert code == 0 and said.strip() == str(out)


def test_in_a_page_it_takes_the_pages_ink():
    assert lacking() is None
    text = inline({**REPORT, "overall": SCORE})
    assert text.startswith('<svg role="img" aria-label=') and "currentColor" in text
    assert "<metadata" not in text and np.all([c not in text for c in ("#24292f", "#1f6feb")])


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = "the page has no plot: plots need matplotlib: pip install &#x27;arm-lmm[plots]&#x27;"
    assert inline(REPORT) == f'<p class="soft">{told}</p>'
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    with pytest.raises(InputError, match=r"pip install 'arm-lmm\[plots\]'"):
        plot(tmp_path, tmp_path / "x.svg")


def test_a_category_is_no_formula(recwarn: pytest.WarningsRecorder):
    """Nor is it markup, nor do scores that are all alike make matplotlib complain."""
    zero = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 1, "p": 1.0}
    drawn = inline({"benchmark": "wise", "difference": zero, "groups": {r"$\frac$ <script>": zero}})
    assert r"$\frac$ &lt;script&gt;" in drawn and "<script>" not in drawn
    assert not recwarn.list
