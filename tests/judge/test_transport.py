"""A judge that is a stranger: what its replies may cost, and where they may lead."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from arm.judge import JudgeConfig, JudgeError, Question
from arm.judge.endpoint import Endpoint
from arm.judge.transport import MOST_BYTES, MOST_DEPTH, is_deeper
from judge_server import judge_server

Handler = Callable[[socket.socket, bytes, int], None]
"""(connection, request, number of the request from 0) -> None, having written what it wants to."""


@contextmanager
def raw_server(handler: Handler) -> Iterator[str]:
    """A server that writes bytes as it likes; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped, count = threading.Event(), iter(range(10_000))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            length = [
                int(line[15:])
                for line in head.split(b"\r\n")
                if line[:15].lower() == b"content-length:"
            ]
            while length and len(body) < length[0]:
                body += connection.recv(65536)
            handler(connection, head, next(count))

    def accept() -> None:
        while not stopped.is_set():
            with suppress(OSError):
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        stopped.set()
        listener.close()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "judge-1",
            "choices": [choice],
        }
    ).encode()


def endpoint(url: str, **options) -> Endpoint:
    return Endpoint(JudgeConfig(url, "judge-1", **{"retries": 0, "timeout_s": 20.0, **options}))


def asked(where: Endpoint) -> str | None:
    (reply,) = where.ask_each([Question("well?", lambda text: True)], "again")
    return None if reply is None else reply.text


def missing(where: Endpoint) -> str:
    assert asked(where) is None
    (why,) = where.tally.missing
    return why


GZIP = "Content-Encoding: gzip"
BOMB = gzip.compress(bytes(16 * MOST_BYTES))
"""A thousandth of what it unpacks to."""


def test_a_compressed_reply_is_read():
    for body, encoding in (
        (gzip.compress(completion("yes")), "gzip"),
        (zlib.compress(completion("yes")), "deflate"),
    ):
        sent = response(body, f"Content-Encoding: {encoding}")
        with raw_server(lambda c, *_, sent=sent: c.sendall(sent)) as url:
            assert asked(endpoint(url)) == "yes"


LONG = f"reply refused: the reply is longer than {MOST_BYTES:,} bytes"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (response(BOMB, GZIP), LONG),
        (response(completion("a" * MOST_BYTES)), LONG),
        (response(completion("a" * MOST_BYTES), status="400 Bad Request"), LONG),
        (response(b"[" * 100_000), f"reply refused: the reply is JSON of more than {MOST_DEPTH} levels"),
        (response(b'{"error": ' * 100_000, status="500 Oh"), "reply refused: the reply is JSON of more than 64 levels"),
        (response(b"x", "Content-Encoding: br"), "reply refused: the reply is compressed as 'br', not as gzip"),
        (response(b"not gzip", GZIP), "reply refused: the reply is damaged: its compression cannot be undone"),
        (response(gzip.compress(completion("yes"))[:60], GZIP), "no chat completion"),
        (response(b"9" * 5000), "no chat completion"),
    ],
)  # fmt: skip
def test_replies_outside_the_bounds_are_missing(sent: bytes, why: str):
    requests: list[int] = []

    def answer(connection: socket.socket, _: bytes, number: int) -> None:
        requests.append(number)
        connection.sendall(sent)

    with raw_server(answer) as url:
        assert missing(endpoint(url, retries=2)) == why
        assert len(requests) == 1  # nor asked for again
        with pytest.raises(JudgeError, match=r"^the judge at [^\n]{1,300}$"):
            endpoint(url).check()


def test_a_reply_without_an_end_is_missing():
    """Its length is not said, and it never stops."""

    def endless(connection: socket.socket, *_: object) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    with raw_server(endless) as url:
        assert missing(endpoint(url)) == LONG


@pytest.mark.parametrize(
    "whole", [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{", b"HTTP/1.1 20"]
)
def test_a_byte_now_and_then_is_no_reply(whole: bytes):
    """Neither in the body nor in the head. Every byte comes long before a time limit for one read."""

    def dribbles(connection: socket.socket, *_: object) -> None:
        connection.sendall(whole)
        for _second in range(600):
            time.sleep(0.1)
            connection.sendall(b" " if b"\r\n\r\n" in whole else b"0")

    with raw_server(dribbles) as url:
        assert missing(endpoint(url, timeout_s=1.0)) == "APITimeoutError"


def test_a_redirect_to_another_place_is_not_followed():
    with judge_server() as other:
        for status, to in (
            ("307 Away", other.url),
            ("302 Found", other.url),
            ("308 Away", "https://127.0.0.1:1/v1"),
        ):
            head = response(b"", f"Location: {to}/chat/completions?key=secret", status=status)
            with raw_server(lambda c, *_, head=head: c.sendall(head)) as url:
                why = missing(endpoint(url))
                assert why.startswith(
                    f"reply refused: the judge redirects to {to}/chat/completions, which"
                )
                with pytest.raises(JudgeError, match="fails: the judge redirects to"):
                    endpoint(url).check()
        assert other.bodies == []


def test_a_redirect_on_the_same_server_is_followed():
    def moved(connection: socket.socket, head: bytes, _: int) -> None:
        path = head.split(b" ")[1]
        there = path.endswith(b"/there")
        answer = response(completion("yes")) if there else response(
            b"", f"Location: {path.decode()}/there", status="307 Moved"
        )  # fmt: skip
        connection.sendall(answer)

    with raw_server(moved) as url:
        assert asked(endpoint(url)) == "yes"
    loop = response(b"", "Location: /v1/chat/completions", status="307 Moved")
    with raw_server(lambda c, *_: c.sendall(loop)) as url:
        assert missing(endpoint(url)) == "reply refused: the judge redirects more than 3 times"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"[[]]", False), (b"[[[]]]", True), (b'{"a": ["[[["]}', False), (b'["\\"[[["]', False), (b"[] [] []", False),
     (b'"[[[', True), (b"]]][[", False)],
)  # fmt: skip
def test_depth_of_json(content: bytes, expected: bool):
    assert is_deeper(content, 2) is expected
