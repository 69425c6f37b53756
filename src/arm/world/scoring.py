"""Scores of drawn and edited pictures: the world's rewards, and its GEdit.

A drawing is scored by degrees beside `satisfies`, GenEval's yes or no: a reward needs steps on the way there,
and must not pay for a picture full of things of which some will be right. Its product is follow x restraint x
quality.

Edits: SC (0-10) = 10 * min(follow, preserve), PQ (0-10) = 10 * cleanliness of the picture, O = sqrt(SC * PQ).
- follow: the change was made. A copied source follows nothing, and nothing follows where a thing of the removed
  or moved kind is left over: it was then moved or copied, and not removed or moved.
- preserve: the share of the other things that are as they were, new things counted as lost ones; half of that
  where the background changed unasked, and 0 where another thing moved by more than POSITION_TOLERANCE.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from arm.domain import EditScore
from arm.world.edits import Edit
from arm.world.prompts import MIN_CONFIDENCE, Prompt, satisfies
from arm.world.reader import Reading, ReadThing
from arm.world.scene import POSITION_TOLERANCE, Thing, holds, in_region, near


@dataclass(frozen=True)
class DrawScore:
    """All in [0, 1]. follow: half for the share of the conditions met, half for meeting all of
    them; restraint: 1 / (1 + things more than were named); quality: cleanliness of the picture.
    """

    follow: float
    restraint: float
    quality: float


def _conditions(prompt: Prompt, reading: Reading) -> list[bool]:
    """Each object that was named, its shape alone and whole, and the relation."""
    clear = [thing for thing in reading.things if thing.confidence >= MIN_CONFIDENCE]
    met: list[bool] = []
    for wanted in prompt.wanted:
        like = [thing for thing in clear if thing.shape == wanted.shape]
        matching = [thing for thing in like if wanted.matches(thing)]
        need = wanted.count or 1
        met += [len(like) >= n + 1 for n in range(need)]
        if wanted.color is not None:
            met.append(bool(matching))
    if prompt.relation is not None:
        first, second = (
            [thing for thing in clear if wanted.matches(thing)] for wanted in prompt.wanted
        )
        met.append(any(holds(a, prompt.relation, b) for a in first for b in second))
    return met


def score_drawing(prompt: Prompt, reading: Reading) -> DrawScore:
    met = _conditions(prompt, reading)
    follow = 0.5 * sum(met) / len(met) + 0.5 * satisfies(prompt, reading)
    named = sum(wanted.count or 1 for wanted in prompt.wanted)
    more = max(0, len(reading.things) - named)
    return DrawScore(follow, 1 / (1 + more), reading.cleanliness)


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
