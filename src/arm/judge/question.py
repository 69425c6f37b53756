"""What a judge is told: words and pictures, hashed without being encoded.

A picture is sent as PNG, never JPEG, and small ones are enlarged. Encoding a megapixel takes far longer than
hashing its pixels, so only what is really asked gets encoded.
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
    """A picture before a judge; many questions may share one, and it is hashed and encoded once."""

    def __init__(self, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        self.picture = picture
        self._parts: dict[int, dict[str, Any]] = {}
        self._lock = Lock()

    @cached_property
    def digest(self) -> str:
        """Of the pixels and their shape."""
        found = hashlib.sha256(repr(self.picture.shape).encode())
        found.update(np.ascontiguousarray(self.picture).tobytes())
        return found.hexdigest()

    def part(self, min_side: int) -> dict[str, Any]:
        """As a part of a message."""
        with self._lock:
            if min_side not in self._parts:
                data = base64.b64encode(png(self.picture, min_side)).decode()
                url = {"url": f"data:image/png;base64,{data}"}
                self._parts[min_side] = {"type": "image_url", "image_url": url}
            return self._parts[min_side]


@dataclass(frozen=True, eq=False)
class Question:
    """A text, the pictures after it in their order, and what makes a reply readable. `rules`: what the
    judge is told before, as a system message.
    """

    text: str
    readable: Callable[[str], bool]
    exhibits: tuple[Exhibit, ...] = ()
    rules: str | None = None

    def messages(self, min_side: int) -> Messages:
        """As the chat API takes it."""
        parts = [exhibit.part(min_side) for exhibit in self.exhibits]
        told = {"role": "user", "content": [{"type": "text", "text": self.text}, *parts]}
        return [told] if self.rules is None else [{"role": "system", "content": self.rules}, told]

    def key(self, model: str, min_side: int, asking: Asking) -> str:
        """The hash of a model, all that it is shown, and how it is asked as far as a whole reply depends on it."""
        pictures = [exhibit.digest for exhibit in self.exhibits]
        parts: list[Any] = [model, self.rules, self.text, pictures, min_side]
        if (asking.temperature, asking.thinking) != (0.0, None):
            parts += [asking.temperature, asking.thinking]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
