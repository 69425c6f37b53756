"""How well a drawn picture shows what a prompt asks: the reward beside `satisfies`, with degrees.

`satisfies` is GenEval's yes or no. A reward needs steps on the way there, and must not pay for a
picture full of things of which some will be right: follow x restraint x quality.
"""

from dataclasses import dataclass

from arm.world.prompts import MIN_CONFIDENCE, Prompt, satisfies
from arm.world.reader import Reading
from arm.world.scene import holds


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
