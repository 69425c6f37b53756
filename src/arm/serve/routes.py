"""The POST routes: pictures, edits and chat completions."""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from PIL import Image as Pillow
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from arm.errors import InputError
from arm.pipeline import Arm
from arm.sampling import Sampling
from arm.serve import jobs
from arm.serve import protocol as api
from arm.serve.engine import Procedure
from arm.serve.protocol import MAX_TEXT, ApiError, ChatBody, EditBody, ImageBody
from arm.serve.server import Server

MAX_TOKENS = 8192
"""Tokens of text of one request."""
MAX_PICTURES = 16
"""Pictures of one chat."""


def word_ids(arm: Arm, text: str, param: str) -> tuple[int, ...]:
    """Ids of a text. Raises ApiError 400 for an empty one, a long one, and for unknown words."""
    if len(text) > MAX_TEXT:
        message = f"the text has more than {MAX_TEXT} characters"
        raise ApiError(400, message, param, "context_length_exceeded")
    try:
        ids = arm.text_tokenizer.ids(text)
    except InputError as error:
        raise ApiError(400, str(error), param, "invalid_prompt") from None
    check_token_count(len(ids), param)
    return ids


def check_token_count(count: int, param: str) -> None:
    """Raises ApiError 400 for more than `MAX_TOKENS` tokens of text."""
    if count > MAX_TOKENS:
        message = f"the text has more than {MAX_TOKENS} tokens"
        raise ApiError(400, message, param, "context_length_exceeded")


def random_seed(seed: int | None) -> int:
    """The client's seed, or a new one."""
    return secrets.randbelow(2**32) if seed is None else seed


# Pictures


async def _edit_fields(server: Server, request: Request) -> tuple[EditBody, list[bytes]]:
    """Fields and picture files of a form or of JSON."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        body = api.validated(EditBody, api.parse_json(await request.body()))
        parts = body.images or []
        check_picture_count(len(parts))
        return body, [await server.linked_content(parts[0], "images.0")]
    try:
        form = await request.form(max_files=32, max_fields=64)
    except HTTPException as error:
        raise ApiError(400, str(error.detail), code="invalid_form") from None
    fields: dict[str, Any] = {}
    files: list[bytes] = []
    for name, value in form.multi_items():
        if name in ("image", "image[]"):
            if not isinstance(value, UploadFile):
                raise ApiError(422, "image must be a file", "image")
            files.append(await value.read())
        else:
            fields[name] = "file" if isinstance(value, UploadFile) else value
    body = api.validated(EditBody, fields, strict=False)
    check_picture_count(len(files))
    return body, files


def check_picture_count(count: int) -> None:
    """Raises ApiError 400 unless there is one picture."""
    if count != 1:
        message = f"the models edit one picture at a time; the request has {count}"
        raise ApiError(400, message, "image", "wrong_number_of_images")


async def _pictures(
    server: Server, request: Request, body: ImageBody, kind: str,
    arm: Arm, make: Callable[[jobs.Painting], Procedure],
) -> Response:  # fmt: skip
    """The reply of both image routes. kind: "image_generation" or "image_edit", as events are called."""
    seed, n = random_seed(body.seed), body.n or 1

    def painting(**partial: Any) -> jobs.Painting:
        steps = body.num_inference_steps
        return jobs.Painting(n, seed, body.guidance_scale, steps, **partial)

    def usage(outcome: jobs.Outcome) -> dict[str, Any]:
        return api.usage_of_pictures(outcome.input_text, outcome.input_image, outcome.output)

    def event(name: str, picture: Pillow.Image, **more: Any) -> str:
        fields = {"type": f"{kind}.{name}", **more, "created_at": api.now(), "seed": seed}
        fields |= {**body.fields(picture), "b64_json": body.encoded(picture)}
        return api.server_sent_event(fields, f"{kind}.{name}")

    if body.stream:

        def start(post: Callable[[str], None]) -> Procedure:
            def on_partial(i: int, picture: Pillow.Image) -> None:
                post(event("partial_image", picture, partial_image_index=i))

            return make(painting(partial_images=body.partial_images or 0, on_partial=on_partial))

        return server.stream(
            arm, start, lambda o: [event("completed", p, usage=usage(o)) for p in o.pictures]
        )
    outcome = await server.result(request, server.submit(arm, make(painting())))
    data = []
    for picture in outcome.pictures:
        encoded = body.encoded(picture)
        link = api.data_url(encoded, body.output_format or "png")
        content = {"url": link} if body.response_format == "url" else {"b64_json": encoded}
        data.append({**content, "revised_prompt": body.prompt})
    fields = body.fields(outcome.pictures[0])
    reply = {"created": api.now(), "data": data, **fields, "usage": usage(outcome), "seed": seed}
    return JSONResponse(reply)


async def generations(server: Server, request: Request) -> Response:
    """POST /v1/images/generations."""
    body = api.validated(ImageBody, api.parse_json(await request.body()))
    body.refuse_unsupported()
    _, arm = server.model(body.model)
    ids = word_ids(arm, body.prompt, "prompt")
    size = body.pixels()
    try:
        grid = arm.grid_for(*size) if size else arm.defaults.grids[0]
    except InputError as error:
        raise ApiError(400, str(error), "size", "invalid_size") from None
    return await _pictures(
        server, request, body, "image_generation", arm,
        lambda painting: jobs.draw(arm, ids, grid, painting),
    )  # fmt: skip


async def edits(server: Server, request: Request) -> Response:
    """POST /v1/images/edits."""
    body, files = await _edit_fields(server, request)
    body.refuse_unsupported()
    _, arm = server.model(body.model)
    ids = word_ids(arm, body.prompt, "prompt")
    picture = await server.picture(files[0], "image")
    fitted = await asyncio.to_thread(jobs.fitted, arm, picture)
    if (size := body.pixels()) and size != (fitted.width, fitted.height):
        message = f"this picture is edited at {fitted.width}x{fitted.height}; leave size at auto"
        raise ApiError(400, message, "size", "invalid_size")
    return await _pictures(
        server, request, body, "image_edit", arm,
        lambda painting: jobs.edit(arm, fitted, ids, painting),
    )  # fmt: skip


# Chat


async def _messages(server: Server, arm: Arm, body: ChatBody) -> list[jobs.Message]:
    """The turns of a chat. System messages are left out: the models were trained without any."""
    turns: list[jobs.Message] = []
    for i, message in enumerate(body.messages):
        role, said, where = message.get("role"), message.get("content"), f"messages.{i}"
        if role in ("system", "developer"):
            continue
        if role not in ("user", "assistant"):
            raise ApiError(422, "role must be system, user or assistant", f"{where}.role")
        given = said if isinstance(said, list) else []
        if isinstance(said, str) and (said or not message.get("images")):
            given = [{"type": "text", "text": said}]
        elif said is not None and not isinstance(said, str | list):
            raise ApiError(422, "content must be a text or a list of parts", f"{where}.content")
        more = message.get("images") if role == "assistant" else None
        parts: list[Any] = []
        for part in [*given, *(more if isinstance(more, list) else [])]:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                parts.append(word_ids(arm, part["text"], f"{where}.content"))
            elif kind == "image_url":
                content = await server.linked_content(part, f"{where}.content")
                parts.append(await server.picture(content, f"{where}.content"))
            else:
                raise ApiError(422, "a part must be text or image_url", f"{where}.content")
        if not parts:
            raise ApiError(422, "the message is empty", f"{where}.content")
        turns.append(jobs.Message(tuple(parts), role == "assistant"))
        parts_so_far = [part for turn in turns for part in turn.parts]
        texts = [part for part in parts_so_far if isinstance(part, tuple)]
        check_token_count(sum(map(len, texts)), "messages")
        if len(parts_so_far) - len(texts) > MAX_PICTURES:
            raise ApiError(400, f"the chat has more than {MAX_PICTURES} pictures", "messages")
    if not turns or turns[-1].assistant:
        raise ApiError(400, "the last message must be the user's", "messages")
    return turns


async def completions(server: Server, request: Request) -> Response:
    """POST /v1/chat/completions."""
    body = api.validated(ChatBody, api.parse_json(await request.body()))
    body.refuse_unsupported()
    name, arm = server.model(body.model)
    messages = await _messages(server, arm, body)
    try:
        texts = Sampling(body.temperature or 0.0, 0, body.top_p or 1.0)
    except ValueError as error:
        raise ApiError(400, str(error), "temperature") from None
    painting = jobs.Painting(1, random_seed(body.seed), body.guidance_scale, body.num_inference_steps)  # fmt: skip
    most = body.max_completion_tokens or body.max_tokens or 64
    parts_only = body.picture == "always"
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": api.now(), "model": name}

    def procedure(on_text: Callable[[str], None] | None = None) -> Procedure:
        settings = jobs.ChatSettings(body.picture, most, texts, on_text)
        return jobs.chat(arm, messages, settings, painting)

    def links(outcome: jobs.Outcome) -> list[dict[str, Any]]:
        urls = [api.data_url(api.encode_picture(p, "png"), "png") for p in outcome.pictures]
        return [{"type": "image_url", "image_url": {"url": url}} for url in urls]

    def usage(outcome: jobs.Outcome) -> dict[str, int]:
        prompt = outcome.input_text + outcome.input_image
        total = prompt + outcome.output
        return {"prompt_tokens": prompt, "completion_tokens": outcome.output, "total_tokens": total}

    def finish(outcome: jobs.Outcome) -> str:
        return "stop" if outcome.complete else "length"

    if body.stream:
        sent: list[str] = []

        def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return api.server_sent_event({**head, "object": "chat.completion.chunk", "choices": [choice]})  # fmt: skip

        def last(outcome: jobs.Outcome) -> list[str]:
            rest = outcome.text[len("".join(sent)) :]
            events = [chunk({"content": rest})] if rest else []
            if outcome.pictures:
                key = "content" if parts_only else "images"
                events.append(chunk({key: links(outcome)}))
            events.append(chunk({}, finish(outcome)))
            if (body.stream_options or {}).get("include_usage"):
                fields = {"object": "chat.completion.chunk", "choices": [], "usage": usage(outcome)}
                events.append(api.server_sent_event({**head, **fields}))
            return [*events, "data: [DONE]\n\n"]

        def start(post: Callable[[str], None]) -> Procedure:
            def on_text(piece: str) -> None:
                sent.append(piece)
                post(chunk({"content": piece}))

            post(chunk({"role": "assistant", "content": ""}))
            return procedure(on_text)

        return server.stream(arm, start, last)
    outcome = await server.result(request, server.submit(arm, procedure()))
    message: dict[str, Any] = {"role": "assistant", "content": outcome.text}
    if parts_only:
        message["content"] = links(outcome)
    elif outcome.pictures:
        message["images"] = links(outcome)
    choice = {"index": 0, "message": message, "finish_reason": finish(outcome)}
    fields = {"object": "chat.completion", "choices": [choice], "usage": usage(outcome)}
    return JSONResponse({**head, **fields})
