"""SVG -> pixels by resvg, and what is measured on the pixels: ink, 16x16 ink grids, and how two pictures differ.

Shapes: N icons, S x S pixels. Ink is 0 for white paper and 1 for black.
"""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from arm.errors import ConfigError, InputError, shown
from arm.icons.package import UNSAFE_SVG

MAX_SVG_BYTES = 2**18
MAX_SIDE = 1024
MIN_COVERED, MAX_COVERED = 0.012, 0.85
"""The share of ink outside of which a picture counts as empty or as full."""
GRID = 16
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Pixels = UInt8[np.ndarray, "n s s c"]
Ink = Float[np.ndarray, "s s"]


@dataclass(frozen=True, eq=False)
class RenderedSet:
    """names: of the N icons. pixels: (N, S, S, 1) grey, or (N, S, S, 3) of a set with colours. grids: (N, 256)."""

    names: tuple[str, ...]
    pixels: Pixels
    grids: UInt8[np.ndarray, "n 256"]
    refused: Counter[str]


def render_svg(svg: str, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """The picture of an SVG on white. Raises InputError where it is unsafe, too large, or cannot be drawn.

    Scripts, text, pictures and references to anything outside of the SVG are refused before resvg sees them.
    """
    try:
        import resvg_py
    except ModuleNotFoundError:
        raise ConfigError(
            "icons are rendered by resvg; install it with pip install 'arm-lmm[icons]'"
        ) from None
    if len(svg) > MAX_SVG_BYTES:
        raise InputError(f"the SVG has {len(svg):,} characters, and may have {MAX_SVG_BYTES:,}")
    if not 1 <= size <= MAX_SIDE:
        raise InputError(f"an icon is rendered at 1 to {MAX_SIDE} pixels, not {size}")
    if match := UNSAFE_SVG.search(svg):
        raise InputError(
            f"the SVG has {shown(repr(match[0]))}; only shapes drawn by the SVG itself are rendered"
        )
    try:
        data = resvg_py.svg_to_bytes(
            svg_string=svg, width=size, height=size, skip_system_fonts=True
        )
    except ValueError as error:
        raise InputError(f"the SVG cannot be rendered ({shown(str(error))})") from None
    image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    if image.size != (size, size):
        square = Image.new("RGBA", (size, size))
        square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = square
    pixels = np.asarray(image, dtype=np.uint16)
    alpha = pixels[..., 3:]
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def render_set(svgs: Mapping[str, str], size: int, colour: bool) -> RenderedSet:
    """Renders the icons of a set; those that fail, or are nearly empty or full, are left out and counted."""
    names, pictures, grids, refused = [], [], [], Counter[str]()
    for name, svg in svgs.items():
        try:
            picture = render_svg(svg, size)
        except InputError:
            refused["cannot be rendered"] += 1
            continue
        ink = ink_of(picture)
        covered = float((ink > 0.08).mean() if colour else ink.mean())
        if covered < MIN_COVERED or (covered > MAX_COVERED and not colour):
            refused["empty or full"] += 1
            continue
        names.append(name)
        pictures.append(picture if colour else np.rint(255 - 255 * ink).astype(np.uint8)[..., None])
        grids.append(ink_grid(ink))
    channels = 3 if colour else 1
    return RenderedSet(
        tuple(names),
        np.stack(pictures) if pictures else np.zeros((0, size, size, channels), np.uint8),
        np.stack(grids) if grids else np.zeros((0, GRID * GRID), np.uint8),
        refused,
    )


def ink_of(picture: UInt8[np.ndarray, "s s c"]) -> Ink:
    """The ink of a grey or a colour picture, in [0, 1]."""
    values = picture.astype(np.float32)
    grey = values[..., 0] if picture.shape[-1] == 1 else values @ LUMA
    return 1 - grey / 255


def coverage_of(picture: UInt8[np.ndarray, "s s c"]) -> Ink:
    """How far each pixel is from white in its strongest channel, in [0, 1]: for colours that are as light as paper."""
    return 1 - picture.min(axis=-1).astype(np.float32) / 255


def ink_grid(ink: Ink) -> UInt8[np.ndarray, " 256"]:
    """The ink of the square around a picture's contents, as 16 x 16 means in [0, 255], row by row.

    It does not depend on where an icon lies in its picture nor on its size, so that redrawn copies are alike.
    """
    marked = ink > 40 / 255
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    if not len(rows):
        return np.zeros(GRID * GRID, np.uint8)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    half = max(bottom - top, right - left) / 2
    y, x, size = (top + bottom) / 2, (left + right) / 2, len(ink)
    box = (max(0, x - half), max(0, y - half), min(size, x + half), min(size, y + half))
    image = Image.fromarray(np.rint(ink * 255).astype(np.uint8))
    method = Image.Resampling.BOX if half >= 24 else Image.Resampling.BILINEAR
    return np.asarray(image.resize((GRID, GRID), method, box=box)).reshape(-1)


def tint(picture: UInt8[np.ndarray, "s s c"], colour: tuple[int, int, int]) -> Pixels:
    """A grey picture as it looks where `currentColor` is another colour than black, (S, S, 3)."""
    ink = ink_of(picture)[..., None]
    return np.rint(255 * (1 - ink) + np.array(colour, np.float32) * ink).astype(np.uint8)


@dataclass(frozen=True)
class Change:
    """How a target differs from its source. visible: the largest mean change of a cell of a 16 x 16 grid; kept: the
    share of the source's ink that the target has within a pixel; held: the share of the target's ink that the source
    has. All are in [0, 1].
    """

    visible: float
    kept: float
    held: float


def change_between(source: Ink, target: Ink) -> Change:
    """Compares two pictures of one size, a multiple of 16."""
    cell = len(source) // GRID
    difference = np.abs(source - target)
    cells = difference.reshape(GRID, cell, GRID, cell).mean((1, 3))

    def share(ink: Ink, other: Ink) -> float:
        return float(np.minimum(ink, _widened(other)).sum() / max(float(ink.sum()), 1e-3))

    return Change(float(cells.max()), share(source, target), share(target, source))


def _widened(ink: Ink) -> Ink:
    """The largest ink of a pixel and its neighbours in 3 x 3."""
    rows = ink.copy()
    rows[1:] = np.maximum(rows[1:], ink[:-1])
    rows[:-1] = np.maximum(rows[:-1], ink[1:])
    wide = rows.copy()
    wide[:, 1:] = np.maximum(wide[:, 1:], rows[:, :-1])
    wide[:, :-1] = np.maximum(wide[:, :-1], rows[:, 1:])
    return wide


def framed_sides(ink: Ink) -> int:
    """On how many of the four sides ink lies along the middle third of the edge of an icon's contents."""
    rows, columns = np.flatnonzero(ink.max(1) > 0.3), np.flatnonzero(ink.max(0) > 0.3)
    if len(rows) < 8 or len(columns) < 8:
        return 0
    inner = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    y, x = inner.shape[0] // 3, inner.shape[1] // 3
    edge = max(1, 3 * len(ink) // 64)
    edges = (inner[:edge, x:-x], inner[-edge:, x:-x], inner[y:-y, :edge], inner[y:-y, -edge:])
    return sum(float(part.mean()) > 0.3 for part in edges)


def runs_diagonally(source: Ink, target: Ink) -> bool:
    """Whether two pictures differ in two opposite quarters, as by a stroke through the icon."""
    cell = len(source) // 8
    changed = np.abs(source - target).reshape(8, cell, 8, cell).mean((1, 3)) > 0.06
    falling = changed[:4, :4].any() and changed[4:, 4:].any()
    return bool(falling or (changed[:4, 4:].any() and changed[4:, :4].any()))


def png_bytes(picture: UInt8[np.ndarray, "s s c"]) -> bytes:
    """A picture as PNG, grey where it has one channel."""
    out = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(
        out, "PNG", compress_level=6
    )
    return out.getvalue()


def sheet(rows: Iterable[Iterable[np.ndarray]], gap: int = 4) -> UInt8[np.ndarray, "h w 3"]:
    """Pictures of one size side by side, row by row, on light grey. The first row is the longest."""
    table = [[p if p.shape[-1] == 3 else np.repeat(p, 3, 2) for p in row] for row in rows]
    size = len(table[0][0]) + gap
    page = np.full((len(table) * size + gap, len(table[0]) * size + gap, 3), 225, np.uint8)
    for y, row in enumerate(table):
        for x, picture in enumerate(row):
            top, left = gap + y * size, gap + x * size
            page[top : top + size - gap, left : left + size - gap] = picture
    return page
