"""Published benchmarks from end to end: make, judge, kill, resume, and another system's pictures."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arm.cli import main
from arm.evals.benchmarks import editing, wise
from conftest import TinyChain
from judge_server import judge_server

WORDS = ("a red star", "two blue rings", "draw a Zanzibar cow", "a green moon")


def wise_files(root: Path) -> Path:
    """All thousand prompts in the authors' layout, of words that the model partly knows."""
    ranges = {0: (1, 400), 1: (401, 700), 2: (701, 1000)}
    for index, name in enumerate(wise.FILES["legacy"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        first, last = ranges[index]
        entries = [
            {"Prompt": WORDS[n % 4], "Explanation": f"it is {n}", "prompt_id": n}
            for n in range(first, last + 1)
        ]
        path.write_text(json.dumps(entries))
    template = (
        "Judge. PROMPT: \"{prompt_data['Prompt']}\" EXPLANATION: \"{prompt_data['Explanation']}\""
    )
    (root / wise.JUDGE_FILES["legacy"]).write_text(json.dumps([template]))
    return root


def gedit_files(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    entries = {}
    for n in range(604):
        group = editing.GEDIT_GROUPS[n % 11]
        entries[f"k{n}"] = {
            "prompt": "make the star green",
            "id": f"en/{n % 3}.png",
            "edit_type": group,
        }
    (root / "gedit_edit.json").write_text(json.dumps(entries))
    prompts = {"tie_SC_prompt": "SC of <instruction>", "tie_PQ_prompt": "PQ"}
    (root / "viescore_prompts.json").write_text(json.dumps(prompts))
    (root / "en").mkdir(exist_ok=True)
    for n in range(2):
        Image.fromarray(np.full((56, 56, 3), 80 * n, dtype=np.uint8)).save(root / f"en/{n}.png")
    (root / "en/2.png").write_bytes(b"no picture")
    return root


def pope_files(root: Path) -> Path:
    (root / "coco").mkdir(parents=True)
    lines = [
        {
            "question_id": n,
            "image": "0.png",
            "text": "is there a star ?",
            "label": ("yes", "no")[n % 2],
        }
        for n in range(3000)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (root / "coco/coco_pope_random.json").write_text(text)
    Image.fromarray(np.full((56, 56, 3), 90, dtype=np.uint8)).save(root / "0.png")
    return root


def reply(body: dict[str, Any], _: int = 0) -> str:
    text = body["messages"][0]["content"][0]["text"]
    if text.startswith("Judge"):
        return f"Consistency: {2 if 'red' in text else 1}\nRealism: 2\nAesthetic Quality: 0"
    return '{"score": [8, 6]}' if text.startswith("SC") else '{"score": [9, 9], "reasoning": "-"}'


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["arm", "eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return call


def judged(server, out: Path, chain: TinyChain) -> list[object]:
    return [
        "--model", chain.model, "--out", out, "--judge-url", server.url, "--judge-model", "judge-1",
        "--known-words",
    ]  # fmt: skip


def test_wise_is_made_judged_and_resumed(run, chain: TinyChain, tmp_path: Path):
    data, out = wise_files(tmp_path / "wise"), tmp_path / "out"
    state = {"odd": True}

    def answer(body, _):
        odd = state["odd"] and "it is 2" in body["messages"][0]["content"][0]["text"]
        return "what?" if odd else reply(body)

    with judge_server(answer) as server:
        options = [*judged(server, out, chain), "--data", data, "--limit", 4]
        code, said, errors = run("wise", *options)
        assert code == 0
        assert "25.0% of 4 verdicts are missing" in said
        assert "1 verdicts missing: unreadable" in errors
        assert "only the first 4 items: not a score of wise" in errors
        report = json.loads((out / "report.json").read_text())
        assert (report["missing"], report["items"], report["judge"]["model"]) == (1, 4, "judge-1")
        paid = len(server.bodies)
        pictures = {p.name: p.read_bytes() for p in (out / "images").iterdir()}
        assert set(pictures) == {f"{n}_0.png" for n in range(1, 5)}
        # Half of it is lost; what is missing is made and asked again, and nothing else.
        (out / "images/2_0.png").unlink()
        state["odd"] = False
        code, said, _ = run("wise", *options)
        assert code == 0 and "0.0% of 4 verdicts" in said
        assert len(server.bodies) == paid + 1
        assert {p.name: p.read_bytes() for p in (out / "images").iterdir()} == pictures
    report = json.loads((out / "report.json").read_text())
    red = [WORDS[n % 4] == "a red star" for n in range(1, 5)]
    expected = np.mean([wise.wiscore(2 if r else 1, 2, 0) for r in red])
    assert report["overall"]["value"] == pytest.approx(expected)


def test_another_run_or_judge_is_refused(run, chain: TinyChain, tmp_path: Path):
    data, out = wise_files(tmp_path / "wise"), tmp_path / "out"
    with judge_server(reply) as server:
        options = [*judged(server, out, chain), "--data", data, "--limit", 1]
        assert run("wise", *options)[0] == 0
        code, _, errors = run("wise", *options, "--seed", 1)
        assert code == 2 and "was made with seed=2026, now it is 1; name another --out" in errors
        code, _, errors = run("wise", *options[:-4], "--data", tmp_path)
        assert code == 2 and "is no WISE (legacy) directory" in errors
    code, _, errors = run("wise", *options)
    assert code == 2 and "does not answer" in errors and "Traceback" not in errors
    code, _, errors = run("wise", "--data", data, "--out", out)
    assert code == 2 and "name it with --judge-url and --judge-model" in errors
    code, _, errors = run("wise", "--data", data, "--judge-url", "http://x/v1")
    assert code == 2 and "one of the two is missing" in errors
    code, _, errors = run("wize")
    assert code == 2 and "Did you mean 'wise'?" in errors


def test_gedit_with_missing_and_broken_sources(run, chain: TinyChain, tmp_path: Path):
    data, out = gedit_files(tmp_path / "gedit"), tmp_path / "out"
    with judge_server(reply) as server:
        code, said, _ = run("gedit", *judged(server, out, chain), "--data", data, "--limit", 6)
        assert code == 0 and "33.3% of 6 verdicts are missing" in said
        assert len(server.bodies) == 2 * 4
        sizes = {len(b["messages"][0]["content"]) for b in server.bodies}
        assert sizes == {2, 3}  # PQ sees the edit alone, SC the source too
    report = json.loads((out / "report.json").read_text())
    assert set(report["not_made"]) == {"k2", "k5"}
    assert "2.png" in report["not_made"]["k2"]
    assert report["overall"]["value"] == pytest.approx((6 * 9) ** 0.5)
    assert report["details"] == {"sc": 6.0, "pq": 9.0}


def test_a_folder_of_another_system(run, chain: TinyChain, tmp_path: Path):
    data = wise_files(tmp_path / "wise")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    grey = Image.fromarray(np.full((64, 64, 3), 200, dtype=np.uint8))
    grey.save(theirs / "1.png")
    grey.save(theirs / "2_0.png")
    (theirs / "3.png").write_bytes(b"broken")
    with judge_server(reply) as server:
        code, said, _ = run(
            "wise", *judged(server, tmp_path / "out", chain), "--data", data, "--limit", 4,
            "--pictures", theirs,
        )  # fmt: skip
        assert code == 0 and "50.0% of 4 verdicts are missing" in said
        assert not (tmp_path / "out/images").exists()
        code, _, errors = run(
            "wise", *judged(server, tmp_path / "out", chain), "--data", data, "--pictures",
            tmp_path / "nowhere",
        )  # fmt: skip
        assert code == 2 and "is no folder of pictures" in errors


def test_pope_by_the_model_itself(run, chain: TinyChain, tmp_path: Path):
    data, out = pope_files(tmp_path / "pope"), tmp_path / "out"
    options = ["--model", chain.model, "--data", data, "--out", out, "--limit", 6]
    code, said, _ = run("pope-random", *options)
    assert code == 0 and "0.0% of 6 verdicts are missing" in said
    report = json.loads((out / "report.json").read_text())
    assert {"precision", "recall", "f1", "yes_share"} == report["details"].keys()
    answers = (out / "answers.jsonl").read_text()
    # A kill in the middle of a line: that answer alone is made again.
    (out / "answers.jsonl").write_text(answers[:-9])
    assert run("pope-random", *options)[0] == 0
    assert (out / "answers.jsonl").read_text() == answers
    shutil.rmtree(out)
    (data / "0.png").unlink()
    code, _, errors = run("pope-random", *options)
    assert code == 2 and "all verdicts are missing" in errors
    assert "6 of 6 items passed over, as 0:" in errors and "0.png is missing" in errors
