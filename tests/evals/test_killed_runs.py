"""A benchmark that was killed in each of its halves ends in the report of one that was not, and neither a
picture nor an answer, a judge's reply or a look is paid for twice.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tiny_vision
from arm.evals import answers, detections, scoring
from arm.pipeline import Arm
from benchmark_files import WORDS, gedit_files, pope_files, reply, wise_files
from conftest import Call, TinyChain
from judge_server import judge_server


class Counted:
    """Counts the calls of an attribute; kills the process at one of them, once."""

    def __init__(
        self, patch: pytest.MonkeyPatch, owner: Any, name: str, kill_at: int | None = None
    ) -> None:
        self.calls, self.kill_at = 0, kill_at
        whole = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if self.kill_at is not None and self.calls == self.kill_at:
                self.kill_at = None
                raise KeyboardInterrupt
            self.calls += 1
            return whole(*arguments, **named)

        patch.setattr(owner, name, call)


def report(out: Path) -> dict[str, Any]:
    """A report with the folder's own name left out."""
    return json.loads((out / "report.json").read_text().replace(str(out), "OUT"))


def killed_and_whole(
    run: Call, patch: pytest.MonkeyPatch, points: list[tuple[Any, str, int]],
    options: Callable[[Path], list[object]], tmp_path: Path,
) -> list[int]:  # fmt: skip
    """Runs once whole, then once killed at every point, and compares. The calls of each point that the
    killed run paid for, over all its starts.
    """
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(*options(whole))[0] == 0
    with patch.context() as inner:
        counted = [Counted(inner, *point) for point in points]
        for _ in points:
            code, _, errors = run(*options(broken))
            assert code not in (0, 2) and "Traceback" not in errors
            assert not (broken / "report.json").exists()
        assert run(*options(broken))[0] == 0
    assert report(broken) == report(whole)
    return [c.calls for c in counted]


def test_wise(run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = wise_files(tmp_path / "wise")
    monkeypatch.setattr(scoring, "AT_ONCE", 2)
    with judge_server(reply) as server:

        def options(out: Path) -> list[object]:
            return ["wise", "--model", chain.model, "--data", data, "--out", out, "--limit", 6,
                    "--known-words", "--judge-url", server.url, "--judge-model", "judge-1"]  # fmt: skip

        points = [(Arm, "decode", 2), (scoring, "picture_questions", 5)]
        made, _ = killed_and_whole(run, monkeypatch, points, options, tmp_path)
        assert made == 6 and len(server.bodies) == 6 + 6


def test_gedit(run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = gedit_files(tmp_path / "gedit")
    monkeypatch.setattr(scoring, "AT_ONCE", 2)
    with judge_server(reply) as server:

        def options(out: Path) -> list[object]:
            return ["gedit", "--model", chain.model, "--data", data, "--out", out, "--limit", 6,
                    "--known-words", "--judge-url", server.url, "--judge-model", "judge-1"]  # fmt: skip

        points = [(Arm, "decode", 1), (scoring, "picture_questions", 4)]
        made, _ = killed_and_whole(run, monkeypatch, points, options, tmp_path)
        # Two of the six have a broken source; each of the others is asked about twice.
        assert made == 4 and len(server.bodies) == 8 + 8
    assert report(tmp_path / "broken")["missing_share"] == pytest.approx(1 / 3)


def test_pope(run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = pope_files(tmp_path / "pope")
    for split in ("popular", "adversarial"):
        (data / f"coco/coco_pope_{split}.json").write_text(
            (data / "coco/coco_pope_random.json").read_text()
        )

    def options(out: Path) -> list[object]:
        return ["pope", "--model", chain.model, "--data", data, "--out", out, "--limit", 6,
                "--batch", 2]  # fmt: skip

    # Three batches; what was answered before the kill is not answered again.
    points = [(answers, "answer", 2)]
    assert killed_and_whole(run, monkeypatch, points, options, tmp_path) == [3]
    assert report(tmp_path / "broken")["groups"].keys() == {"random"}  # of the first six questions


def geneval_files(root: Path) -> Path:
    """All 553 prompts; of the first four each wants another thing of its tag."""
    cow = {"class": "cow", "count": 1}
    wanted = [
        ("single_object", [cow]), ("colors", [{**cow, "color": "red"}]),
        ("two_object", [cow, {"class": "dog", "count": 1}]), ("counting", [{**cow, "count": 2}]),
    ]  # fmt: skip
    lines = [
        json.dumps({"tag": wanted[n % 4][0], "include": wanted[n % 4][1], "prompt": WORDS[n % 4]})
        for n in range(553)
    ]
    root.mkdir()
    (root / "evaluation_metadata.jsonl").write_text("\n".join(lines))
    return root


def test_geneval(run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = geneval_files(tmp_path / "geneval")
    detector = tiny_vision.mask2former(tmp_path / "detector")
    clip = tiny_vision.clip(tmp_path / "clip")

    def options(out: Path) -> list[object]:
        return ["geneval", "--model", chain.model, "--data", data, "--out", out, "--limit", 2,
                "--known-words", "--detector", detector, "--clip", clip]  # fmt: skip

    points = [(Arm, "decode", 3), (detections.Viewer, "look", 5)]
    assert killed_and_whole(run, monkeypatch, points, options, tmp_path) == [8, 8]
    found = report(tmp_path / "broken")
    assert found["details"] == {"pictures": 8.0, "pictures_missing": 0.0}
    assert found["detector"] == f"{detector} (Mask2Former)" and len(found["detector_hash"]) == 64
    assert any("other conversion of the weights" in note for note in found["notes"])
    # Another detector is another score of the same pictures: nothing is drawn, all is looked at again.
    other = tiny_vision.owlv2(tmp_path / "other")
    with monkeypatch.context() as inner:
        made, looked = Counted(inner, Arm, "decode"), Counted(inner, detections.Viewer, "look")
        changed = [other if o == detector else o for o in options(tmp_path / "broken")]
        code, _, errors = run(*changed)
        assert code == 0 and "not comparable with published GenEval scores" in errors
        assert (made.calls, looked.calls) == (0, 8)
    code, _, errors = run(*options(tmp_path / "none")[:-2])
    assert code == 2 and "name them with --detector and --clip" in errors
    assert not (tmp_path / "none").exists()  # it is said before anything is made


def test_mmbench_with_its_pictures_in_the_table(
    run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = io.BytesIO()
    Image.new("RGB", (56, 56), (9, 9, 9)).save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    head = ["index", "question", "hint", "A", "B", "answer", "category", "image"]
    rows = [
        [str(n), "is there a star ?", "", "yes", "no", "B", "scene", p]
        for n, p in enumerate((picture, picture, "broken" * 20), 1)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dev.tsv").write_text("\n".join("\t".join(r) for r in [head, *rows]))

    def options(out: Path) -> list[object]:
        return ["mmbench", "--model", chain.model, "--data", tmp_path / "data", "--out", out,
                "--known-words"]  # fmt: skip

    # Two questions in two rotations; the third has no picture.
    points = [(answers, "answer", 3)]
    assert killed_and_whole(run, monkeypatch, points, options, tmp_path) == [4]
    found = report(tmp_path / "broken")
    assert found["missing_share"] == pytest.approx(1 / 3) and set(found["not_made"]) == {
        "3",
        "1000003",
    }
    assert "(LLaVA-1.5)" in found["notes"][0]
