"""A sheet of pictures with named rows and columns, for figures."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

Picture = UInt8[np.ndarray, "h w 3"]
INK, PAPER = (40, 44, 48), (255, 255, 255)
RIGHT, WRONG = (24, 121, 78), (196, 48, 43)
GAP = 10


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters; a longer word has a line of its own."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def sheet(
    rows: Sequence[Sequence[Picture]],
    titles: Sequence[str] = (),
    columns: Sequence[str] = (),
    right: Sequence[Sequence[bool | None]] = (),
    scale: int = 3,
    margin: int = 200,
) -> Image.Image:
    """Rows of pictures of one size, enlarged without smoothing; a row may be shorter than others.

    titles: left of each row, in a margin of so many pixels; columns: above each column; right: a green or
    red frame around each picture, None for none.
    """
    height, width = (side * scale + GAP for side in rows[0][0].shape[:2])
    font = ImageFont.load_default(15)
    left, top = (margin if titles else 0), (28 if columns else 0)
    widest = max(map(len, rows))
    canvas = Image.new("RGB", (left + widest * width + GAP, top + len(rows) * height + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    for c, name in enumerate(columns):
        draw.text(
            (left + GAP + c * width + (width - GAP) // 2, top // 2 + 2), name, INK, font, "mm"
        )
    for r, row in enumerate(rows):
        y = top + GAP + r * height
        if titles:
            place = (10, y + (height - GAP) // 2)
            draw.multiline_text(place, wrapped(titles[r], margin // 8), INK, font, "lm")
        for c, picture in enumerate(row):
            x = left + GAP + c * width
            size = picture.shape[1] * scale, picture.shape[0] * scale
            canvas.paste(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST), (x, y))
            verdict = right[r][c] if right else None
            if verdict is not None:
                frame = (x - 3, y - 3, x + size[0] + 2, y + size[1] + 2)
                draw.rectangle(frame, outline=RIGHT if verdict else WRONG, width=3)
    return canvas
