"""OpenAI's request fields, errors and replies. Unknown fields are ignored; wrong types and values are refused."""

import base64
import binascii
import io
import json
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from arm.errors import shown

TYPES = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
"""OpenAI's error types by status; others are "invalid_request_error"."""
MAX_TEXT = 32_000
"""Characters of one text."""
Body = TypeVar("Body", bound=BaseModel)
Format = Literal["png", "jpeg", "webp"]


class ApiError(Exception):
    """An HTTP error in OpenAI's form. param: the field that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error object of the reply."""
        kind = TYPES.get(self.status, "invalid_request_error")
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        }


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    stream: bool | None = False
    guidance_scale: float | None = Field(default=None, ge=-100, le=100)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    negative_prompt: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _flatten_extra_body(cls, data: Any) -> Any:
        """Fields nested in `extra_body` count like flat ones, which take precedence."""
        if isinstance(data, dict) and isinstance(nested := data.get("extra_body"), dict):
            return {**nested, **data}
        return data

    def refuse_unsupported(self) -> None:
        """Raises ApiError for fields that the models cannot follow."""
        if self.negative_prompt:
            message = "the models have no negative prompt; leave negative_prompt out"
            raise ApiError(400, message, "negative_prompt", "unsupported_parameter")


class ImageBody(_Body):
    """Fields of /v1/images/generations."""

    prompt: str = Field(min_length=1, max_length=MAX_TEXT)
    n: int | None = Field(default=1, ge=1, le=10)
    size: str | None = "auto"
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    output_format: Format | None = "png"
    output_compression: int | None = Field(default=100, ge=0, le=100)
    background: Literal["transparent", "opaque", "auto"] | None = "auto"
    quality: str | None = "auto"
    partial_images: int | None = Field(default=0, ge=0, le=3)

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.background == "transparent":
            message = "pictures have no transparency; background must be opaque or auto"
            raise ApiError(400, message, "background", "unsupported_parameter")

    def pixels(self) -> tuple[int, int] | None:
        """(width, height) of `size`; None for "auto"."""
        if self.size in (None, "auto"):
            return None
        width, _, height = self.size.partition("x")
        if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()) or len(self.size) > 16:  # fmt: skip
            raise ApiError(400, 'size must be "auto" or WIDTHxHEIGHT, as "56x56"', "size")
        return int(width), int(height)

    def fields(self, picture: Pillow.Image) -> dict[str, Any]:
        """What replies and events repeat of the request, with the size of the picture."""
        return {
            "size": f"{picture.width}x{picture.height}",
            "quality": "auto",
            "background": "opaque",
            "output_format": self.output_format or "png",
        }

    def encoded(self, picture: Pillow.Image) -> str:
        """The picture's file in the format asked for, in base64."""
        kind = self.output_format or "png"
        quality = 100 if self.output_compression is None else self.output_compression
        return encode_picture(picture, kind, quality)


class EditBody(ImageBody):
    """Fields of /v1/images/edits, but for the pictures of a form."""

    images: list[dict[str, Any]] | None = None
    mask: Any = None

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.mask is not None:
            message = "masks are not supported yet; leave mask out"
            raise ApiError(400, message, "mask", "unsupported_parameter")


class ChatBody(_Body):
    """Fields of /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=256)
    modalities: list[Literal["text", "image"]] | None = None
    n: int | None = Field(default=1, ge=1, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stream_options: dict[str, Any] | None = None

    @property
    def picture(self) -> str:
        """Whether the answer has a picture: "always" and "never" as `modalities` says, else "model"."""
        if self.modalities and len(set(self.modalities)) == 1:
            return {"image": "always", "text": "never"}[self.modalities[0]]
        return "model"


def parse_json(content: bytes) -> Any:
    """A JSON body. Raises ApiError 400 for what is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = shown(str(error)) if isinstance(error, ValueError) else "nested too deeply"
        raise ApiError(400, f"the body is no JSON ({reason})", code="invalid_json") from None


def validated(kind: type[Body], data: Any, strict: bool = True) -> Body:
    """The body as its model. Raises ApiError 422 that names the first field at fault.

    strict: of JSON; the fields of a form are texts, which are converted.
    """
    try:
        return kind.model_validate(data, strict=strict)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(map(str, first["loc"])) or None
        where = f"{param}: " if param else ""
        raise ApiError(422, f"{where}{first['msg']}", param, first["type"]) from None


def encode_picture(picture: Pillow.Image, kind: Format, quality: int = 100) -> str:
    """A picture's file in base64. quality: 0 to 100, of JPEG and WebP."""
    file = io.BytesIO()
    options = {} if kind == "png" else {"quality": quality}
    picture.save(file, kind.upper(), **options)
    return base64.b64encode(file.getvalue()).decode("ascii")


def data_url(encoded: str, kind: str) -> str:
    """A base64 file as a data: URL."""
    return f"data:image/{kind};base64,{encoded}"


def decode_data_url(url: str, param: str) -> bytes:
    """The bytes of a data: URL in base64. Raises ApiError for others, and for broken base64."""
    header, comma, content = url.partition(",")
    if not comma or not header.endswith(";base64"):
        raise ApiError(400, "a data: URL must read data:image/png;base64,...", param)
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "the base64 of the data: URL is broken", param) from None


def usage_of_pictures(text: int, image: int, output: int) -> dict[str, Any]:
    """The usage object of the image routes."""
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }


def server_sent_event(data: Any, name: str | None = None) -> str:
    """One event, ready to be sent."""
    return (
        f"event: {name}\ndata: {json.dumps(data)}\n\n" if name else f"data: {json.dumps(data)}\n\n"
    )


def now() -> int:
    """Seconds since 1970, as `created` fields have them."""
    return int(time.time())
