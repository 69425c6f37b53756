"""Published benchmarks from end to end: make, judge, kill, resume, and another system's pictures."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arm.data.images import open_image
from arm.evals import scoring
from arm.evals.benchmarks import BENCHMARKS, wise
from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.files import read_picture
from arm.evals.compare_page import compare_page
from arm.evals.runs import compare_runs, read_run
from arm.evals.scoring import picture_questions
from arm.judge import JudgeConfig
from benchmark_files import (
    WORDS,
    gedit_files,
    pope_files,
    reply,
    wise_files,
)
from conftest import Call, TinyChain
from judge_server import judge_server


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
        # What could not be read stays missing, unless it is to be asked for again.
        code, said, errors = run("wise", *options)
        assert code == 0 and "25.0% of 4 verdicts are missing" in said
        assert len(server.bodies) == paid
        assert "0 questions to judge-1" in errors and "4 replies are kept" in errors
        reason = "unreadable when asked before, not asked again"
        assert f"1 verdicts missing: {reason} (--ask-again does)" in errors
        report = json.loads((out / "report.json").read_text())
        assert report["judge"]["missing"] == {reason: 1}
        # Half of it is lost; what is missing is made and asked again, and nothing else.
        (out / "images/2_0.png").unlink()
        state["odd"] = False
        code, said, _ = run("wise", *options, "--ask-again")
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
        assert code == 2 and "does not hold WISE (legacy): expected legacy/" in errors
    code, _, errors = run("wise", *options)
    assert code == 2 and "does not answer" in errors and "Traceback" not in errors
    code, _, errors = run("wise", "--data", data, "--out", out)
    assert code == 2 and "name it with --judge-url and --judge-model" in errors
    code, _, errors = run("wise", "--data", data, "--judge-url", "http://x/v1")
    assert code == 2 and "one is missing" in errors
    code, _, errors = run("wize")
    assert code == 2 and "Did you mean 'wise'?" in errors


def test_gedit_with_missing_and_broken_sources(run, chain: TinyChain, tmp_path: Path):
    data, out = gedit_files(tmp_path / "gedit"), tmp_path / "out"
    usage = {"prompt_tokens": 50, "completion_tokens": 5}
    with judge_server(reply, usage=usage) as server:
        code, said, errors = run("gedit", *judged(server, out, chain), "--data", data, "--limit", 6)
        assert code == 0 and "33.3% of 6 verdicts are missing" in said
        assert len(server.bodies) == 2 * 4
        assert "400 tokens in and 40 out, says the endpoint" in errors
        sizes = {len(b["messages"][0]["content"]) for b in server.bodies}
        assert sizes == {2, 3}  # PQ sees the edit alone, SC the source too
    report = json.loads((out / "report.json").read_text())
    assert set(report["not_made"]) == {"k2", "k5"}
    assert "2.png" in report["not_made"]["k2"]
    assert report["overall"]["value"] == pytest.approx((6 * 9) ** 0.5)
    assert report["details"] == {"sc": 6.0, "pq": 9.0}
    assert report["judge"] == {
        "model": "judge-1",
        "called_itself": ["judge-1"],
        "asked": {
            "max_tokens": 1400,
            "tokens_field": "max_tokens",
            "temperature": None,
            "thinking": None,
            "logprobs": False,
            "refused": {},
        },
        "tokens": {"prompt": 400, "completion": 40, "uncounted_replies": 0},
        "missing": {},
    }
    values = {name: v for found in report["values"].values() for name, v in found.items()}
    assert values == dict.fromkeys(("k0", "k1", "k3", "k4"), pytest.approx((6 * 9) ** 0.5))
    lines = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [line["pictures"] for line in lines[:3]] == [
        ["images/k0_0.png"], ["images/k1_0.png"], [None],
    ]  # fmt: skip
    assert lines[0]["value"] == values["k0"] and lines[2]["value"] is None
    assert lines[0]["source"] == str(data / "en/0.png")


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
        report = json.loads((tmp_path / "out/report.json").read_text())
        assert report["pictures"] == {
            "folder": str(theirs), "whole": 2, "missing": ["4"], "broken": ["3"]
        }  # fmt: skip
        # Pictures named ID.png are scored, and they are shown too.
        page = (tmp_path / "out/report.html").read_text()
        assert page.count("<img") == 2
        assert page.count("picture missing") == 1 and page.count("picture broken") == 1
        assert "1 pictures are missing: 4." in page and "1 pictures are broken: 3." in page
        code, _, errors = run(
            "wise", *judged(server, tmp_path / "out", chain), "--data", data, "--pictures", data,
        )  # fmt: skip
        assert code == 2 and "name another --out" in errors
        code, _, errors = run(
            "wise", *judged(server, tmp_path / "out", chain), "--data", data, "--pictures",
            tmp_path / "nowhere",
        )  # fmt: skip
        assert code == 2 and "is not a folder of pictures" in errors


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
    assert "6 of 6 items skipped, as 0:" in errors and "0.png is missing" in errors


def test_the_cost_stands_before_the_first_question(
    run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, out = wise_files(tmp_path / "wise"), tmp_path / "out"
    prices = ("--price-in", 2, "--price-out", 10)
    with judge_server(reply) as server:
        options = [*judged(server, out, chain), "--data", data, "--limit", 2]
        code, _, errors = run("wise", *options, *prices)
        # 'Judge. PROMPT: "two blue rings" EXPLANATION: "it is 1"' has 55 characters; the other 62 are
        # of "draw a Zanzibar cow"; each picture of 56 pixels is enlarged to one tile.
        assert code == 0
        expected = (
            "2 questions to judge-1: about 29 tokens of text (4 characters each) and 510 of pictures, "
            "at most 4,000 in replies; at most 0.04 at these prices\n"
        )
        assert expected in errors
        # What is kept is not counted again, and what another judge said is not of this run.
        with judge_server(reply, model="judge-1-new") as second:
            swap = {server.url: second.url, "judge-1": "judge-1-new"}
            other = [swap.get(str(option), option) for option in options]
            code, _, errors = run("wise", *other, "--tokens-per-image", 7)
        assert code == 0 and "2 questions to judge-1-new" in errors and "14 of pictures" in errors
        assert "are kept" not in errors
        assert len(list((out / "replies").glob("*/*.json"))) == 4
        (out / "images/2_0.png").unlink()  # will be made again as it was, which nobody knows before
        code, _, errors = run("wise", *options, "--tokens-per-image", 7)
        assert "1 questions to judge-1: " in errors and "7 of pictures" in errors
        assert "1 replies are kept and not asked for again" in errors
        code, _, errors = run("wise", *options)
        assert "0 questions to judge-1: " in errors and "2 replies are kept" in errors
        assert len(server.bodies) == 2
        code, _, errors = run("wise", *options, *prices[:2])
        assert code == 2 and "give both --price-in and --price-out" in errors
        # On a terminal it is a question, and no is an answer.
        for name in ("stdin", "stderr"):
            monkeypatch.setattr(f"sys.{name}.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
        shutil.rmtree(out / "replies")
        asked = len(server.bodies)
        assert run("wise", *options)[0] == 1 and len(server.bodies) == asked
        assert run("wise", *options, "--yes")[0] == 0 and len(server.bodies) == asked + 2


def test_questions_about_one_picture_share_it(tmp_path: Path):
    """A dozen questions about four pictures of a megapixel are not fifty of them in memory."""
    Image.fromarray(np.full((64, 64, 3), 200, dtype=np.uint8)).save(tmp_path / "1_0.png")
    questions = {n: {"text": f"is there {n}?", "parents": []} for n in range(12)}
    item = Item("1", "x", "all", data={"questions": questions})
    found = picture_questions(BENCHMARKS["dsg"], tmp_path, item, tmp_path, tmp_path, 0)
    assert len(found) == 12
    sent = [question.messages(256) for question in found if question is not None]
    assert len({id(messages[0]["content"][1]) for messages in sent}) == 1


def test_a_judge_that_dies_in_the_middle(
    run, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Batches of two: the second item of the second batch is the first that fails. What was said stays."""
    data, out = wise_files(tmp_path / "wise"), tmp_path / "out"
    monkeypatch.setattr(scoring, "AT_ONCE", 2)
    state = {"dead": True}

    def dies(body, n):
        return None if state["dead"] and n >= 3 else reply(body)

    def impatient(*arguments: Any, **options: Any) -> JudgeConfig:
        return JudgeConfig(*arguments, **{**options, "retries": 0, "concurrency": 1, "give_up": 2})

    monkeypatch.setattr("arm.judge.JudgeConfig", impatient)
    with judge_server(dies) as server:
        options = [*judged(server, out, chain), "--data", data, "--limit", 8]
        code, said, errors = run("wise", *options)
        assert code == 0 and "62.5% of 8 verdicts are missing" in said and len(server.bodies) == 5
        assert "2 verdicts missing: APIConnectionError\n" in errors
        reason = (
            "not asked, the judge stopped answering after 3 questions; the next run asks them alone"
        )
        assert errors.count(f"3 verdicts missing: {reason}\n") == 1
        assert f"Verdicts missing, 3: {reason}." in (out / "report.html").read_text()
        state["dead"] = False
        code, said, errors = run("wise", *options)
        assert code == 0 and "0.0% of 8 verdicts are missing" in said and len(server.bodies) == 10
        assert "5 questions to judge-1: " in errors and "3 replies are kept" in errors


def test_a_page_without_matplotlib_says_so(
    run, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data, out = pope_files(tmp_path / "pope"), tmp_path / "out"
    options = ["--model", chain.model, "--data", data, "--out", out, "--limit", 2]
    code, _, errors = run("pope-random", *options)
    assert code == 0
    assert (
        errors.count("the page has no plot: plots need matplotlib: pip install 'arm-lmm[plots]'\n")
        == 1
    )
    assert "the page has no plot: plots need matplotlib" in (out / "report.html").read_text()


def answered(name: str, items: list[Item], answers: dict[str, str | None], out: Path) -> Path:
    """A run with these answers."""
    out.mkdir()
    benchmark, replies = BENCHMARKS[name], {i: [[a]] for i, a in answers.items()}
    result = benchmark.score(items, answers)
    verdicts = scoring.Verdicts(replies)
    report = scoring.build_report(benchmark, result, None, verdicts, {}, None, {})
    (out / "report.json").write_text(json.dumps(report))
    shown = list(scoring.report_items(benchmark, items, out, out, out, replies, result))
    scoring.write_items(shown, out)
    return out


def told(out: Path, *names: str) -> list[Any]:
    lines = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    return [tuple(line[name] for name in names) for line in lines]


def test_questions_about_one_picture_show_the_score_that_they_share(tmp_path: Path):
    items = [
        Item(str(n), f"question {n} ?", "count", f"count/{'ab'[n // 2]}.jpg", {"answer": "yes"})
        for n in range(4)
    ]
    first = answered("mme", items, dict(zip("0123", ("yes", "no", "yes", None), strict=True)),
                     tmp_path / "a")  # fmt: skip
    a, b = "count/count/a.jpg", "count/count/b.jpg"
    assert told(first, "id", "value", "key") == [
        ("0", 50.0, a), ("1", 50.0, a), ("2", None, b), ("3", None, b)
    ]  # fmt: skip
    second = answered("mme", items, dict.fromkeys("0123", "yes"), tmp_path / "b")
    runs = read_run(first), read_run(second)
    text = compare_page(compare_runs(*runs), *runs)
    assert text.count('<article class="card"') == 1 and "<h3>count/count/a.jpg</h3>" in text
    assert "<p>question 0 ?</p>" in text and "<p>question 1 ?</p>" in text
    assert "question 2" not in text
    assert text.count("A: 50<") == 1 and text.count("B: 200<") == 1
    assert text.count("<pre>no</pre>") == 1 and text.count("<pre>yes</pre>") == 3


def test_every_pass_of_mmbench_shows_its_question_s_score(tmp_path: Path):
    data = {"options": {"A": "x1", "B": "y2"}, "question": "Which?", "answer": "A", "ability": ""}
    items = [Item(n, "Which?", "scene", data=data) for n in ("5", "1000005", "6", "1000006")]
    answers: dict[str, str | None] = {"5": "A", "1000005": "A", "6": "A", "1000006": "B"}
    out = answered("mmbench", items, answers, tmp_path / "a")
    assert told(out, "id", "value", "key") == [
        ("5", 1.0, "5"), ("1000005", 1.0, "5"), ("6", 0.0, "6"), ("1000006", 0.0, "6")
    ]  # fmt: skip


def test_an_item_with_a_score_of_its_own_is_its_own_key(tmp_path: Path):
    items = [Item("7", "is it?", "random", data={"answer": "no"})]
    out = answered("pope-random", items, {"7": "no"}, tmp_path / "a")
    assert told(out, "id", "value", "key") == [("7", 1.0, "7")]


def test_a_judge_sees_the_pixels_of_the_model(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels[..., :3]).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name, shape in (("turned", (6, 4, 3)), ("clear", (4, 6, 3)), ("deep", (4, 6, 3))):
        path = tmp_path / f"{name}.png"
        found = read_picture(path)
        assert found is not None and found.shape == shape
        assert np.array_equal(found, np.asarray(open_image(path)))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert read_picture(tmp_path / "broken.png") is read_picture(tmp_path / "none.png") is None
