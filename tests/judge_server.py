"""A judge over real HTTP: answers, dawdles, refuses, talks rubbish or hangs up, as it is told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any], int], Any]
"""(request body, number of this request from 0) -> text, (status, headers), (status, headers, message or bytes of
a body), a number of seconds to dawdle before GOOD, or None to hang up."""

GOOD = {
    "drawing": '{"objects": 8, "attributes": 10, "relations": 5}',
    "editing": '{"instruction": 9, "preservation": 10, "quality": 4}',
}


def good(body: dict[str, Any], _: int = 0) -> str:
    asked = body["messages"][0]["content"]
    return GOOD["drawing" if "objects" in asked else "editing"]


@dataclass
class Server:
    answer: Answer = good
    model: str = "judge-1"
    calls_itself: str | None = None
    key: str | None = None
    usage: dict[str, int] | None = None
    logprobs: dict[str, float] | None = None
    finish_reason: str = "stop"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    active: int = 0
    most_active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def send(self, status: int, payload: Any, headers: dict[str, str] | None = None) -> None:
            data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                self.send(401, {"error": {"message": "bad key"}})
            else:
                self.send(
                    200, {"object": "list", "data": [{"id": server.model, "object": "model"}]}
                )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.bodies)
                server.bodies.append(body)
                server.active += 1
                server.most_active = max(server.most_active, server.active)
            try:
                self.respond(server.answer(body, number), body)
            finally:
                with server.lock:
                    server.active -= 1

        def respond(self, answer: Any, body: dict[str, Any]) -> None:
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(answer, tuple):
                status, headers = answer[:2]
                said = answer[2] if len(answer) > 2 else "as told"
                whole = said if isinstance(said, bytes) else {"error": {"message": said}}
                self.send(status, whole, headers)
                return
            if isinstance(answer, float):
                time.sleep(answer)
                answer = good(body)
            message = {"role": "assistant", "content": answer}
            choice: dict[str, Any] = {
                "index": 0, "finish_reason": server.finish_reason, "message": message,
            }  # fmt: skip
            if server.logprobs is not None and body.get("logprobs"):
                each = [
                    {"token": t, "logprob": p, "bytes": None} for t, p in server.logprobs.items()
                ]
                first = {**each[0], "top_logprobs": each}
                choice["logprobs"] = {"content": [first], "refusal": None}
            self.send(
                200,
                {"id": "x", "object": "chat.completion", "created": 0,
                 "model": server.calls_itself or server.model, "choices": [choice], **({"usage": server.usage} if server.usage else {})},
            )  # fmt: skip

    return Handler


@contextmanager
def judge_server(answer: Answer = good, **options: Any) -> Iterator[Server]:
    server = Server(answer, **options)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.handle_error = lambda *_: None  # a client that gave up is no news
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
