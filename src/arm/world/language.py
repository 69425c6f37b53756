"""The world's language: noun phrases, references that fit one thing of a scene, captions, facts, and the tokenizer.

Every caption names all things of its scene; what it leaves out (a size, a place) is free. A relation of the
held-out set is never stated. Facts are about things outside the pictures, so that a prompt can name an attribute
indirectly. All are taught as text; half of the shape and number facts and a third of the colour facts are in no
training prompt for a picture (`in_pictures=False`): drawing from them is the world's test of knowledge.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from arm.world.sampling import HELD_OUT_COUNTS, HELD_OUT_RELATIONS, pick
from arm.world.scene import (
    BACKGROUNDS,
    COLORS,
    PATTERNS,
    REGIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    region,
    relation_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast
from dataclasses import dataclass

NUMBERS = ("zero", "one", "two", "three", "four")
ATTRIBUTES = ("size", "pattern", "color")
"""The order in which adjectives stand before the noun."""


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "ch")) else "s")


def with_article(phrase: str) -> str:
    """'star' -> 'a star', 'orange arch' -> 'an orange arch'."""
    vowel = phrase[0] in "aeiou" or phrase.startswith("hourglass")
    return f"{'an' if vowel else 'a'} {phrase}"


def noun_phrase(thing: Thing, attributes: Iterable[str], noun: str | None = None) -> str:
    """Adjectives and noun without an article; `attributes` are named fields of the thing."""
    chosen = set(attributes)
    words = [getattr(thing, name) for name in ATTRIBUTES if name in chosen]
    return " ".join([*words, noun or thing.shape])


def counted(phrases: Sequence[str]) -> list[str]:
    """Equal phrases joined: ['star', 'ring', 'star'] -> ['two stars', 'a ring']."""
    result = []
    for phrase in dict.fromkeys(phrases):
        n = phrases.count(phrase)
        result.append(with_article(phrase) if n == 1 else f"{NUMBERS[n]} {plural(phrase)}")
    return result


def listed(items: Sequence[str]) -> str:
    """['a', 'b', 'c'] -> 'a , b and c'."""
    if len(items) == 1:
        return items[0]
    return " , ".join(items[:-1]) + " and " + items[-1]


def at_region(region: str) -> str:
    return "in the center" if region == "center" else f"at the {region}"


def references(scene: Scene, index: int, *, with_shape: bool = True) -> list[str]:
    """Noun phrases that fit this thing and no other of the scene, the shortest first.

    with_shape False leaves the shape open ('red thing'), for questions that ask for it.
    """
    thing = scene.things[index]
    others = [other for i, other in enumerate(scene.things) if i != index]
    found = []
    for n in range(len(ATTRIBUTES) + 1):
        for attributes in combinations(ATTRIBUTES, n):
            fields = (*attributes, "shape") if with_shape else attributes
            if any(all(getattr(o, f) == getattr(thing, f) for f in fields) for o in others):
                continue
            if with_shape or attributes:
                found.append(noun_phrase(thing, attributes, None if with_shape else "thing"))
    return found


PREFIXES = ("", "", "", "a picture of", "an image of", "draw", "show", "please draw", "create")
BACKGROUND_FORMS = ("on a {} background", "on {}", ", {} background")
ATTRIBUTE_SETS: Sequence[tuple[str, ...]] = (
    (),
    ("color",),
    ("color",),
    ("color",),
    ("size", "color"),
    ("pattern", "color"),
    ("size", "pattern", "color"),
)


def _attributes(rng: np.random.Generator, thing: Thing, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The attributes to say: a plain pattern is mostly left unsaid."""
    if thing.pattern == "plain" and rng.random() < 0.7:
        return tuple(a for a in chosen if a != "pattern")
    return chosen


def _said(phrases: Sequence[str], scene: Scene) -> Counter[tuple[str, str]]:
    """How often each phrase stands for each shape: the counts that a caption states."""
    return Counter(zip(phrases, (thing.shape for thing in scene.things), strict=True))


def _finish(rng: np.random.Generator, body: str, scene: Scene, background: float) -> str:
    if rng.random() < background:
        body = f"{body} {pick(rng, BACKGROUND_FORMS).format(scene.background)}"
    return f"{pick(rng, PREFIXES)} {body}".strip()


def statable_relation(a: Thing, b: Thing) -> str | None:
    """The relation of a to b if there is a clear one that is not held out."""
    relation = relation_of(a, b)
    return None if (a.shape, relation, b.shape) in HELD_OUT_RELATIONS else relation


def short_caption(rng: np.random.Generator, scene: Scene) -> str:
    """A few words: 'two red stars and a ring', 'a star left of a blue ring on a sky background'."""
    chosen = ATTRIBUTE_SETS[int(rng.integers(len(ATTRIBUTE_SETS)))]
    phrases = [noun_phrase(thing, _attributes(rng, thing, chosen)) for thing in scene.things]
    if any((n, s) in HELD_OUT_COUNTS for (_, s), n in _said(phrases, scene).items()):
        # "two red hearts and a heart" states a held-out count of a scene of three: count all hearts.
        phrases = [thing.shape for thing in scene.things]
    if len(scene.things) == 2 and rng.random() < 0.5:
        relation = statable_relation(*scene.things)
        if relation is not None:
            body = f"{with_article(phrases[0])} {relation} {with_article(phrases[1])}"
            return _finish(rng, body, scene, 0.2)
    return _finish(rng, listed(counted(phrases)), scene, 0.3)


def long_caption(rng: np.random.Generator, scene: Scene) -> str:
    """Everything: kind, size and place of each thing, and the background."""
    phrases = []
    for thing in scene.things:
        phrase = noun_phrase(thing, _attributes(rng, thing, ("size", "pattern", "color")))
        place = at_region(region(thing.x, thing.y, scene.height, scene.width))
        phrases.append(f"{with_article(phrase)} {place}")
    return _finish(rng, listed(phrases), scene, 0.85)


def caption(rng: np.random.Generator, scene: Scene) -> str:
    """A short caption (7 of 10) or a long one."""
    return short_caption(rng, scene) if rng.random() < 0.7 else long_caption(rng, scene)


COLOR_FACTS = {
    "red": ("a strawberry", "a tomato", "a ruby"),
    "orange": ("a carrot", "a pumpkin", "a tangerine"),
    "yellow": ("a lemon", "a banana", "a sunflower"),
    "green": ("grass", "a frog", "a leaf"),
    "teal": ("a peacock", "a lagoon", "a mallard"),
    "blue": ("the ocean", "a sapphire", "a blueberry"),
    "purple": ("an eggplant", "a grape", "lavender"),
    "pink": ("a flamingo", "a pig", "bubblegum"),
}
SHAPE_FACTS = {
    "circle": ("a coin", "a plate"),
    "square": ("a tile", "a chessboard"),
    "triangle": ("a pyramid", "a wedge"),
    "diamond": ("a kite", "a rhombus"),
    "star": ("a starfish", "a badge"),
    "cross": ("a plus", "a windmill"),
    "ring": ("a doughnut", "a tire"),
    "heart": ("a valentine", "a locket"),
    "moon": ("a croissant", "a sickle"),
    "arrow": ("a pointer", "a dart"),
    "hourglass": ("a sandglass", "a timer"),
    "arch": ("a rainbow", "a bridge"),
}
NUMBER_FACTS = {
    2: (("a bicycle", "wheels"), ("a bird", "wings")),
    3: (("a tricycle", "wheels"), ("a clover", "leaves")),
    4: (("a car", "wheels"), ("a dog", "legs")),
}


@dataclass(frozen=True)
class Fact:
    """What the world knows: `kind` is color, shape or number; `value` a word or a count."""

    kind: str
    subject: str
    value: str
    part: str
    in_pictures: bool


def all_facts() -> tuple[Fact, ...]:
    facts = [
        Fact("color", subject, color, "", i < len(subjects) - 1)
        for color, subjects in COLOR_FACTS.items()
        for i, subject in enumerate(subjects)
    ]
    facts += [
        Fact("shape", subject, shape, "", i == 0)
        for shape, subjects in SHAPE_FACTS.items()
        for i, subject in enumerate(subjects)
    ]
    facts += [
        Fact("number", subject, NUMBERS[n], part, i == 0)
        for n, pairs in NUMBER_FACTS.items()
        for i, (subject, part) in enumerate(pairs)
    ]
    return tuple(facts)


FACTS = all_facts()
FACT_KINDS = ("color", "shape", "number")


assert set(COLOR_FACTS) == set(COLORS) and set(SHAPE_FACTS) == set(SHAPES)


GRAMMAR = """
a an the and of on in at to with into as many has than is are there or not it , . ?
picture image draw show please create background color shape size thing things what where how
do you see yes no add put remove delete take away replace turn make change paint smaller larger
move swap exchange tell me about plain striped this that i can
"""
SPECIAL = ("<pad>", "<unk>", "<eos>")


def _split(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def world_words() -> list[str]:
    """Every word of the world, special tokens first, in a fixed order."""
    nouns = [*SHAPES, *map(plural, SHAPES)]
    known = [fact.subject for fact in FACTS] + [fact.part for fact in FACTS]
    lists = (COLORS, SIZES, PATTERNS, BACKGROUNDS, REGIONS)
    named = [*(w for words in lists for w in words), *RELATIONS, *NUMBERS, *nouns]
    words = _split([GRAMMAR, *named, *known])
    return list(dict.fromkeys([*SPECIAL, *words]))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A word-level tokenizer over `world_words`; case and punctuation spacing do not matter."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(world_words())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>"
    )
