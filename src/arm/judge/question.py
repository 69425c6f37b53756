"""A question to a judge: text and pictures, hashed without encoding the pictures.

A picture is sent as PNG, never JPEG, and small ones are enlarged. Encoding a megapixel takes far longer than
hashing its pixels, so only the pictures of questions that are sent are encoded.
"""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from arm.judge.asking import Asking

Messages = list[dict[str, Any]]


def png(picture: UInt8[np.ndarray, "h w 3"], min_side: int) -> bytes:
    """A picture as PNG, enlarged by a whole factor until its shorter side has `min_side` pixels."""
    factor = -(-min_side // min(picture.shape[:2]))
    out = io.BytesIO()
    Pillow.fromarray(picture.repeat(factor, 0).repeat(factor, 1)).save(out, "PNG")
    return out.getvalue()


class Exhibit:
    """A picture that a judge is shown; several questions may share one, which is hashed and encoded once."""

    def __init__(self, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        self.picture = picture
        self._parts: dict[int, dict[str, Any]] = {}
        self._lock = Lock()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the shape and the pixels, in hexadecimal."""
        digest = hashlib.sha256(repr(self.picture.shape).encode())
        digest.update(np.ascontiguousarray(self.picture).tobytes())
        return digest.hexdigest()

    def part(self, min_side: int) -> dict[str, Any]:
        """The picture as a part of a chat message, enlarged to at least `min_side` pixels a side."""
        with self._lock:
            if min_side not in self._parts:
                data = base64.b64encode(png(self.picture, min_side)).decode()
                url = {"url": f"data:image/png;base64,{data}"}
                self._parts[min_side] = {"type": "image_url", "image_url": url}
            return self._parts[min_side]


@dataclass(frozen=True, eq=False)
class Question:
    """A text and the pictures after it, in order. readable: whether a reply has the form that is asked for.
    rules: a system message before the question.
    """

    text: str
    readable: Callable[[str], bool]
    exhibits: tuple[Exhibit, ...] = ()
    rules: str | None = None

    def messages(self, min_side: int) -> Messages:
        """The question as messages of the chat API."""
        pictures = [exhibit.part(min_side) for exhibit in self.exhibits]
        user = {"role": "user", "content": [{"type": "text", "text": self.text}, *pictures]}
        return [user] if self.rules is None else [{"role": "system", "content": self.rules}, user]

    def key(self, model: str, min_side: int, asking: Asking) -> str:
        """The SHA-256 of the model, everything it is shown, temperature and thinking. The token limit is not in it,
        since a reply that was cut is not kept.
        """
        pictures = [exhibit.digest for exhibit in self.exhibits]
        parts: list[Any] = [model, self.rules, self.text, pictures, min_side]
        if (asking.temperature, asking.thinking) != (0.0, None):
            parts += [asking.temperature, asking.thinking]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
