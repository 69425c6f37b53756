"""What the routes share: the served models, the engine, the limits, and pictures on their way in."""

import asyncio
import logging
import secrets
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from fastapi import Request
from fastapi.responses import StreamingResponse
from PIL import Image as Pillow

from arm.data.images import open_image
from arm.errors import InputError, shown
from arm.pipeline import Arm
from arm.serve import jobs
from arm.serve import protocol as api
from arm.serve.engine import Engine, Job, Metrics, Procedure, QueueFull, ShuttingDown
from arm.serve.protocol import ApiError

LOG = logging.getLogger("arm.serve")
MiB = 2**20


@dataclass(frozen=True)
class Limits:
    """Access and limits.

    keys: the accepted API keys; empty switches authentication off. max_body, max_picture: bytes of a request and of
    one picture file. max_queue: jobs that may wait. seconds: the time limit of one request. url_prefixes: prefixes
    of the URLs from which pictures are fetched; empty refuses all but data: URLs.
    """

    keys: tuple[str, ...] = ()
    max_body: int = 64 * MiB
    max_picture: int = 50 * MiB
    max_queue: int = 256
    seconds: float = 600.0
    url_prefixes: tuple[str, ...] = ()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which could lead outside of the allowed prefixes."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: HTTPMessage, newurl: str,
    ) -> None:  # fmt: skip
        return None


class Server:
    """What the routes share: the models by name, the engine, the limits."""

    def __init__(self, models: Mapping[str, Arm], limits: Limits) -> None:
        self.models, self.limits, self.metrics = dict(models), limits, Metrics()
        self.engine = Engine(self.metrics, limits.max_queue)
        self.started = api.now()

    def model(self, name: str | None) -> tuple[str, Arm]:
        """The model of a name, the first for None. Raises ApiError 404."""
        name = name or next(iter(self.models))
        if name not in self.models:
            message = f"there is no model '{shown(name)}'; served: {', '.join(self.models)}"
            raise ApiError(404, message, "model", "model_not_found")
        return name, self.models[name]

    def check_key(self, request: Request) -> None:
        """Raises ApiError 401 without a right `Authorization: Bearer KEY`."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        offered = key.strip().encode()
        right = [secrets.compare_digest(offered, known.encode()) for known in self.limits.keys]
        if self.limits.keys and not (scheme.lower() == "bearer" and any(right)):
            raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")

    def submit(self, arm: Arm, procedure: Procedure) -> Job:
        """Queues a procedure. Raises ApiError 429 and 503."""
        try:
            return self.engine.submit(arm, procedure)
        except QueueFull as error:
            headers = {"Retry-After": str(error.retry_after)}
            raise ApiError(429, str(error), code="queue_full", headers=headers) from None
        except ShuttingDown as error:
            raise ApiError(503, str(error), code="shutting_down") from None

    async def result(self, request: Request, job: Job) -> jobs.Outcome:
        """Waits for a job and returns its outcome. Abandons the job when the client disconnects or the time limit
        is reached. Raises ApiError.
        """
        future = asyncio.wrap_future(job.future)
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limits.seconds
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=min(0.1, max(0.0, end - loop.time())))
                if future.done():
                    break
                if await request.is_disconnected():
                    raise ApiError(499, "the client went away")
                if loop.time() >= end:
                    raise self.timed_out()
            return future.result()
        except Exception as error:
            raise _api_error(error) from None
        finally:
            job.abandon()

    def timed_out(self) -> ApiError:
        return ApiError(503, f"not done within {self.limits.seconds:g} s", code="timeout")

    def stream(
        self,
        arm: Arm,
        make: Callable[[Callable[[Any], None]], Procedure],
        last: Callable[[jobs.Outcome], list[str]],
    ) -> StreamingResponse:
        """Queues a job and returns a response of server-sent events.

        make: builds the job's procedure; its argument sends one encoded event and may be called from the engine's
        thread. last: encodes the events that follow when the job is done.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[str | None] = asyncio.Queue()

        def post(event: str | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        job = self.submit(arm, make(post))
        job.future.add_done_callback(lambda _: loop.is_closed() or post(None))

        async def send() -> AsyncIterator[str]:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    while (event := await events.get()) is not None:
                        yield event
                for event in last(job.future.result()):
                    yield event
            except TimeoutError:
                yield api.server_sent_event(self.timed_out().body(), "error")
            except Exception as error:
                yield api.server_sent_event(_api_error(error).body(), "error")
            finally:
                job.abandon()

        return StreamingResponse(send(), media_type="text/event-stream")

    async def fetch(self, url: str, param: str) -> bytes:
        """The bytes that an URL names: of data: URLs, and of those below an allowed prefix."""
        if url.startswith("data:"):
            return api.decode_data_url(url, param)
        allowed = any(url.startswith(prefix) for prefix in self.limits.url_prefixes)
        if not allowed or ".." in unquote(urlsplit(url).path):
            message = "pictures are not fetched from this URL; send a data: URL"
            raise ApiError(400, message, param, "url_not_allowed")

        def read() -> bytes:
            with urllib.request.build_opener(_NoRedirects).open(url, timeout=20) as reply:
                return reply.read(self.limits.max_picture + 1)

        try:
            return await asyncio.to_thread(read)
        except (OSError, ValueError) as error:
            raise ApiError(400, f"the URL cannot be read ({shown(str(error))})", param) from None

    async def picture(self, content: bytes, param: str) -> Pillow.Image:
        """An uploaded file as upright RGB. Raises ApiError 413 and 400."""
        if len(content) > self.limits.max_picture:
            raise ApiError(413, f"a picture has more than {self.limits.max_picture} bytes", param)
        try:
            return await asyncio.to_thread(open_image, content)
        except InputError as error:
            raise ApiError(400, str(error), param, "invalid_image") from None

    async def linked_content(self, part: Any, param: str) -> bytes:
        """The file of an object with `image_url`, a URL or `{"url": URL}`."""
        url = part.get("image_url") if isinstance(part, dict) else None
        url = url.get("url") if isinstance(url, dict) else url
        if not isinstance(url, str):
            raise ApiError(422, "image_url must be a URL", f"{param}.image_url")
        return await self.fetch(url, f"{param}.image_url")


def _api_error(error: Exception) -> ApiError:
    """What a failure of a job is to the client. A defect is logged, and its details are not sent."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ShuttingDown):
        return ApiError(503, str(error), code="shutting_down")
    if isinstance(error, InputError):
        return ApiError(400, str(error))
    LOG.error("a job failed", exc_info=error)
    return ApiError(500, "the server failed; its log has the reason", code="internal_error")
