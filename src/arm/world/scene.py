"""Scenes: what a picture of the world holds, as plain data.

Geometry is in units; one unit is one pixel at scale 1. `x` grows to the right and `y` downwards.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import Any

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
