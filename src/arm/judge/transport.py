"""The HTTP client for a judge, with bounds on what one request may cost: a judge may be anybody's server.

- One request ends after a total time, even where a byte arrives now and then.
- A reply or a list of models has at most `MOST_BYTES` bytes, as sent and after decompression, and JSON of at most
  `MOST_DEPTH` levels.
- A redirect is followed on the same scheme, host and port alone: a request carries pictures and a key.

A reply outside the bounds becomes an error response with the code `REFUSED`, which is not asked for again.
"""

import importlib
import json
import re
import socket
import time
import zlib
from threading import Timer
from typing import Any

import openai

MOST_BYTES = 4 * 2**20
MOST_DEPTH = 64
MOST_REDIRECTS = 3
REFUSED = "refused_by_client"
"""The code of the error in a response that stands for one outside the bounds."""

# httpx or its successor, whichever this version of openai is built on.
_httpx = importlib.import_module(openai.DefaultHttpxClient.mro()[1].__module__.partition(".")[0])


class _OutOfBounds(Exception):
    """A reply that is not read; the text says why."""


class BoundedClient(openai.DefaultHttpxClient):
    """An httpx client for `openai.OpenAI`; `limit_s` bounds each request in whole."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(timeout=limit_s)
        self.limit_s = limit_s

    def send(self, request: Any, **options: Any) -> Any:
        """The whole response, read and within the bounds. Raises httpx's TimeoutException after `limit_s`."""
        deadline = time.monotonic() + self.limit_s
        options = {k: v for k, v in options.items() if k not in ("stream", "follow_redirects")}
        try:
            for _ in range(MOST_REDIRECTS + 1):
                response, following = self._exchange(request, deadline, options)
                if following is None:
                    return response
                if _origin(following.url) != _origin(request.url):
                    raise _OutOfBounds(
                        f"the judge redirects to {_address(following.url)}, which is not followed; if the "
                        "judge is there, give that address"
                    )
                request = following
            raise _OutOfBounds(f"the judge redirects more than {MOST_REDIRECTS} times")
        except _OutOfBounds as error:
            content = json.dumps({"error": {"message": str(error), "code": REFUSED}}).encode()
            headers = {"content-type": "application/json", "x-should-retry": "false"}
            return _httpx.Response(502, headers=headers, content=content, request=request)

    def _exchange(self, request: Any, deadline: float, options: dict[str, Any]) -> tuple[Any, Any]:
        """One response, read, and the request that it redirects to, if any."""
        watch = _Watch(deadline)
        request.extensions = {**request.extensions, "trace": watch.trace}
        # A connection of its own, so that its socket is known; compressed as it can be bounded.
        request.headers["Connection"], request.headers["Accept-Encoding"] = "close", "gzip"
        try:
            response = super().send(request, stream=True, follow_redirects=False, **options)
            try:
                content = _read(response)
            finally:
                response.close()
        except Exception as error:
            if watch.expired and not isinstance(error, _OutOfBounds):
                raise _httpx.ReadTimeout(
                    f"no whole reply within {self.limit_s:g} s", request=request
                ) from None
            raise
        finally:
            watch.stop()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        whole = _httpx.Response(
            response.status_code, headers=headers, content=content, request=request
        )
        return whole, response.next_request


class _Watch:
    """Shuts a request's connection down at a deadline, whatever it waits for."""

    def __init__(self, deadline: float) -> None:
        self.expired = False
        self._sockets: list[socket.socket] = []
        self._timer = Timer(max(0.0, deadline - time.monotonic()), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """As httpx calls it: takes note of the sockets of new connections."""
        get = getattr(info.get("return_value"), "get_extra_info", None)
        connection = None if get is None else get("socket")
        if isinstance(connection, socket.socket):
            self._sockets.append(connection)
        if self.expired:
            raise TimeoutError

    def stop(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self.expired = True
        for connection in self._sockets:
            try:
                # Not SSLSocket's own, which drops the state that a reading thread uses.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass  # closed already


def _origin(url: Any) -> tuple[str, str, int | None]:
    ports = {"http": 80, "https": 443}
    return url.scheme, url.host, url.port or ports.get(url.scheme)


def _address(url: Any) -> str:
    """Scheme, host and path of an address, without what may be secret in it."""
    text = str(url.copy_with(query=None, fragment=None, username=None, password=None))
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _read(response: Any) -> bytes:
    """The content of a response that is being received. Raises _OutOfBounds."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    windows = {
        "gzip": 16 + zlib.MAX_WBITS,
        "x-gzip": 16 + zlib.MAX_WBITS,
        "deflate": zlib.MAX_WBITS,
    }
    if encoding not in ("identity", "", *windows):
        raise _OutOfBounds(f"the reply is compressed as {encoding[:40]!a}, not as gzip")
    decoder = zlib.decompressobj(windows[encoding]) if encoding in windows else None
    content, received = bytearray(), 0
    for chunk in response.iter_raw():
        received += len(chunk)
        try:
            content += (
                chunk
                if decoder is None
                else decoder.decompress(chunk, MOST_BYTES + 1 - len(content))
            )
        except zlib.error:
            raise _OutOfBounds("the reply is damaged: its compression cannot be undone") from None
        if max(received, len(content)) > MOST_BYTES:
            raise _OutOfBounds(f"the reply is longer than {MOST_BYTES:,} bytes")
    if is_deeper(content, MOST_DEPTH):
        raise _OutOfBounds(f"the reply is JSON of more than {MOST_DEPTH} levels")
    return bytes(content)


_JSON_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def is_deeper(content: bytes | bytearray, most: int) -> bool:
    """Whether JSON nests more than `most` lists and objects; brackets inside strings do not count."""
    depth = 0
    for piece in _JSON_PIECE.finditer(content):
        first = piece[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > most:
            return True
    return False
