"""Edits that people drew: pairs of icons of one set whose names differ in one thing, and whose pictures differ by it.

A name alone does not suffice: of half the fill pairs of `ic` nothing changes, and of some pairs the second is another
drawing. So each kind of edit asks for a visible change and for the share of ink that has to stay. The kinds and bounds
here were found right by eye in at least 22 of 24 pairs; gender and on / off were not and are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from arm.icons.names import BADGES, EMOJI_SETS, Fill, IconName
from arm.icons.render import Change, Ink, change_between, framed_sides, runs_diagonally

Step = tuple[str, str]
"""What a pair changes: (from, to), "" where there is nothing before or after."""


@dataclass(frozen=True)
class Bounds:
    """The least visible change, the least share of the source's ink kept, and of the target's ink held before."""

    visible: float
    kept: float = 0.0
    held: float = 0.0


BOUNDS = {
    "badge": Bounds(0.15, 0.70),
    "swap": Bounds(0.15, 0.60, 0.60),
    "strike": Bounds(0.15, 0.45),
    "enclose": Bounds(0.15),
    "enclosure-swap": Bounds(0.15, 0.25, 0.25),
    "fill": Bounds(0.20, 0.50),
    "duotone": Bounds(0.10, 0.30),
    "weight": Bounds(0.25, 0.70),
    "corner": Bounds(0.25, 0.80, 0.80),
    "direction": Bounds(0.15),
    "level": Bounds(0.15, 0.30),
    "open": Bounds(0.15, 0.25),
    "multiple": Bounds(0.15, 0.30),
    "tone": Bounds(0.08),
    "redraw": Bounds(0.05),
}
"""By kind of edit; a kind that is not here does not exist."""
THICKNESS = {"thin": 0, "light": 1, None: 2, "regular": 2, "bold": 3}
UNCLEAR_BADGES = frozenset({"text", "list", "image", "pin", "dot"})
SOUND = frozenset("volume sound audio speaker mute radio toggle".split())
SMALL_DRAWINGS = frozenset({"glyphs", "glyphs-poly"})
REDRAWN: tuple[tuple[str, Fill, str, Fill], ...] = (
    ("icon-park-outline", "outline", "icon-park-twotone", "twotone"),
    ("icon-park-outline", "outline", "icon-park", "outline"),
    ("material-symbols", "outline", "material-symbols-light", "outline"),
)
"""Looks whose drawing follows from another set's: set and fill before, set and fill after."""


@dataclass(frozen=True)
class Pair:
    """An edit from icon `source` to icon `target`, by their numbers."""

    kind: str
    source: int
    target: int
    step: Step


def propose_pairs(sets: Sequence[str], names: Sequence[IconName]) -> Iterator[Pair]:
    """All pairs whose names differ in one thing of a known kind, by their names alone.

    Each is yielded in the direction in which something is added; `reversible` kinds may be used backwards too.
    """
    numbers: dict[tuple[str, IconName], int] = {}
    for index, (set_name, name) in enumerate(zip(sets, names, strict=True)):
        numbers.setdefault((set_name, replace(name, size=None)), index)
    for (set_name, name), number in numbers.items():

        def find(other: IconName, set_name: str = set_name) -> int | None:
            return numbers.get((set_name, other))

        if set_name in EMOJI_SETS:
            steps = _tone_steps(name)
        else:
            steps = _steps(name)
        for kind, before, step in steps:
            source = find(before)
            if source is not None and source != number:
                yield Pair(kind, source, number, step)
        for old_set, old_fill, new_set, new_fill in REDRAWN:
            if set_name == new_set and name.fill == new_fill:
                source = numbers.get((old_set, replace(name, fill=old_fill)))
                if source is not None:
                    yield Pair("redraw", source, number, (old_set, new_set))


def _tone_steps(name: IconName) -> Iterator[tuple[str, IconName, Step]]:
    if name.tone is not None:
        yield "tone", replace(name, tone=None), ("", name.tone)


def _steps(name: IconName) -> Iterator[tuple[str, IconName, Step]]:
    """What `name` may have been before one edit: kind, the name before, and what changed."""
    for place, badge in enumerate(name.badges):
        rest = name.badges[:place] + name.badges[place + 1 :]
        yield "badge", replace(name, badges=rest), ("", badge)
        for other in sorted(set(BADGES.values())):
            if other < badge:
                before = (*name.badges[:place], other, *name.badges[place + 1 :])
                yield "swap", replace(name, badges=before), (other, badge)
    if name.struck:
        yield "strike", replace(name, struck=False), ("", "strike")
    for place, shape in enumerate(name.enclosure):
        rest = name.enclosure[:place] + name.enclosure[place + 1 :]
        yield "enclose", replace(name, enclosure=rest), ("", shape)
        for other in ("circle", "square", "hexagon", "octagon", "diamond", "triangle", "wavy"):
            if other < shape:
                before = (*name.enclosure[:place], other, *name.enclosure[place + 1 :])
                yield "enclosure-swap", replace(name, enclosure=before), (other, shape)
    if name.fill == "filled":
        yield "fill", replace(name, fill="outline"), ("outline", "filled")
    if name.fill in ("duotone", "twotone"):
        yield "duotone", replace(name, fill="outline"), ("outline", "duotone")
    for lighter in ("thin", "light", None, "regular"):
        if THICKNESS[lighter] < THICKNESS.get(name.weight, -1):
            step = (lighter or "regular", name.weight or "regular")
            yield "weight", replace(name, weight=lighter), step
    if name.corner is not None:
        yield "corner", replace(name, corner=None), ("", name.corner)
    if name.corner == "sharp":
        yield "corner", replace(name, corner="rounded"), ("rounded", "sharp")
    for kind, field, options in (
        ("direction", "direction", "down horizontal incoming in left right outgoing up out"),
        ("level", "level", "empty full half high low medium"),
    ):
        values: tuple[str, ...] = getattr(name, field)
        for place, value in enumerate(values):
            for other in options.split():
                if other < value:
                    before = (*values[:place], other, *values[place + 1 :])
                    yield kind, replace(name, **{field: before}), (other, value)
    if name.count == ("multiple",):
        yield "multiple", replace(name, count=()), ("", "several")
    if name.state == ("open",):
        yield "open", replace(name, state=("closed",)), ("closed", "open")
        yield "open", replace(name, state=()), ("closed", "open")
    if name.state == ("closed",):
        yield "open", replace(name, state=()), ("open", "closed")


def is_unclear(pair: Pair, set_name: str, name: IconName) -> bool:
    """Whether a pair is of a set or word in which the kind is not what it says. name: the target's."""
    words = set(name.content)
    if pair.kind == "badge":
        folder = set_name.startswith("icon-park") and "folder" in words
        return folder or pair.step[1] in UNCLEAR_BADGES
    if pair.kind == "strike":
        return set_name == "iconmind" or bool(words & SOUND)
    if pair.kind == "weight":
        small_step = set_name == "iconmind" and pair.step != ("thin", "bold")
        return small_step or set_name in SMALL_DRAWINGS
    if pair.kind == "fill":
        return set_name in SMALL_DRAWINGS
    if pair.kind == "duotone":
        return set_name in SMALL_DRAWINGS or set_name == "iconmind"
    return False


def shows_its_kind(kind: str, change: Change, source: Ink, target: Ink) -> bool:
    """Whether the pictures of a pair differ as their kind asks for."""
    bounds = BOUNDS[kind]
    if change.visible < bounds.visible or change.kept < bounds.kept:
        return False
    if min(change.kept, change.held) < bounds.held:
        return False
    if kind == "enclose":
        return framed_sides(target) == 4 and framed_sides(source) < 4
    if kind == "strike":
        return runs_diagonally(source, target)
    return True


def clean_pairs(
    sets: Sequence[str], names: Sequence[IconName], ink: Callable[[int], Ink]
) -> tuple[list[Pair], dict[str, tuple[int, int]]]:
    """The pairs that show what their names say, and by kind how many were proposed and how many kept.

    ink: the ink of an icon by its number.
    """
    kept: list[Pair] = []
    counts = {kind: [0, 0] for kind in BOUNDS}
    for pair in propose_pairs(sets, names):
        counts[pair.kind][0] += 1
        if is_unclear(pair, sets[pair.target], names[pair.target]):
            continue
        source, target = ink(pair.source), ink(pair.target)
        if shows_its_kind(pair.kind, change_between(source, target), source, target):
            kept.append(pair)
            counts[pair.kind][1] += 1
    return kept, {kind: (proposed, clean) for kind, (proposed, clean) in counts.items()}
