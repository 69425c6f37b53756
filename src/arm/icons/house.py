"""The house set: icons drawn by this file, in a look of their own and in no training, for demos and documents.

Its look: strokes of 1.8 on a grid of 24, no curve at all, every corner cut at 45 degrees, butt ends. Each thing has true
variants: outlined, filled, with a sign, struck through, and in an octagon.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from arm.icons.package import wrap_svg

STROKE = 1.8
GAP = 1.5
"""Free space around signs and slashes."""


@dataclass(frozen=True)
class Drawing:
    """Polygons and lines as points "x,y x,y". body: closed, filled in the filled variant; details: lines within the
    body, cut out of the filled one; lines: outside of it, always strokes.
    """

    body: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def box(left: float, top: float, right: float, bottom: float, cut: float = 2) -> str:
    """A rectangle with cut corners."""
    points = (
        (left + cut, top),
        (right - cut, top),
        (right, top + cut),
        (right, bottom - cut),
        (right - cut, bottom),
        (left + cut, bottom),
        (left, bottom - cut),
        (left, top + cut),
    )
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def octagon(x: float, y: float, radius: float) -> str:
    return box(x - radius, y - radius, x + radius, y + radius, round(radius * 0.586, 2))


THINGS = {
    "bell": Drawing(("9,4 15,4 18,7 18,14 20,17 4,17 6,14 6,7",), (), ("9,20 15,20", "12,2 12,4")),
    "home": Drawing(("12,3 21,11 19,13 19,21 5,21 5,13 3,11",), ("10,21 10,15 14,15 14,21",)),
    "mail": Drawing((box(3, 5, 21, 19),), ("5,8 12,13 19,8",)),
    "folder": Drawing(("5,5 10,5 12,8 19,8 21,10 21,17 19,19 5,19 3,17 3,7",), ("3,11.5 21,11.5",)),
    "file": Drawing(
        ("5,3 13,3 19,9 19,21 5,21",), ("13,3 13,9 19,9", "8,14 16,14", "8,17.5 13,17.5")
    ),
    "picture": Drawing((box(3, 4, 21, 20),), ("3,17 8,12 12,16 16,11 21,16", "7,8 9,8")),
    "camera": Drawing(
        ("8,6 9,4 15,4 16,6 19,6 21,8 21,18 19,20 5,20 3,18 3,8 5,6",), (octagon(12, 13, 3.4),)
    ),
    "heart": Drawing(("7,4 10,4 12,6.5 14,4 17,4 21,8 21,11 12,20.5 3,11 3,8",)),
    "star": Drawing(
        ("12,2.5 14.8,9 21.5,9.3 16.5,13.8 18.2,20.8 12,17 5.8,20.8 7.5,13.8 2.5,9.3 9.2,9",)
    ),
    "person": Drawing((octagon(12, 7.5, 4.3), "8,14.5 16,14.5 20,18 20,21 4,21 4,18")),
    "lock": Drawing(
        (box(5, 11, 19, 21),), ("12,14.5 12,17.5",), ("8,11 8,6 10,3.5 14,3.5 16,6 16,11",)
    ),
    "key": Drawing(
        (octagon(8, 8, 4.6),),
        ("7,7 9,9",),
        ("11.5,11.5 20,20", "16,16 18.5,13.5", "19,19 21.5,16.5"),
    ),
    "bookmark": Drawing(("8,3 16,3 18,5 18,21 12,16 6,21 6,5",), ("9.5,8 14.5,8",)),
    "calendar": Drawing(
        (box(4, 5, 20, 21),),
        ("4,10 20,10", "8,14 11,14", "13,17.5 16,17.5"),
        ("8,2.5 8,6.5", "16,2.5 16,6.5"),
    ),
    "clock": Drawing((octagon(12, 12, 9),), ("12,6.5 12,12.5 16,15.5",)),
    "cart": Drawing(
        ("6,7 21,7 19,15 8,15",),
        ("12.5,10 12.5,12.5", "16,10 16,12.5"),
        ("2,4 5,4 8,18.5 19,18.5", "9,21.5 11,21.5", "16,21.5 18,21.5"),
    ),
    "gift": Drawing(
        ("3,8 21,8 21,12 19,12 19,21 5,21 5,12 3,12",),
        ("12,8 12,21", "5,12 19,12"),
        ("12,8 8,3 6,5.5 9,8", "12,8 16,3 18,5.5 15,8"),
    ),
    "cup": Drawing(
        ("4,8 16,8 16,16 13,20 7,20 4,16",),
        ("7,12 13,12",),
        ("16,10 20,10 20,15 16,15", "8,5.5 8,3", "12,5.5 12,3"),
    ),
    "lamp": Drawing(("8,3 16,3 20,12 4,12",), ("9,8 15,8",), ("12,12 12,20", "7,20.5 17,20.5")),
    "leaf": Drawing(("20,4 20,12 15,18 8,18 6,16 6,9 12,4",), ("16,8 6,18",), ("6,18 3.5,20.5",)),
    "tree": Drawing(
        ("12,2.5 18,10 15.5,10 20,17 4,17 8.5,10 6,10",), ("12,9 12,13",), ("12,17 12,22",)
    ),
    "cloud": Drawing(("7,18.5 4,16 4,12.5 7,10 9,6.5 14,6.5 17,9.5 20,12 20,16 18,18.5",)),
    "sun": Drawing(
        (octagon(12, 12, 4.3),),
        (),
        (
            "12,2 12,5",
            "12,19 12,22",
            "2,12 5,12",
            "19,12 22,12",
            "5,5 7,7",
            "17,17 19,19",
            "5,19 7,17",
            "17,7 19,5",
        ),
    ),
    "moon": Drawing(("14,3 10,7 10,12 14,16 20,16 16,20.5 9,20.5 4,16 4,8 9,3",), ("7,11 7,14",)),
    "umbrella": Drawing(
        ("12,3 17,5 21,12 3,12 7,5",), ("9,12 12,7 15,12",), ("12,12 12,19 14,21 17,19",)
    ),
    "drop": Drawing(("12,2.5 18,10 19,15 16,20 12,21.5 8,20 5,15 6,10",), ("9,15 12,18",)),
    "flag": Drawing(("6,4 20,4 16.5,9 20,14 6,14",), (), ("6,2.5 6,22",)),
    "pin": Drawing(("9,3 15,3 19,7 19,12 12,21.5 5,12 5,7",), (octagon(12, 9.5, 2.4),)),
    "car": Drawing(
        ("7,5 17,5 19,11 21,13 21,18 3,18 3,13 5,11",),
        ("6,11 18,11", "6,14.5 8.5,14.5", "15.5,14.5 18,14.5"),
        ("6,18 6,21", "18,18 18,21"),
    ),
    "truck": Drawing(
        ("2,6 14,6 14,17 2,17", "14,10 18,10 22,14 22,17 14,17"), (), ("5,20 9,20", "15,20 19,20")
    ),
    "rocket": Drawing(
        ("12,2 16,7 16,16 8,16 8,7",),
        (octagon(12, 9.5, 1.7),),
        ("8,12 4,16 4,19 8,16", "16,12 20,16 20,19 16,16", "12,18 12,22"),
    ),
    "book": Drawing(("7,3 19,3 19,21 7,21 5,19 5,5",), ("5,17 19,17", "9.5,7.5 15,7.5")),
    "pencil": Drawing(("16,3 21,8 9,20 3,21 4,15",), ("13,6 18,11",)),
    "bin": Drawing(
        ("6,7 18,7 17,21 7,21",),
        ("10,11 10.3,17.5", "14,11 13.7,17.5"),
        ("3.5,7 20.5,7", "9,6.5 10,3.5 14,3.5 15,6.5"),
    ),
    "magnifier": Drawing((octagon(10, 10, 7),), ("7,9 9,7",), ("15,15 21.5,21.5",)),
    "phone": Drawing((box(6, 2.5, 18, 21.5),), ("10,18 14,18", "6,15 18,15")),
    "speaker": Drawing(
        ("3,9 7,9 12,4 12,20 7,15 3,15",),
        (),
        ("15,9 17,11 17,13 15,15", "17.5,5.5 21,9 21,15 17.5,18.5"),
    ),
    "battery": Drawing((box(2, 7, 19, 17),), ("6,10 6,14", "10,10 10,14"), ("22,10 22,14",)),
    "chat": Drawing(
        ("5,4 19,4 21,6 21,15 19,17 12,17 7,21.5 7,17 5,17 3,15 3,6",),
        ("7.5,9 16.5,9", "7.5,12.5 13,12.5"),
    ),
    "shield": Drawing(
        ("12,2.5 20,5.5 20,12 16,18 12,21.5 8,18 4,12 4,5.5",), ("8.5,11.5 11,14 15.5,9",)
    ),
    "eye": Drawing(("8,6 16,6 22,12 16,18 8,18 2,12",), (octagon(12, 12, 2.6),)),
    "crown": Drawing(("3,6 8,11 12,4 16,11 21,6 19,19 5,19",), ("8,15.5 16,15.5",)),
}
"""The things of the set by name."""
SIGNS = {
    "plus": ("18,14 18,22", "14,18 22,18"),
    "minus": ("14,18 22,18",),
    "check": ("14,18 17,21 22,15",),
    "cross": ("15,15 21,21", "21,15 15,21"),
}
SLASH = "3,3 21,21"


@dataclass(frozen=True)
class Variant:
    """How a thing is drawn. sign: one of `SIGNS`, or ""."""

    filled: bool = False
    sign: str = ""
    struck: bool = False
    enclosed: bool = False


VARIANTS = {
    "": Variant(),
    "filled": Variant(filled=True),
    **{sign: Variant(sign=sign) for sign in SIGNS},
    "plus-filled": Variant(filled=True, sign="plus"),
    "off": Variant(struck=True),
    "off-filled": Variant(filled=True, struck=True),
    "octagon": Variant(enclosed=True),
    "octagon-filled": Variant(filled=True, enclosed=True),
}
"""Ends of names: "bell-plus"."""


def names() -> Iterator[str]:
    """The names of all icons of the set."""
    for thing in THINGS:
        for ending in VARIANTS:
            yield f"{thing}-{ending}" if ending else thing


def house_svg(name: str) -> str:
    """The SVG of an icon of the set. Raises KeyError for a name that is not in `names()`."""
    thing, _, ending = name.partition("-")
    return draw(THINGS[thing], VARIANTS[ending])


def draw(drawing: Drawing, variant: Variant) -> str:
    """A drawing as a whole SVG in `currentColor`."""
    paint = _filled if variant.filled else _outlined
    shapes = paint(drawing)
    if variant.enclosed:
        inner = (
            f'<g transform="translate(12 12) scale(.56) translate(-12 -12)">{_thick(shapes)}</g>'
        )
        shapes = inner + _lines((octagon(12, 12, 10),), closed=True)
    cuts = ""
    if variant.sign:
        cuts += _polygon(box(12.2, 12.2, 24, 24, 2.4), fill="#000")
    if variant.struck:
        cuts += _lines((SLASH,), width=STROKE + 2 * GAP, colour="#000")
    if cuts:
        shapes = _masked(shapes, cuts, "free")
    return wrap_svg(shapes + _lines((*SIGNS.get(variant.sign, ()), *(SLASH,) * variant.struck)))


def _outlined(drawing: Drawing) -> str:
    closed = [d for d in drawing.details if _is_closed(d)]
    lines = [d for d in drawing.details if not _is_closed(d)]
    return _lines((*drawing.body, *closed), closed=True) + _lines((*lines, *drawing.lines))


def _filled(drawing: Drawing) -> str:
    """The body as one area, its details cut out of it."""
    area = "".join(_polygon(body) for body in drawing.body) + _lines(drawing.body, closed=True)
    closed = [d for d in drawing.details if _is_closed(d)]
    lines = [d for d in drawing.details if not _is_closed(d)]
    cuts = _lines(lines, colour="#000") + _lines(closed, closed=True, colour="#000")
    if cuts:
        area = _masked(area, cuts, "details")
    return area + _lines(drawing.lines)


def _is_closed(points: str) -> bool:
    """Details with eight corners are octagons."""
    return points.count(" ") == 7


def _thick(shapes: str) -> str:
    """Strokes that are as thick after an enclosed icon is made small, less a little for its details."""
    return shapes.replace(f'stroke-width="{STROKE}"', 'stroke-width="2.7"')


def _masked(shapes: str, cuts: str, name: str) -> str:
    """Shapes without what `cuts` covers in black."""
    area = 'maskUnits="userSpaceOnUse" x="-4" y="-4" width="32" height="32"'
    white = '<path fill="#fff" d="M-4-4h32v32H-4z"/>'
    return f'<mask id="{name}" {area}>{white}{cuts}</mask><g mask="url(#{name})">{shapes}</g>'


def _polygon(points: str, fill: str = "currentColor") -> str:
    return f'<polygon points="{points}" fill="{fill}"/>'


def _lines(
    lines: tuple[str, ...] | list[str],
    closed: bool = False,
    width: float = STROKE,
    colour: str = "currentColor",
) -> str:
    """Strokes through points, joined by mitres."""
    kind = "polygon" if closed else "polyline"
    paint = f'fill="none" stroke="{colour}" stroke-width="{width}"'
    return "".join(f'<{kind} points="{points}" {paint}/>' for points in lines)
