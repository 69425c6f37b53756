"""A server of the shipped model `micro` on a free port of this machine."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from arm.pipeline import Arm
from arm.serve.app import web_server
from arm.serve.server import Limits, Server


@pytest.fixture(scope="session")
def micro() -> Arm:
    torch.set_num_threads(1)
    return Arm.from_pretrained("micro")


@contextmanager
def serving(arm: Arm, limits: Limits | None = None) -> Iterator[tuple[str, Server]]:
    """The URL of a server, and its shared objects; it is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server({"micro": arm}, limits or Limits())
    web = web_server(server, "127.0.0.1", port)
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not web.started:
        assert thread.is_alive() and time.monotonic() < end
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        web.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server(micro: Arm) -> Iterator[tuple[str, Server]]:
    with serving(micro) as pair:
        yield pair


@pytest.fixture(scope="module")
def url(server: tuple[str, Server]) -> str:
    return server[0]
