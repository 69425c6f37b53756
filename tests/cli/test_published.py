"""What an unlucky user meets at `arm eval NAME`: every fault is one line, and nothing is mixed or paid twice."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from arm.evals import making
from arm.files import read_json, write_json
from benchmark_files import gedit_files, pope_files, reply, wise_files
from conftest import Call, TinyChain
from judge_server import judge_server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return wise_files(tmp_path / "wise")


def asked(url: str, chain: TinyChain, data: Path, out: Path, *more: object) -> list[object]:
    return [
        "--model", chain.model, "--data", data, "--out", out, "--judge-url", url,
        "--judge-model", "judge-1", "--known-words", "--limit", 2, *more,
    ]  # fmt: skip


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A server that answers everything with these bytes."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/v1"
    finally:
        http.shutdown()
        http.server_close()


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"null", b'{"data": [', b'{"data": ["a"]}', b"\xff\xfe\x00"]
)
def test_a_server_that_is_no_judge(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path, body: bytes
):
    with answering(body) as url:
        code, _, errors = run("wise", *asked(url, chain, data, tmp_path / "out"))
    assert code == 2 and "answers, but not as the OpenAI API does" in errors


def test_an_address_and_a_key_that_are_none(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for url in ("http://[::1", "http://127.0.0.1:port/v1"):
        code, _, errors = run("wise", *asked(url, chain, data, tmp_path / "out"))
        assert code == 2 and "is no address" in errors
    monkeypatch.setenv("ARM_JUDGE_KEY", "schlüssel")
    with judge_server(reply) as server:
        code, _, errors = run("wise", *asked(server.url, chain, data, tmp_path / "out"))
    assert code == 2 and "$ARM_JUDGE_KEY holds no key" in errors


@pytest.mark.parametrize("said", [[1, 2], 7, {"text": "Consistency: 2"}])
def test_a_reply_that_is_no_text_is_missing(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path, said: Any
):
    with judge_server(lambda body, n: said if n == 0 else reply(body)) as server:
        code, told, errors = run("wise", *asked(server.url, chain, data, tmp_path / "out"))
    assert code == 0 and "50.0% of 2 verdicts" in told
    assert "1 verdicts missing: no chat completion" in errors


def test_what_stands_in_a_judges_way_names_its_option(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    """A name of its own, an answer that is cut, and a refusal with half a character in it."""
    with judge_server(reply, calls_itself="deployed-7") as server:
        options = asked(server.url, chain, data, tmp_path / "out")
        _, _, errors = run("wise", *options)
        assert server.bodies[0]["max_tokens"] == 2000  # as the authors of WISE ask
        assert (
            "2 verdicts missing: answered by 'deployed-7', not 'judge-1'; if that is its name for the "
            "judge, add --judge-answers-as 'deployed-7'\n"
        ) in errors
        options += ["--judge-answers-as", "deployed"]
        server.answer, server.finish_reason = (lambda body, n: "hm"), "length"
        _, _, errors = run("wise", *options, "--judge-max-tokens", 9)
        assert server.bodies[-1]["max_tokens"] == 9 and "at most 18 in" in errors
        assert "2 verdicts missing: the judge's answer was cut at 9 tokens, --judge-max" in errors
        server.answer = lambda body, n: (400, {}, "'picture' is \ud800 not supported")
        _, _, errors = run("wise", *options)
        assert "2 verdicts missing: BadRequestError: 'picture' is ? not supported\n" in errors
        server.answer, server.finish_reason = reply, "stop"
        assert "0.0% of 2 verdicts are missing" in run("wise", *options)[1]
    report = read_json(tmp_path / "out/report.json")
    assert report["judge"]["called_itself"] == ["deployed-7"]


def test_half_a_character_and_markup_in_a_reply(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    rubbish = "\ud800</pre><script>alert(1)</script>"
    with judge_server(lambda body, n: reply(body) + rubbish) as server:
        assert run("wise", *asked(server.url, chain, data, tmp_path / "out"))[0] == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "?&lt;/pre&gt;&lt;script&gt;" in page and "<script>alert" not in page


def test_a_folder_that_cannot_be_written(run: Call, chain: TinyChain, data: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with judge_server(reply) as server:
        code, _, errors = run("wise", *asked(server.url, chain, data, tmp_path / "file/out"))
    assert code == 2 and "cannot be used (" in errors


def test_other_prompts_are_another_run(run: Call, chain: TinyChain, data: Path, tmp_path: Path):
    """A prompt that changed must not be scored by the picture of the one it was."""
    out = tmp_path / "out"
    path = data / "legacy/cultural_common_sense.json"
    whole = path.read_text()
    with judge_server(reply) as server:
        options = asked(server.url, chain, data, out)
        assert run("wise", *options)[0] == 0
        path.write_text(whole.replace("a red star", "a blue star"))
        code, _, errors = run("wise", *options)
        assert code == 2 and "was made with prompts=" in errors and "another --out" in errors
        code, _, errors = run("wise", *options, "--pictures", out / "images")
        assert code == 2 and "was made for other prompts" in errors
        path.write_text(whole)
        count = len(server.bodies)
        assert run("wise", *options, "--pictures", out / "images")[0] == 0
        gedit = asked(server.url, chain, gedit_files(tmp_path / "gedit"), out)
        code, _, errors = run("gedit", *gedit, "--pictures", out / "images")
        assert code == 2 and "was made for other prompts" in errors
        assert len(server.bodies) == count
    pope = pope_files(tmp_path / "pope")
    shape = ["--model", chain.model, "--data", pope, "--out", tmp_path / "answers", "--limit", 2]
    assert run("pope-random", *shape)[0] == 0
    path = pope / "coco/coco_pope_random.json"
    path.write_text(path.read_text().replace("is there", "are there"))
    code, _, errors = run("pope-random", *shape)
    assert code == 2 and "was made with prompts=" in errors


def test_other_defaults_of_the_model_are_another_run(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    """Pictures of another guidance are not taken for those of the one that arm.json names now."""
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(chain.model, model)
    with judge_server(reply) as server:
        options = asked(server.url, chain, data, out)
        options[options.index(chain.model)] = model
        assert run("wise", *options)[0] == 0
        settings = read_json(model / "arm.json")
        settings["guidance"]["text"] += 1
        write_json(settings, model / "arm.json")
        code, _, errors = run("wise", *options)
    assert code == 2 and "was made with defaults=" in errors and "another --out" in errors


@pytest.mark.parametrize("text", ["[]", "null", "5", "", "{"])
def test_a_damaged_manifest(run: Call, chain: TinyChain, data: Path, tmp_path: Path, text: str):
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / "manifest.json").write_text(text)
    with judge_server(reply) as server:
        for more in ([], ["--pictures", out / "images"]):
            code, _, errors = run("wise", *asked(server.url, chain, data, out, *more))
            assert code == 2 and "manifest.json" in errors


def test_options_that_would_be_of_no_effect(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    out = tmp_path / "out"
    code, _, errors = run("wise", *asked("http://x/v1", chain, data, out, "--quick"))
    assert code == 2 and "a sample of wise is --limit N" in errors
    pope = pope_files(tmp_path / "pope")
    code, _, errors = run("pope-random", "--data", pope, "--out", out, "--pictures", pope)
    assert code == 2 and "no --pictures to score" in errors
    for prices in (("nan", "nan"), ("inf", 1), (1, -1)):
        more = ["--price-in", prices[0], "--price-out", prices[1]]
        code, _, errors = run("wise", *asked("http://x/v1", chain, data, out, *more))
        assert code == 2 and "must be numbers that are at least 0" in errors
    assert not out.exists()


def test_prompts_without_questions(run: Call, chain: TinyChain, tmp_path: Path):
    """Said before a thousand pictures are made, not after."""
    lines = [json.dumps({"item_id": str(n), "prompt": "a red star"}) for n in range(1065)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    with judge_server(reply) as server:
        options = asked(server.url, chain, tmp_path, tmp_path / "out")
        code, _, errors = run("dpg", *options)
    assert code == 2 and "has no questions for the judge" in errors
    assert not (tmp_path / "out").exists()


def test_a_category_without_a_verdict_is_named(run: Call, chain: TinyChain, tmp_path: Path):
    data, out = gedit_files(tmp_path / "gedit"), tmp_path / "out"
    with judge_server(reply) as server:  # the third source is broken, and alone in its category
        code, _, errors = run("gedit", *asked(server.url, chain, data, out)[:-1], 3)
    assert code == 0 and "note: no verdict at all in material_alter" in errors
    assert any(
        "material_alter" in n for n in json.loads((out / "report.json").read_text())["notes"]
    )


def test_files_of_another_kind(run: Call, chain: TinyChain, tmp_path: Path):
    questions = {
        "question_type": {"a": 1},
        "questions": [{"data_type": "image", "question_type_id": []}],
    }
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(questions))
    code, _, errors = run("seed", "--model", chain.model, "--data", tmp_path)
    assert code == 2 and "are damaged or of another version" in errors


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    making.check_or_write_manifest(tmp_path, {"seed": 1})
    making.check_or_write_manifest(tmp_path, {"seed": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_a_judge_is_asked_as_its_authors_ask(
    run: Call, chain: TinyChain, data: Path, tmp_path: Path
):
    """And as the options say; what the endpoint refuses is said once, and all of it stands in the report."""

    def newer(body: dict[str, Any], _: int) -> Any:
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, {}, words
        if "temperature" in body:
            return 400, {}, "Unsupported value: 'temperature' does not support 0 with this model."
        return reply(body)

    with judge_server(newer) as server:
        options = asked(server.url, chain, data, tmp_path / "out")
        code, said, errors = run("wise", *options)
        assert code == 0 and "0.0% of 2 verdicts" in said
        assert errors.count("the judge refuses max_tokens (Unsupported parameter") == 1
        assert errors.count("the judge refuses temperature (Unsupported value") == 1
        last = server.bodies[-1]
        assert last["max_completion_tokens"] == 2000 and "temperature" not in last
        about = read_json(tmp_path / "out/report.json")["judge"]["asked"]
        assert about["tokens_field"] == "max_completion_tokens" and about["temperature"] is None
        assert set(about["refused"]) == {"max_tokens", "temperature"}
        assert "the endpoint refuses max_tokens; the endpoint refuses temperature." in (
            tmp_path / "out/report.html"
        ).read_text().replace("&#x27;", "'")
        count = len(server.bodies)
        named = ["--judge-tokens-field", "max_completion_tokens", "--judge-temperature", "none",
                 "--judge-max-tokens", 300, "--judge-thinking"]  # fmt: skip
        options = asked(server.url, chain, data, tmp_path / "named", *named)
        code, _, errors = run("wise", *options)
        assert code == 0 and "refuses" not in errors and len(server.bodies) == count + 2
        last = server.bodies[-1]
        assert last["max_completion_tokens"] == 300
        assert last["chat_template_kwargs"] == {"enable_thinking": True}
    for more, words in (
        (("--judge-temperature", "hot"), "is a number from 0 to 2 or 'none', not 'hot'"),
        (("--judge-temperature", "nan"), "is a number from 0 to 2"),
        (
            ("--judge-tokens-field", "tokens"),
            "is max_tokens or max_completion_tokens, not 'tokens'",
        ),
    ):
        code, _, errors = run("wise", *asked("http://x/v1", chain, data, tmp_path / "x", *more))
        assert code == 2 and words in errors
