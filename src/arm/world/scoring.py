"""Drawing prompts with a check of the picture (the world's GenEval and its WISE), the referee, and the reward.

The six tags and their rules are GenEval's: named objects must be there, a counted object exactly so often and with
nothing beside it, colours and relations must hold for them. Held-out prompts name combinations that training never
shows; `single_object` has nothing to hold out. A reward scores by degrees beside `satisfies`, GenEval's yes or no:
it needs steps on the way there, and must not pay for a picture full of things of which some will be right. Its
product is follow x restraint x quality.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import TypeVar

import numpy as np

from arm.domain import (
    DrawingTask,
    EditingTask,
    EditScore,
    PixelArray,
    Recognition,
    Split,
    TaskDomain,
)
from arm.errors import ConfigError
from arm.rl.rewards import Attempt, Components, Kind
from arm.world.edits import MIN_CONFIDENCE, Edit, score_edit
from arm.world.language import (
    FACT_KINDS,
    FACTS,
    NUMBERS,
    Fact,
    listed,
    plural,
    with_article,
)
from arm.world.reader import Reading, ReadThing, agrees, read
from arm.world.sampling import (
    HELD_OUT_COLORED,
    HELD_OUT_COUNTS,
    HELD_OUT_RELATIONS,
    HELD_OUT_TOGETHER,
    Combination,
    pick,
    split_of,
)
from arm.world.scene import (
    COLORS,
    RELATIONS,
    SHAPES,
    Scene,
    holds,
    same_scene,
)

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
PREFIXES = ("", "a picture of ", "an image of ", "draw ", "show ")
CHECK_MARGIN = 4.0
"""A relation in a picture counts from this many units on, half of what captions ask."""


@dataclass(frozen=True)
class Wanted:
    """An object that must be seen; `count` is exact where the prompt counts."""

    shape: str
    color: str | None = None
    count: int | None = None

    def matches(self, thing: ReadThing) -> bool:
        return thing.shape == self.shape and self.color in (None, thing.color)


@dataclass(frozen=True)
class Prompt:
    """A prompt and what a picture must show. `relation` is of the first wanted to the second."""

    tag: str
    text: str
    wanted: tuple[Wanted, ...]
    relation: str | None = None


def satisfies(prompt: Prompt, reading: Reading) -> bool:
    """Whether the picture shows what was asked. Things read with low confidence do not count."""
    clear = [thing for thing in reading.things if thing.confidence >= MIN_CONFIDENCE]
    found: list[list[ReadThing]] = []
    for wanted in prompt.wanted:
        matching = [thing for thing in clear if wanted.matches(thing)]
        if not matching:
            return False
        if wanted.count is not None and (
            len(matching) != wanted.count or len(reading.things) != wanted.count
        ):
            return False
        found.append(matching)
    if prompt.relation is None:
        return True
    return any(holds(a, prompt.relation, b, CHECK_MARGIN) for a in found[0] for b in found[1])


def _choose(rng: np.random.Generator, options: Sequence[tuple]) -> tuple:
    return options[int(rng.integers(len(options)))]


Option = TypeVar("Option", bound=Combination)


def _of_split(options: Iterable[Option], held_out: Container[Option], split: Split) -> list[Option]:
    """The options of a split, where those in `held_out` are held out."""
    return [o for o in options if split_of([o] if o in held_out else []) == split]


def _colored(rng: np.random.Generator, split: Split) -> tuple[str, str]:
    pairs = _of_split(product(COLORS, SHAPES), HELD_OUT_COLORED, split)
    return _choose(rng, pairs)


def _pair(rng: np.random.Generator, split: Split) -> tuple[str, str]:
    """Two different shapes, in either order."""
    held_out = {tuple(sorted(pair, key=SHAPES.index)) for pair in HELD_OUT_TOGETHER}
    in_order = set(_of_split(combinations(SHAPES, 2), held_out, split))
    pairs = [(a, b) for a in SHAPES for b in SHAPES if (a, b) in in_order or (b, a) in in_order]
    return _choose(rng, pairs)


def sample_prompt(rng: np.random.Generator, tag: str, *, split: Split) -> Prompt:
    """A prompt of one tag from the combinations of a split; `single_object` has the same in all."""
    start = pick(rng, PREFIXES)
    if tag == "single_object":
        shape = pick(rng, SHAPES)
        return Prompt(tag, start + with_article(shape), (Wanted(shape),))
    if tag == "two_object":
        a, b = _pair(rng, split)
        return Prompt(
            tag, f"{start}{with_article(a)} and {with_article(b)}", (Wanted(a), Wanted(b))
        )
    if tag == "counting":
        options = _of_split(product((2, 3, 4), SHAPES), HELD_OUT_COUNTS, split)
        n, shape = _choose(rng, options)
        return Prompt(tag, f"{start}{NUMBERS[n]} {plural(shape)}", (Wanted(shape, count=n),))
    if tag == "colors":
        color, shape = _colored(rng, split)
        return Prompt(tag, start + with_article(f"{color} {shape}"), (Wanted(shape, color),))
    if tag == "position":
        options = [
            (a, r, b)
            for a, r, b in product(SHAPES, RELATIONS, SHAPES)
            if a != b and frozenset((a, b)) not in HELD_OUT_TOGETHER
        ]
        a, relation, b = _choose(rng, _of_split(options, HELD_OUT_RELATIONS, split))
        text = f"{start}{with_article(a)} {relation} {with_article(b)}"
        return Prompt(tag, text, (Wanted(a), Wanted(b)), relation)
    if tag == "color_attr":
        color, shape = _colored(rng, split)
        other_shape = pick(
            rng,
            [s for s in SHAPES if s != shape and frozenset((s, shape)) not in HELD_OUT_TOGETHER],
        )
        other_color = pick(
            rng, [c for c in COLORS if c != color and (c, other_shape) not in HELD_OUT_COLORED]
        )
        wanted = [Wanted(shape, color), Wanted(other_shape, other_color)]
        if rng.random() < 0.5:
            wanted.reverse()
        said = [with_article(f"{w.color} {w.shape}") for w in wanted]
        return Prompt(tag, f"{start}{said[0]} and {said[1]}", tuple(wanted))
    raise ValueError(f"'{tag}' is none of {', '.join(TAGS)}")


def dense_prompt(rng: np.random.Generator, scene: Scene) -> Prompt:
    """Every thing of a scene with its colour, and the background: a long prompt with many conditions.

    Equal things are asked for once. Held out only where the scene is.
    """
    named = dict.fromkeys((thing.color, thing.shape) for thing in scene.things)
    phrases = [with_article(f"{color} {shape}") for color, shape in named]
    text = f"{pick(rng, PREFIXES)}{listed(phrases)} on a {scene.background} background"
    return Prompt("dense", text, tuple(Wanted(shape, color) for color, shape in named))


def knowledge_prompt(rng: np.random.Generator, fact: Fact) -> Prompt:
    """A prompt that names a colour, a shape or a number only by the fact (the world's WISE)."""
    if fact.kind == "color":
        shapes = [s for s in SHAPES if (fact.value, s) not in HELD_OUT_COLORED]
        shape = pick(rng, shapes)
        text = f"{with_article(shape)} in the color of {fact.subject}"
        return Prompt("color", text, (Wanted(shape, fact.value),))
    if fact.kind == "shape":
        color = pick(rng, [c for c in COLORS if (c, fact.value) not in HELD_OUT_COLORED])
        text = f"{with_article(color)} thing in the shape of {fact.subject}"
        return Prompt("shape", text, (Wanted(fact.value, color),))
    n = NUMBERS.index(fact.value)
    shape = pick(rng, [s for s in SHAPES if (n, s) not in HELD_OUT_COUNTS])
    text = f"as many {plural(shape)} as {fact.subject} has {fact.part}"
    return Prompt("number", text, (Wanted(shape, count=n),))


def knowledge_facts(split: Split) -> tuple[Fact, ...]:
    """The facts that training prompts use; of those that only texts teach, every second of a kind is "dev"'s
    and the others are "test"'s.
    """
    if split == "train":
        return tuple(fact for fact in FACTS if fact.in_pictures)
    start = {"test": 0, "dev": 1}[split]
    held_out = [[f for f in FACTS if f.kind == k and not f.in_pictures] for k in FACT_KINDS]
    return tuple(fact for facts in held_out for fact in facts[start::2])


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


@dataclass(frozen=True)
class WorldReferee:
    """Reads pictures by geometry (`world/reader.py`). `scale`: pixels a unit of the pictures."""

    scale: int

    def draws_right(self, task: DrawingTask, picture: PixelArray) -> bool:
        return satisfies(task.truth, read(picture, self.scale))

    def score_edit(self, task: EditingTask, picture: PixelArray) -> EditScore:
        return score_edit(task.truth, read(picture, self.scale))

    def recognize(self, truth: Scene, picture: PixelArray) -> Recognition:
        reading = read(picture, self.scale)
        return Recognition(same_scene(truth, reading), agrees(truth, reading))

    def look_alike(self, first: PixelArray, second: PixelArray) -> bool:
        return same_scene(read(first, self.scale), read(second, self.scale))


@dataclass(frozen=True)
class WorldReward:
    """Scores attempts at the world's own prompts and edits (`world/scoring.py`), all in [0, 1]. Drawing:
    follow, restraint, quality. Editing: follow, preserve, quality; a copied source follows nothing, and a
    blank or over-edited picture preserves nothing. `scale`: pixels a unit of the pictures.
    """

    scale: int = 1

    def check(self, kind: Kind, *, domain: TaskDomain | None, scale: int) -> None:
        """Raises ConfigError for a user's prompts and edits, and for pictures of another scale."""
        if domain is None:
            raise ConfigError(
                f"the world's reward scores only what the world asks for: with {kind}.data set, "
                f"{kind}.reward must be another one, such as a judge's"
            )
        if scale != self.scale:
            raise ConfigError(
                f"the model's pictures have {scale} pixels a unit: set {kind}.reward.scale={scale}"
            )

    def __call__(self, attempts: Sequence[Attempt]) -> list[Components | None]:
        return [self._score(attempt) for attempt in attempts]

    def _score(self, attempt: Attempt) -> Components:
        reading = read(attempt.picture, self.scale)
        if isinstance(attempt.truth, Prompt):
            return asdict(score_drawing(attempt.truth, reading))
        if isinstance(attempt.truth, Edit):
            return asdict(score_edit(attempt.truth, reading))
        raise ValueError("the world scores only its own tasks: this attempt has no truth")
