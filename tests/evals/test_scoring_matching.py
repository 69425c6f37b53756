"""MMBench before a judge from end to end: free answers are read, and what it cannot be asked is missing."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from arm.evals.benchmarks import BENCHMARKS
from arm.evals.scoring import match_answers
from conftest import Call, TinyChain
from judge_server import judge_server

PICTURE = io.BytesIO()
Image.new("RGB", (56, 56), (9, 9, 9)).save(PICTURE, "PNG")
ANSWERS = {
    "1": "A", "1000001": "it moos",  # right; the judge says B, which is the cow: right
    "2": "no idea", "1000002": "B",  # the judge says that none is meant: wrong; right
    "3": "A", "1000003": "mumble",  # right; the judge cannot be read: missing
    "4": "A", "1000004": "mutter",  # wrong by the rules, whatever the missing one is
}  # fmt: skip
"""Questions 1 to 3 are about a cow, 4 about a dog; A is the cow, and in the second pass B."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    head = ["index", "question", "hint", "A", "B", "answer", "category", "image"]
    shown = base64.b64encode(PICTURE.getvalue()).decode()
    rows = [
        [str(n), "what is it ?", "", "cow", "dog", "AAAB"[n - 1], "scene", shown]
        for n in range(1, 5)
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dev.tsv").write_text("\n".join("\t".join(row) for row in [head, *rows]))
    return folder


def answered(out: Path, names: Sequence[str] = tuple(ANSWERS)) -> Path:
    """A run whose answers are there already."""
    out.mkdir()
    source = hashlib.sha256(PICTURE.getvalue()).hexdigest()
    lines = [json.dumps({"id": n, "answer": ANSWERS[n], "source": source}) for n in names]
    (out / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return out


def judge(body: dict[str, Any], _: int = 0) -> str:
    (text,) = body["messages"][0]["content"]  # words alone, no picture
    answer = text["text"].rpartition("Answer: ")[2]
    return "B" if "moos" in answer else "hm" if "mu" in answer else "Z"


def options(chain: TinyChain, data: Path, out: Path, url: str = "") -> list[object]:
    named = ["--judge-url", url, "--judge-model", "judge-1"] if url else []
    return [
        "mmbench",
        "--model",
        chain.model,
        "--data",
        data,
        "--out",
        out,
        "--known-words",
        *named,
    ]


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def test_by_hand(run: Call, chain: TinyChain, data: Path, tmp_path: Path):
    out = answered(tmp_path / "out")
    with judge_server(judge) as server:
        code, said, errors = run(*options(chain, data, out, server.url))
        assert code == 0 and "25.0% of 4 verdicts are missing" in said
        assert "4 questions to judge-1: about" in errors and "at most 4 questions" not in errors
        # Two were asked once, two once more.
        assert len(server.bodies) == 6 and "2 verdicts missing: unreadable\n" in errors
        found = report(out)
        # Question 1 is right, 2 and 4 are wrong, 3 is missing.
        assert found["overall"]["value"] == pytest.approx(1 / 3) and found["missing"] == 1
        assert found["details"] == {"unreadable": 1.0, "first_pass": 0.5}
        assert found["judge"]["model"] == "judge-1"
        (note,) = [n for n in found["notes"] if n.startswith("4 of 8 answers")]
        assert (
            "the option that is meant for 1 of them and none for 1" in note
            and "2 are missing" in note
        )
        lines = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
        told = {line["id"]: line["said"][0] for line in lines}
        assert told["1"] == ["A"] and told["1000001"] == ["it moos", "B"]
        assert told["2"] == ["no idea", "Z"] and told["1000003"] == ["mumble", None]
        assert "the option that it means, says the judge:" in (out / "report.html").read_text()
        # Nothing is asked again, neither what was read nor what could not be.
        code, _, errors = run(*options(chain, data, out, server.url))
        assert code == 0 and len(server.bodies) == 6 and report(out)["overall"] == found["overall"]
        assert "0 questions to judge-1: " in errors and "4 replies are kept" in errors


def test_without_a_judge_the_rules_stand_alone(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    out = answered(tmp_path / "out")
    code, said, errors = run(*options(chain, data, out))
    assert code == 0 and "0.0% of 4 verdicts are missing" in said
    found = report(out)
    assert found["overall"]["value"] == 0.0 and found["judge"] is None
    assert found["details"] == {"unreadable": 4.0, "first_pass": 0.5}
    assert (
        "note: 4 of 8 answers could not be read by the rules and count as wrong; name a" in errors
    )


def test_a_judge_that_goes_away_leaves_questions_missing(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    out = answered(tmp_path / "out")
    with judge_server(lambda body, n: (400, {})) as server:
        code, said, errors = run(*options(chain, data, out, server.url))
        assert code == 0 and "75.0% of 4 verdicts are missing" in said
        assert "4 verdicts missing: BadRequestError: as told\n" in errors
    assert report(out)["overall"]["value"] == 0.0  # of question 4, which is wrong by the rules


def test_before_the_answers_exist_the_cost_is_a_limit(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    """Six of eight answers are there: three that the rules read, and three to ask about."""
    out = answered(tmp_path / "out", [n for n in ANSWERS if n not in ("2", "1000002")])
    with judge_server(judge) as server:
        code, _, errors = run(*options(chain, data, out, server.url))
    assert code == 0 and "at most 5 questions to judge-1: about" in errors
    with judge_server(model="other") as server:
        code, _, errors = run(*options(chain, data, tmp_path / "new", server.url))
    assert (
        code == 2
        and "has no model 'judge-1'" in errors
        and not (tmp_path / "new/answers.jsonl").exists()
    )


def test_other_benchmarks_ask_nobody():
    found = match_answers(BENCHMARKS["pope-random"], [], {"1": "yes"}, None)
    assert found.answers == {} and found.notes == ()
