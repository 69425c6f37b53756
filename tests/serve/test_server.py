"""Errors, limits, keys, and what happens to clients that leave and to a server that stops."""

import base64
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import openai
import pytest
from PIL import Image

from arm.generate import Result
from arm.pipeline import Arm
from arm.serve import engine as engines
from arm.serve.app import JsonLines
from arm.serve.engine import Engine, Metrics, Procedure, QueueFull, ShuttingDown
from arm.serve.server import Limits, Server
from conftest import Call
from serve.conftest import serving

PROMPT = {"prompt": "a red star", "seed": 1}


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (56, 56), "white").save(file, "PNG")
    return file.getvalue()


def link() -> str:
    return "data:image/png;base64," + base64.b64encode(png()).decode()


def user(content: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}]}


DRAW, EDIT, CHAT = "/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "part"),
    [
        (DRAW, "{", 400, None, "no JSON"),
        (DRAW, "[" * 100_000, 400, None, "no JSON"),
        (DRAW, [], 422, None, "dictionary"),
        (DRAW, {}, 422, "prompt", "Field required"),
        (DRAW, {"prompt": 3}, 422, "prompt", "valid string"),
        (DRAW, {"prompt": ""}, 422, "prompt", "at least 1"),
        (DRAW, {"prompt": "a zebra"}, 400, "prompt", "does not know the word 'zebra'"),
        (DRAW, '{"prompt": "\\ud83d"}', 422, "prompt", "unicode"),
        (DRAW, {"prompt": "star " * 7000}, 422, "prompt", "at most 32000 characters"),
        (DRAW, {"prompt": "? " * 8200}, 400, "prompt", "more than 8192 tokens"),
        (DRAW, {**PROMPT, "n": "2"}, 422, "n", "valid integer"),
        (DRAW, {**PROMPT, "n": 11}, 422, "n", "less than or equal to 10"),
        (DRAW, {**PROMPT, "seed": -1}, 422, "seed", "greater than or equal to 0"),
        (DRAW, {**PROMPT, "size": "big"}, 400, "size", "WIDTHxHEIGHT"),
        (DRAW, {**PROMPT, "size": "1024x1024"}, 400, "size", "56x56, 64x48, 48x64"),
        (DRAW, {**PROMPT, "model": "gpt"}, 404, "model", "served: micro"),
        (DRAW, {**PROMPT, "output_format": "gif"}, 422, "output_format", "'png', 'jpeg'"),
        (DRAW, {**PROMPT, "negative_prompt": "x"}, 400, "negative_prompt", "no negative prompt"),
        (DRAW, {**PROMPT, "background": "transparent"}, 400, "background", "no transparency"),
        (DRAW, {**PROMPT, "partial_images": 4}, 422, "partial_images", "less than or equal to 3"),
        (DRAW, '{"prompt": "a red star", "guidance_scale": NaN}', 422, "guidance_scale", "less than or equal|finite|greater"),
        (EDIT, {"prompt": "x"}, 400, "image", "the request has 0"),
        (EDIT, {"prompt": "x", "images": [{}]}, 422, "images.0.image_url", "must be a URL"),
        (EDIT, {"prompt": "x", "images": [{"image_url": "data:,"}]}, 400, "images.0.image_url", "data:image/png;base64"),
        (EDIT, {"prompt": "a star", "images": [{"image_url": "data:image/png;base64,AAAA"}]}, 400, "image", "no readable picture"),
        (EDIT, {"prompt": "x", "images": [{"image_url": "http://127.0.0.1/x.png"}]}, 400, "images.0.image_url", "not fetched"),
        (EDIT, {"prompt": "a star", "images": [{"image_url": link()}] * 2}, 400, "image", "the request has 2"),
        (EDIT, {"prompt": "a star", "images": [{"image_url": link()}], "size": "64x48"}, 400, "size", "edited at 56x56"),
        (EDIT, {"prompt": "a star", "images": [{"image_url": link()}], "mask": {"image_url": link()}}, 400, "mask", "not supported yet"),
        (CHAT, {"messages": []}, 422, "messages", "at least 1"),
        (CHAT, {"messages": "hi"}, 422, "messages", "valid list"),
        (CHAT, {"messages": [{"role": "system", "content": "hi"}]}, 400, "messages", "must be the user's"),
        (CHAT, {"messages": [{"role": "tool", "content": "hi"}]}, 422, "messages.0.role", "role must be"),
        (CHAT, user(3), 422, "messages.0.content", "a text or a list"),
        (CHAT, user([]), 422, "messages.0.content", "empty"),
        (CHAT, user([{"type": "input_audio"}]), 422, "messages.0.content", "text or image_url"),
        (CHAT, user([{"type": "image_url", "image_url": 3}]), 422, "messages.0.content.image_url", "must be a URL"),
        (CHAT, user("star " * 7000), 400, "messages.0.content", "more than 32000 characters"),
        (CHAT, {"messages": user("star " * 5000)["messages"] * 2}, 400, "messages", "more than 8192 tokens"),
        (CHAT, user([{"type": "image_url", "image_url": link()}] * 17), 400, "messages", "more than 16 pictures"),
        (CHAT, {**user("a red star"), "temperature": 0.00001}, 400, "temperature", "at least 0.001"),
        (CHAT, {**user("a red star"), "n": 2}, 422, "n", "less than or equal to 1"),
        ("/v1/nothing", {}, 404, None, "Not Found"),
        ("/v1/models", {}, 405, None, "Method Not Allowed"),
    ],
)  # fmt: skip
def test_every_error_has_openais_form(url: str, path, body, status, param, part):
    content = body if isinstance(body, str) else json.dumps(body)
    reply = httpx.post(url + path, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["param"] == param
    assert any(one in error["message"] for one in part.split("|")), error["message"]


def test_the_client_raises_its_own_errors(url: str):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="zebra") as error:
        client.images.generate(prompt="a zebra")
    assert error.value.param == "prompt" and error.value.code == "invalid_prompt"
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a red star", model="gpt-image-1")
    with pytest.raises(openai.BadRequestError, match="masks are not supported"):
        client.images.edit(image=png(), mask=png(), prompt="make the star green")


def test_keys_sizes_and_allowed_urls(micro: Arm):
    picture = png()

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/open/moved"):
                self.send_response(302)
                self.send_header("Location", "/open/x.png")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, format: str, *args: object) -> None:
            pass

    pictures = HTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=pictures.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{pictures.server_port}"
    limits = Limits(("one", "two"), 4000, 1000, url_prefixes=(f"{host}/open/",))
    try:
        with serving(micro, limits) as (url, _):
            assert httpx.get(f"{url}/health").status_code == 200
            for key in ("", "Bearer three", "Basic one", "Bearer"):
                for path in ("/v1/models", "/metrics"):
                    reply = httpx.get(url + path, headers={"Authorization": key})
                    assert reply.status_code == 401
                    assert reply.json()["error"]["type"] == "authentication_error"
            with httpx.Client(base_url=url, headers={"Authorization": "Bearer two"}) as client:
                assert client.get("/v1/models").status_code == 200
                large = client.post(DRAW, json={**PROMPT, "user": "x" * 5000})
                assert large.status_code == 413
                large = client.post(EDIT, data=PROMPT, files={"image": b"x" * 5000})
                assert large.status_code == 413 and large.json()["error"]["code"] == "too_large"
                large = client.post(EDIT, data=PROMPT, files={"image": b"x" * 2000})
                assert large.status_code == 413 and large.json()["error"]["param"] == "image"
                for path, status in (
                    ("/open/x.png", 200),
                    ("/open/../x.png", 400),
                    ("/closed/x.png", 400),
                    ("/open/moved", 400),
                ):
                    body = {**PROMPT, "images": [{"image_url": host + path}]}
                    assert client.post(EDIT, json=body).status_code == status, path
    finally:
        pictures.shutdown()


class Gate:
    """Holds the engine before each batch until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        original = engines._generate

        def held(jobs: list[engines.Job]) -> list[list[Result]]:
            self.sizes.append(len(jobs))
            self.entered.set()
            assert self.open.wait(60)
            return original(jobs)

        monkeypatch.setattr(engines, "_generate", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def wait_until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def in_thread(call, replies: list) -> threading.Thread:
    thread = threading.Thread(target=lambda: replies.append(call()), daemon=True)
    thread.start()
    return thread


def test_a_full_queue_answers_429_and_those_that_wait_share_a_batch(micro: Arm, gate: Gate):
    with serving(micro, Limits(max_queue=2)) as (url, server):
        replies: list[httpx.Response] = []

        def draw() -> httpx.Response:
            return httpx.post(url + DRAW, json=PROMPT, timeout=60)

        threads = [in_thread(draw, replies)]
        assert gate.entered.wait(30)
        for waiting in (1, 2):
            threads.append(in_thread(draw, replies))
            wait_until(lambda waiting=waiting: len(server.engine._waiting) == waiting)
        refused = draw()
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.open.set()
        for thread in threads:
            thread.join(60)
        assert [reply.status_code for reply in replies] == [200] * 3
        assert gate.sizes == [1, 2]


def test_a_client_that_leaves_is_dropped_from_the_queue(micro: Arm, gate: Gate):
    with serving(micro) as (url, server):
        replies: list[httpx.Response] = []
        first = in_thread(lambda: httpx.post(url + DRAW, json=PROMPT, timeout=60), replies)
        assert gate.entered.wait(30)
        for stream in (False, True):
            host, port = url.removeprefix("http://").split(":")
            content = json.dumps({**PROMPT, "stream": stream}).encode()
            with socket.create_connection((host, int(port))) as leaving:
                head = f"POST {DRAW} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
                leaving.sendall(head.encode() + content)
                wait_until(lambda: len(server.engine._waiting) == 1)
                (job,) = server.engine._waiting
            wait_until(lambda job=job: job.abandoned)
            server.engine._forget_abandoned()
        gate.open.set()
        first.join(60)
        assert replies[0].status_code == 200
        assert gate.sizes == [1]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_client_that_leaves_while_it_sends_is_no_defect(micro: Arm, kind: str):
    with serving(micro) as (url, server):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as leaving:
            head = f"POST {EDIT} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n--x"
            leaving.sendall(head.encode())
        left = server.metrics.requests.labels(EDIT, "499")
        wait_until(lambda: left._value.get() == 1, seconds=5)
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_request_that_takes_too_long_ends(micro: Arm, gate: Gate):
    with serving(micro, Limits(seconds=0.3)) as (url, _):
        reply = httpx.post(url + DRAW, json=PROMPT, timeout=60)
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "timeout"
        reply = httpx.post(url + DRAW, json={**PROMPT, "stream": True}, timeout=60)
        assert reply.text.startswith("event: error\n") and "timeout" in reply.text
        gate.open.set()


def test_draining_finishes_what_runs_and_refuses_the_rest(micro: Arm, gate: Gate):
    with serving(micro) as (url, server):
        replies: list[httpx.Response] = []

        def draw() -> httpx.Response:
            return httpx.post(url + DRAW, json=PROMPT, timeout=60)

        running = in_thread(draw, replies)
        assert gate.entered.wait(30)
        waiting: list[httpx.Response] = []
        second = in_thread(draw, waiting)
        wait_until(lambda: len(server.engine._waiting) == 1)
        server.engine.drain()
        second.join(30)
        assert waiting[0].status_code == 503 == draw().status_code
        assert waiting[0].json()["error"]["code"] == "shutting_down"
        gate.open.set()
        running.join(60)
        assert replies[0].status_code == 200


def test_a_defect_is_logged_and_not_shown(micro: Arm, monkeypatch: pytest.MonkeyPatch):
    def broken(jobs: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(engines, "_generate", broken)
    with serving(micro) as (url, _):
        reply = httpx.post(url + DRAW, json=PROMPT, timeout=60)
        assert reply.status_code == 500 and "secret" not in reply.text
        assert reply.json()["error"]["type"] == "server_error"
        reply = httpx.post(url + DRAW, json={**PROMPT, "stream": True}, timeout=60)
        assert reply.text.startswith("event: error\n") and "secret" not in reply.text


def test_an_engine_that_died_is_reported(micro: Arm, monkeypatch: pytest.MonkeyPatch):
    with serving(micro) as (url, server):
        monkeypatch.setattr(server.engine, "_thread", threading.Thread())
        reply = httpx.get(f"{url}/health")
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "engine_stopped"


def test_a_defect_of_a_route_counts_as_500(micro: Arm, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Server, name: str | None) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Server, "model", broken)
    with serving(micro) as (url, server):
        reply = httpx.post(url + DRAW, json=PROMPT)
        assert reply.status_code == 500 and "secret" not in reply.text
        assert reply.json()["error"]["type"] == "server_error"
        assert server.metrics.requests.labels(DRAW, "500")._value.get() == 1


def test_metrics_and_request_ids(micro: Arm, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "arm.serve")
    logging.getLogger("arm.serve").propagate = True
    with serving(micro) as (url, _):
        reply = httpx.post(url + DRAW, json=PROMPT, headers={"X-Request-Id": "mine-1"}, timeout=60)
        assert reply.headers["X-Request-Id"] == "mine-1"
        other = httpx.get(f"{url}/health", headers={"X-Request-Id": "a b"})
        assert len(other.headers["X-Request-Id"]) == 32
        text = httpx.get(f"{url}/metrics").text
    assert 'arm_tokens_total{kind="image"} 49.0' in text
    assert f'arm_requests_total{{route="{DRAW}",status="200"}} 1.0' in text
    assert "arm_queue_jobs 0.0" in text
    for phase in ("queue", "prepare", "generate", "finish"):
        assert f'arm_phase_seconds_count{{phase="{phase}"}} 1.0' in text
    record = next(r for r in caplog.records if getattr(r, "fields", {}).get("path") == DRAW)
    line = json.loads(JsonLines().format(record))
    assert line["request_id"] == "mine-1" and line["status"] == 200 and line["level"] == "info"


def test_an_engine_refuses_what_exceeds_its_queue(micro: Arm):
    def nothing() -> Procedure:
        return 7
        yield

    engine = Engine(Metrics(), max_queue=1)
    job = engine.submit(micro, nothing())
    with pytest.raises(QueueFull):
        engine.submit(micro, nothing())
    job.abandon()
    later = engine.submit(micro, nothing())
    engine.start()
    assert later.future.result(30) == 7 and job.future.cancelled()
    engine.stop()
    with pytest.raises(ShuttingDown):
        engine.submit(micro, nothing())


def test_sigterm_ends_the_command_in_order():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "arm", "serve", "--port", str(port)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        for line in process.stderr or ():
            if "Uvicorn running" in line:
                break
        body = {**PROMPT, "n": 10}
        replies: list[httpx.Response] = []
        url = f"http://127.0.0.1:{port}"
        drawing = in_thread(lambda: httpx.post(url + DRAW, json=body, timeout=60), replies)
        wait_until(lambda: "arm_running_jobs 1.0" in httpx.get(f"{url}/metrics").text)
        process.send_signal(signal.SIGTERM)
        drawing.join(60)
        assert replies[0].status_code == 200 and len(replies[0].json()["data"]) == 10
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "nothing"), "nothing"),
        (("--model", "micro", "--model", "micro"), "two models have the same name"),
        (("--api-key", ""), "--api-key is empty"),
        (("--allow-url", "example.org"), "is no URL"),
    ],
)
def test_wrong_options_are_one_line(call: Call, options, message):
    code, _, err = call("serve", *options)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1


def test_a_port_in_use_is_one_line(call: Call):
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, _, err = call("serve", "--port", other.getsockname()[1])
    assert code == 2 and "in use" in err and len(err.strip().splitlines()) == 1


def test_an_empty_file_of_keys_is_refused(call: Call, tmp_path):
    (tmp_path / "keys").write_text("\n")
    code, _, err = call("serve", "--api-key-file", tmp_path / "keys")
    assert code == 2 and "holds no key" in err
