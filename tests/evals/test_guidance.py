"""The guidance figure on the tiny chain: every scale measured, every cell of the sheet filled."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from arm.evals import guidance, tasks
from arm.evals.sheet import GAP
from conftest import Call, TinyChain


def test_scales_and_sheet(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Call
):
    monkeypatch.setattr(guidance, "SCALES", (1.0, 2.0))
    monkeypatch.setattr(tasks, "quick_size", lambda seed=2026: tasks.EvalSize(4, 1, 1, 1, 1, 3))
    result = tmp_path / "guidance.json"
    code, said, errors = run(
        "guidance", "--quick", "--model", chain.model, "--out", tmp_path, "--json", result
    )
    assert code == 0 and "text 2.gedit" in said and "sheet ..." in errors
    data = json.loads(result.read_text())
    assert list(data) == ["text 1", "text 2"]
    assert data["text 1"]["geneval"].keys() == {"value", "low", "high", "n"}
    assert data["text 1"]["geneval"]["n"] == 6 and data["text 2"]["gedit"]["n"] == 8
    width, height = Image.open(tmp_path / "guidance.png").size
    assert width == 200 + 3 * (112 + GAP) + GAP
    rows = (height - 28 - GAP) / (112 + GAP)
    assert rows == int(rows) and 5 <= rows <= 8
    assert re.search(r"text 1\.geneval", said)


def test_the_default_scales_begin_without_guidance(chain: TinyChain):
    from arm.pipeline import Arm

    drawing, editing = guidance.guidances(Arm.from_pretrained(chain.model), 1.0)
    assert (drawing.text, drawing.image, editing.text) == (1.0, 1.0, 1.0)
    assert guidance.SCALES[0] == 1.0 and guidance.SCALES[-1] == 3.0
