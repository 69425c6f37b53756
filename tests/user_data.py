"""Users' data for tests: one record of each task, and small pictures told apart by their colour."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

COLORS = {"red.png": (255, 0, 0), "green.png": (0, 255, 0), "blue.png": (0, 0, 255)}


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | more


TEXT = {"messages": [turn("assistant", "grass is green")]}
UNDERSTANDING = {
    "messages": [turn("user", "<image>\nwhat color is it?"), turn("assistant", "red")],
    "images": ["red.png"],
}
DRAWING = {
    "messages": [turn("user", "a green square"), turn("assistant", "<image>")],
    "images": ["green.png"],
}
EDITING = {
    "messages": [turn("user", "<image> make it blue"), turn("assistant", "<image>", weight=0.5)],
    "images": ["red.png", "blue.png"],
    "image_loss": [True, None],
    "id": "edit-1",
}
INTERLEAVED = {
    "messages": [turn("assistant", "first <image> then <image> at last")],
    "images": ["green.png", "red.png"],
}
SHORT = {"image": "blue.png", "text": "a blue square"}
RECORDS: list[dict[str, Any]] = [TEXT, UNDERSTANDING, DRAWING, EDITING, INTERLEAVED, SHORT]
TASKS = ["text", "understanding", "drawing", "editing", "interleaved", "drawing"]


def png(name: str, size: tuple[int, int] = (8, 8)) -> bytes:
    """The bytes of one of COLORS."""
    file = BytesIO()
    Image.new("RGB", size, COLORS[name]).save(file, "PNG")
    return file.getvalue()


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A video whose frame n is grey of 8 * n (modulo 256), in the container that the name ends in."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for n in range(frames):
            grey = 8 * n % 256
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (grey, grey, grey)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in COLORS:
        (folder / name).write_bytes(png(name))


def write_jsonl(path: Path, records: Sequence[Any] = RECORDS) -> Path:
    """The records, with the pictures beside them."""
    write_pictures(path.parent)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
