"""Scenes: what a picture of the world holds, as plain data.

Geometry is in units; one unit is one pixel at scale 1. `x` grows to the right and `y` downwards.

The renderer makes an antialiased RGB picture of a scene. A thing is a coverage mask (what share of each pixel it
covers), made by supersampling an implicit shape on the frame [-1, 1]^2, cached by shape, size and sub-pixel phase,
and blended over the background. Positions are on a half-unit raster, so few masks serve every scene.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

SHAPES = (
    "circle", "square", "triangle", "diamond", "star", "cross",
    "ring", "heart", "moon", "arrow", "hourglass", "arch",
)  # fmt: skip
COLORS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
SIZES = ("small", "large")
PATTERNS = ("plain", "striped")
BACKGROUNDS = ("white", "gray", "cream", "sky")

RADIUS = {"small": 7.5, "large": 10.5}
"""Half the side of a thing's frame, in units."""

MAX_THINGS = 4
POSITION_TOLERANCE = 4.0
"""Two positions count as the same when neither coordinate differs by more units than this."""

RELATIONS = ("left of", "right of", "above", "below")
RELATION_MARGIN = 8.0
"""A relation holds when the centres differ by at least this many units along its axis."""

REGIONS = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One object: its kind, colour, size and pattern, and the centre of its frame in units."""

    shape: str
    color: str
    size: str
    pattern: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        return RADIUS[self.size]

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """Everything but the position."""
        return self.shape, self.color, self.size, self.pattern


@dataclass(frozen=True)
class Scene:
    """1 to 4 things that do not touch, on a plain background. `height`, `width` in units."""

    things: tuple[Thing, ...]
    background: str
    height: int
    width: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Scene":
        things = tuple(Thing(**thing) for thing in data["things"])
        return cls(things, data["background"], data["height"], data["width"])

    def with_thing(self, index: int, **changes: Any) -> "Scene":
        things = list(self.things)
        things[index] = replace(things[index], **changes)
        return replace(self, things=tuple(things))

    def without(self, index: int) -> "Scene":
        return replace(self, things=self.things[:index] + self.things[index + 1 :])


def apart(a: Thing, b: Thing, gap: float = 1.5) -> bool:
    """Whether the two frames leave at least `gap` units between them along one axis."""
    return max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + gap


def fits(thing: Thing, others: Sequence[Thing], height: int, width: int) -> bool:
    """Whether the thing lies inside the picture (one unit of margin) and touches nothing."""
    edge = thing.radius + 1
    inside = edge <= thing.x <= width - edge and edge <= thing.y <= height - edge
    return inside and all(apart(thing, other) for other in others)


def region(x: float, y: float, height: int, width: int) -> str:
    """The name of the ninth of the picture that holds the point."""
    column = min(int(3 * x / width), 2)
    row = min(int(3 * y / height), 2)
    return REGIONS[3 * row + column]


def in_region(x: float, y: float, name: str, height: int, width: int, slack: float) -> bool:
    """Whether the point lies in the named ninth, or at most `slack` units outside it."""
    row, column = divmod(REGIONS.index(name), 3)
    return (
        column * width / 3 - slack <= x <= (column + 1) * width / 3 + slack
        and row * height / 3 - slack <= y <= (row + 1) * height / 3 + slack
    )


def holds(a: Any, relation: str, b: Any, margin: float = RELATION_MARGIN) -> bool:
    """Whether `a` stands in the relation to `b`; both have `x` and `y`.

    The named axis must be the dominant one, so at most one relation holds for a pair.
    """
    dx, dy = b.x - a.x, b.y - a.y
    along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    across = dy if relation in ("left of", "right of") else dx
    return along >= margin and along >= abs(across)


def relation_of(a: Any, b: Any) -> str | None:
    """The relation in which `a` stands to `b`, or None where none is clear."""
    return next((relation for relation in RELATIONS if holds(a, relation, b)), None)


def near(a: Any, b: Any, tolerance: float = POSITION_TOLERANCE) -> bool:
    return abs(a.x - b.x) <= tolerance and abs(a.y - b.y) <= tolerance


def same_scene(a: Any, b: Any, tolerance: float = POSITION_TOLERANCE) -> bool:
    """Whether two scenes (or a scene and a reading of one) agree in every thing and background."""
    if a.background != b.background or len(a.things) != len(b.things):
        return False
    return any(
        all(
            p.kind == q.kind and near(p, q, tolerance) for p, q in zip(a.things, order, strict=True)
        )
        for order in permutations(b.things)
    )


PALETTE = {
    "red": (226, 60, 62),
    "orange": (245, 146, 44),
    "yellow": (246, 206, 52),
    "green": (70, 168, 86),
    "teal": (36, 176, 180),
    "blue": (56, 106, 218),
    "purple": (140, 80, 194),
    "pink": (244, 130, 182),
}
BACKGROUND_PALETTE = {
    "white": (250, 250, 248),
    "gray": (206, 209, 216),
    "cream": (250, 234, 204),
    "sky": (196, 224, 250),
}
STRIPE_SHADE = 0.52
"""A striped thing alternates its colour with the colour times this factor."""

SUPERSAMPLING = 8
Implicit = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]


def _polygon(points: Sequence[tuple[float, float]]) -> Implicit:
    """Even-odd test against a closed polygon."""

    def inside(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
        result = np.zeros(u.shape, dtype=bool)
        for (u0, v0), (u1, v1) in zip(points, [*points[1:], points[0]], strict=True):
            crosses = (v0 > v) != (v1 > v)
            with np.errstate(divide="ignore", invalid="ignore"):
                edge = (u1 - u0) * (v - v0) / (v1 - v0) + u0
            result ^= crosses & (u < edge)
        return result

    return inside


def _star_points() -> list[tuple[float, float]]:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.05, 0.46)
    return [
        (float(r * np.cos(a)), float(r * np.sin(a)) + 0.06)
        for r, a in zip(radii, angles, strict=True)
    ]


def _heart(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    x, y = 1.18 * u, -1.18 * v + 0.1
    return (x * x + y * y - 1) ** 3 - x * x * y**3 <= 0


def _arch(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    def gate(r: float) -> NDArray[np.bool_]:
        return np.where(v <= 0, u * u + v * v <= r * r, (np.abs(u) <= r) & (v <= 0.95))

    return gate(0.98) & ~gate(0.42)


IMPLICIT: dict[str, Implicit] = {
    "circle": lambda u, v: u * u + v * v <= 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.88,
    "triangle": _polygon([(0, -1), (1, 0.88), (-1, 0.88)]),
    "diamond": lambda u, v: np.abs(u) / 0.8 + np.abs(v) <= 1,
    "star": _polygon(_star_points()),
    "cross": lambda u, v: (
        (np.minimum(np.abs(u), np.abs(v)) <= 0.3) & (np.maximum(np.abs(u), np.abs(v)) <= 1)
    ),
    "ring": lambda u, v: (u * u + v * v <= 1) & (u * u + v * v >= 0.52**2),
    "heart": _heart,
    "moon": lambda u, v: (u * u + v * v <= 1) & ((u - 0.58) ** 2 + v * v >= 0.78**2),
    "arrow": _polygon(
        [(-1, -0.32), (0, -0.32), (0, -0.95), (1, 0), (0, 0.95), (0, 0.32), (-1, 0.32)]
    ),
    "hourglass": lambda u, v: (np.abs(v) <= 0.95) & (np.abs(u) <= 0.1 + 0.8 * np.abs(v)),
    "arch": _arch,
}


@lru_cache(maxsize=4096)
def masks(
    shape: str, size: str, phase_x: float, phase_y: float, scale: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coverage of a thing and of its dark stripes, each (S, S) in [0, 1].

    The frame's centre lies `phase` pixels (in [0, 1)) right of and below the patch's centre pixel
    corner, that is at pixel coordinate S // 2 + phase.
    """
    radius = RADIUS[size] * scale
    half = int(np.ceil(radius)) + 2
    n = SUPERSAMPLING
    coordinates = (np.arange(2 * half * n) + 0.5) / n - half
    u = ((coordinates - phase_x) / radius)[None, :].repeat(2 * half * n, 0)
    v = ((coordinates - phase_y) / radius)[:, None].repeat(2 * half * n, 1)
    inside = IMPLICIT[shape](u, v)
    dark = inside & (np.abs(np.abs(v) - 0.42) <= 0.25)

    def pool(area: NDArray[np.bool_]) -> NDArray[np.float32]:
        return area.reshape(2 * half, n, 2 * half, n).mean((1, 3)).astype(np.float32)

    return pool(inside), pool(dark)


def _paste(canvas_HW3: NDArray[np.float32], thing: Thing, scale: int) -> None:
    px, py = thing.x * scale, thing.y * scale
    column, row = int(np.floor(px)), int(np.floor(py))
    phase_x, phase_y = (round(2 * (p - np.floor(p))) / 2 for p in (px, py))
    cover, dark = masks(thing.shape, thing.size, phase_x, phase_y, scale)
    half = cover.shape[0] // 2
    height, width = canvas_HW3.shape[:2]
    top, left = max(row - half, 0), max(column - half, 0)
    bottom, right = min(row + half, height), min(column + half, width)
    if bottom <= top or right <= left:
        return
    window = np.s_[
        top - row + half : bottom - row + half, left - column + half : right - column + half
    ]
    alpha = cover[window][..., None]
    color = np.asarray(PALETTE[thing.color], dtype=np.float32)
    paint = alpha * color
    if thing.pattern == "striped":
        paint = paint - (1 - STRIPE_SHADE) * dark[window][..., None] * color
    area = canvas_HW3[top:bottom, left:right]
    area *= 1 - alpha
    area += paint


def render_float(scene: Scene, scale: int = 1) -> Float[np.ndarray, "h w 3"]:
    """The picture in [0, 255] before rounding, (height * scale, width * scale, 3)."""
    canvas = np.empty((scene.height * scale, scene.width * scale, 3), dtype=np.float32)
    canvas[:] = BACKGROUND_PALETTE[scene.background]
    for thing in scene.things:
        _paste(canvas, thing, scale)
    return canvas


def render(scene: Scene, scale: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a scene, uint8 RGB, `scale` pixels to a unit."""
    return np.rint(render_float(scene, scale)).astype(np.uint8)
