"""Edits: a source scene, an instruction, the one scene that it asks for, and the score of an edited picture.

SC (0-10) = 10 * min(follow, preserve), PQ (0-10) = 10 * cleanliness of the picture, O = sqrt(SC * PQ).
- follow: the change was made. A copied source follows nothing, and nothing follows where a thing of the removed
  or moved kind is left over: it was then moved or copied, and not removed or moved.
- preserve: the share of the other things that are as they were, new things counted as lost ones; half of that
  where the background changed unasked, and 0 where another thing moved by more than POSITION_TOLERANCE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arm.domain import EditScore, Split
from arm.world.language import at_region, noun_phrase, references, with_article
from arm.world.reader import Reading, ReadThing
from arm.world.sampling import ANY, fill, pick, place, split_of_scenes
from arm.world.scene import (
    BACKGROUNDS,
    COLORS,
    MAX_THINGS,
    POSITION_TOLERANCE,
    REGIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    fits,
    in_region,
    near,
)


@dataclass(frozen=True)
class Edit:
    """One edit. `changed` are the target's indices of things that the edit makes or alters.

    `place` names the ninth in which an added or moved thing may lie anywhere; otherwise the
    target's positions are meant exactly.
    """

    kind: str
    instruction: str
    source: Scene
    target: Scene
    changed: tuple[int, ...]
    place: str | None = None


Editor = Callable[[np.random.Generator, Scene], Edit | None]


def _choose(rng: np.random.Generator, scene: Scene) -> tuple[int, str] | None:
    index = int(rng.integers(len(scene.things)))
    found = references(scene, index)
    return (index, pick(rng, found[:2])) if found else None


def add(rng: np.random.Generator, scene: Scene) -> Edit | None:
    if len(scene.things) >= MAX_THINGS:
        return None
    where = pick(rng, REGIONS)
    thing = place(rng, fill(rng, ANY), scene.things, scene.height, scene.width, where)
    if thing is None:
        return None
    said = ("size", "pattern", "color") if thing.pattern == "striped" else ("size", "color")
    verb = pick(rng, ("add", "put", "draw"))
    text = f"{verb} {with_article(noun_phrase(thing, said))} {at_region(where)}"
    target = replace(scene, things=(*scene.things, thing))
    return Edit("add", text, scene, target, (len(scene.things),), where)


def remove(rng: np.random.Generator, scene: Scene) -> Edit | None:
    chosen = _choose(rng, scene)
    if chosen is None or len(scene.things) < 2:
        return None
    index, name = chosen
    text = pick(rng, ("remove the {}", "delete the {}", "take away the {}")).format(name)
    return Edit("remove", text, scene, scene.without(index), ())


def replace_thing(rng: np.random.Generator, scene: Scene) -> Edit | None:
    chosen = _choose(rng, scene)
    if chosen is None:
        return None
    index, name = chosen
    shape, color = pick(rng, SHAPES), pick(rng, COLORS)
    if shape == scene.things[index].shape:
        return None
    target = scene.with_thing(index, shape=shape, color=color)
    form = pick(rng, ("replace the {} with {}", "turn the {} into {}"))
    text = form.format(name, with_article(f"{color} {shape}"))
    return Edit("replace", text, scene, target, (index,))


def recolor(rng: np.random.Generator, scene: Scene) -> Edit | None:
    chosen = _choose(rng, scene)
    if chosen is None:
        return None
    index, name = chosen
    color = pick(rng, COLORS)
    if color == scene.things[index].color:
        return None
    form = pick(rng, ("make the {} {}", "change the color of the {} to {}", "paint the {} {}"))
    target = scene.with_thing(index, color=color)
    return Edit("recolor", form.format(name, color), scene, target, (index,))


def resize(rng: np.random.Generator, scene: Scene) -> Edit | None:
    chosen = _choose(rng, scene)
    if chosen is None:
        return None
    index, name = chosen
    size = SIZES[1 - SIZES.index(scene.things[index].size)]
    target = scene.with_thing(index, size=size)
    if not fits(target.things[index], scene.without(index).things, scene.height, scene.width):
        return None
    word = pick(rng, (size, {"small": "smaller", "large": "larger"}[size]))
    return Edit("resize", f"make the {name} {word}", scene, target, (index,))


def move(rng: np.random.Generator, scene: Scene) -> Edit | None:
    chosen = _choose(rng, scene)
    if chosen is None:
        return None
    index, name = chosen
    thing, others = scene.things[index], scene.without(index).things
    where = pick(rng, REGIONS)
    size = (scene.height, scene.width)
    if in_region(thing.x, thing.y, where, *size, slack=POSITION_TOLERANCE):
        return None  # a judge of the move could take the source itself for it
    moved = place(rng, thing.kind, others, scene.height, scene.width, where)
    if moved is None:
        return None
    text = f"move the {name} to the {where}"
    return Edit("move", text, scene, scene.with_thing(index, x=moved.x, y=moved.y), (index,), where)


def swap(rng: np.random.Generator, scene: Scene) -> Edit | None:
    if len(scene.things) < 2:
        return None
    i, j = (int(k) for k in rng.permutation(len(scene.things))[:2])
    names = references(scene, i)[:2], references(scene, j)[:2]
    if not names[0] or not names[1]:
        return None
    a, b = scene.things[i], scene.things[j]
    target = scene.with_thing(i, x=b.x, y=b.y).with_thing(j, x=a.x, y=a.y)
    for k in (i, j):
        if not fits(target.things[k], target.without(k).things, scene.height, scene.width):
            return None
    form = pick(rng, ("swap the {} and the {}", "exchange the {} and the {}"))
    text = form.format(pick(rng, names[0]), pick(rng, names[1]))
    return Edit("swap", text, scene, target, (i, j))


def background(rng: np.random.Generator, scene: Scene) -> Edit | None:
    color = pick(rng, BACKGROUNDS)
    if color == scene.background:
        return None
    form = pick(rng, ("make the background {}", "change the background to {}"))
    return Edit("background", form.format(color), scene, replace(scene, background=color), ())


EDITORS: dict[str, Editor] = {
    "add": add,
    "remove": remove,
    "replace": replace_thing,
    "recolor": recolor,
    "resize": resize,
    "move": move,
    "swap": swap,
    "background": background,
}


def sample_edit(
    rng: np.random.Generator, scene: Scene, kind: str | None = None, *, split: Split = "train"
) -> Edit | None:
    """An edit of the scene, of a kind (None: any), in a split.

    "train": source and target hold training combinations only. Otherwise one of them holds a held-out
    combination, and all that they hold are of that split. None where 30 tries find no such edit.
    """
    for _ in range(30):
        edit = EDITORS[kind or pick(rng, tuple(EDITORS))](rng, scene)
        if edit is None:
            continue
        if split_of_scenes(edit.source, edit.target) == split:
            return edit
    return None


MIN_CONFIDENCE = 0.5
"""Things read with less confidence do not count."""


def _take(things: list[ReadThing], wanted: Thing, edit: Edit, anywhere: bool) -> bool:
    """Removes the thing that is as wanted from the list; whether there was one."""
    target = edit.target
    for index, thing in enumerate(things):
        if thing.kind != wanted.kind or thing.confidence < MIN_CONFIDENCE:
            continue
        if anywhere and edit.place is not None:
            size = (target.height, target.width)
            there = in_region(thing.x, thing.y, edit.place, *size, slack=POSITION_TOLERANCE)
        else:
            there = near(thing, wanted)
        if there:
            del things[index]
            return True
    return False


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 1.0


def score_edit(edit: Edit, reading: Reading) -> EditScore:
    """Scores a reading of the edited picture against the one scene that the edit asks for."""
    left = list(reading.things)
    kept = [t for i, t in enumerate(edit.target.things) if i not in edit.changed]
    intact = [_take(left, thing, edit, anywhere=False) for thing in kept]
    changed = [_take(left, edit.target.things[i], edit, anywhere=True) for i in edit.changed]
    left_kinds = {thing.kind for thing in left}
    background = reading.background == edit.target.background
    if edit.kind == "background":
        follow = float(background)
    elif edit.kind == "remove":
        removed = next(t for t in edit.source.things if t not in edit.target.things)
        in_place = any(near(thing, removed) for thing in left)
        follow = float(not in_place and removed.kind not in left_kinds)
    elif edit.kind in ("move", "swap") and all(changed):
        moved_kinds = {edit.target.things[i].kind for i in edit.changed}
        follow = float(not moved_kinds & left_kinds)
    else:
        follow = _share(changed)
    # What is left over counts against preservation, unless it is the changed thing itself done wrongly, for
    # which `follow` is lower already.
    extra = max(0, len(left) - changed.count(False))
    if edit.kind == "remove":
        extra = max(0, extra - (1 - int(follow)))
    preserve = _share([*intact, *[False] * extra])
    if any(thing.kind in left_kinds for thing, same in zip(kept, intact, strict=True) if not same):
        preserve = 0.0
    if edit.kind != "background" and not background:
        preserve /= 2
    return EditScore(follow, preserve, reading.cleanliness)
