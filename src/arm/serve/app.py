"""The ASGI application, the middleware for request ids and body limits, the log, and the web server.

`create_app` makes the application; `run` serves it until a signal.
"""

import asyncio
import json
import logging
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from arm import __version__
from arm.pipeline import Arm
from arm.serve.engine import Metrics
from arm.serve.protocol import ApiError, ChatBody, EditBody, ImageBody
from arm.serve.routes import completions, edits, generations
from arm.serve.server import LOG, Limits, Server

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]
Route = Callable[[Server, Request], Awaitable[Response]]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON: time, level, message, and the fields of `extra={"fields": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr() -> None:
    """Sends the server's log, and uvicorn's, to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("arm.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


class RequestLayer:
    """ASGI middleware: gives each request an id (`X-Request-Id`, the client's own if it is well formed), logs and
    counts it, and raises ApiError 413 inside the route when the body exceeds `max_body` bytes.
    """

    def __init__(self, app: AsgiApp, metrics: Metrics, max_body: int) -> None:
        self.app, self.metrics, self.max_body = app, metrics, max_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        offered = headers.get(b"x-request-id", "")
        request_id = offered if REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        began, status, received = time.monotonic(), 499, 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body:
                raise ApiError(
                    413, f"the request is larger than {self.max_body} bytes", code="too_large"
                )
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self.app(scope, limited_receive, send_with_id)
        except Exception:
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(time.monotonic() - began, 3),
            }
            LOG.info("request", extra={"fields": fields})


def create_app(server: Server) -> FastAPI:
    """The ASGI application. Its lifespan starts and stops the engine."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.engine.start()
        yield
        await asyncio.to_thread(server.engine.stop)

    app = FastAPI(title="arm", version=__version__, lifespan=lifespan)

    @app.exception_handler(ApiError)
    async def on_api_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def on_http_error(_: Request, error: HTTPException) -> JSONResponse:
        body = ApiError(error.status_code, str(error.detail)).body()
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; the log has it

    @app.exception_handler(Exception)
    async def on_defect(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(ApiError(500, "the server failed; its log has the reason").body(), 500)

    @app.get("/health")
    async def health() -> dict[str, str]:
        if not server.engine.is_alive:
            raise ApiError(503, "the engine has stopped; restart the server", code="engine_stopped")
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        server.check_key(request)
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        server.check_key(request)
        known = {"object": "model", "created": server.started, "owned_by": "arm"}
        return {"object": "list", "data": [{"id": name, **known} for name in server.models]}

    for path, kind, route in (
        ("/v1/images/generations", ImageBody, generations),
        ("/v1/images/edits", EditBody, edits),
        ("/v1/chat/completions", ChatBody, completions),
    ):
        _add_route(app, server, path, kind, route)
    app.add_middleware(RequestLayer, metrics=server.metrics, max_body=server.limits.max_body)
    return app


def _add_route(
    app: FastAPI, server: Server, path: str, body: type[BaseModel], route: Route
) -> None:
    """Adds a POST route that reads its own body; the OpenAPI description gets the fields of `body`."""

    async def handle(request: Request) -> Response:
        server.check_key(request)
        return await route(server, request)

    schema = body.model_json_schema()
    content = {"application/json": {"schema": schema}}
    if body is EditBody:
        files = {"image": {"type": "string", "format": "binary"}}
        form = {**schema, "properties": {**schema["properties"], **files}}
        content["multipart/form-data"] = {"schema": form}
    extra = {"requestBody": {"required": True, "content": content}}
    app.post(path, summary=route.__doc__, openapi_extra=extra)(handle)


class _WebServer(uvicorn.Server):
    """uvicorn, which on SIGTERM and SIGINT first refuses the jobs that wait; those that run finish."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self.arm_server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # In a thread of its own: this one may hold the queue's lock.
        threading.Thread(target=self.arm_server.engine.drain).start()
        super().handle_exit(sig, frame)


def web_server(server: Server, host: str, port: int) -> uvicorn.Server:
    """The web server of an application, not started yet."""
    config = uvicorn.Config(
        create_app(server), host, port, log_config=None, access_log=False,
        timeout_graceful_shutdown=int(server.limits.seconds) + 1,
    )  # fmt: skip
    return _WebServer(config, server)


def run(models: Mapping[str, Arm], limits: Limits, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what runs."""
    log_to_stderr()
    # uvicorn raises the signal once more when it has finished; that is a regular end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    web_server(Server(models, limits), host, port).run()
