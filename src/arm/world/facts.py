"""Facts about things outside the pictures, so that a prompt can name an attribute indirectly.

All facts are taught as text. Half of the shape and number facts and a third of the colour facts
never stand in a prompt for a picture in training (`in_pictures=False`): drawing from them is the
world's test of knowledge ("world-wise").
"""

from dataclasses import dataclass

import numpy as np

from arm.world.language import NUMBERS, plural, with_article
from arm.world.sampling import pick
from arm.world.scene import COLORS, SHAPES, Scene

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


def fact_turn(rng: np.random.Generator, fact: Fact) -> tuple[str, str]:
    """A text-only question about the fact and its answer."""
    if fact.kind == "color":
        forms = ("what color is {} ?", "what is the color of {} ?")
    elif fact.kind == "shape":
        forms = ("what shape is {} ?", "what is the shape of {} ?")
    else:
        forms = (f"how many {fact.part} has {{}} ?", f"how many {fact.part} are there on {{}} ?")
    question = pick(rng, forms).format(fact.subject)
    if fact.kind != "number" and rng.random() < 0.2:
        return f"tell me about {fact.subject}", f"{fact.subject} is {_stated(fact)}"
    return question, fact.value


def _stated(fact: Fact) -> str:
    return fact.value if fact.kind == "color" else with_article(fact.value)


def indirect_caption(rng: np.random.Generator, scene: Scene, fact: Fact) -> str | None:
    """A prompt for this scene that names one attribute by the fact; None where it does not apply.

    Colour and shape facts describe a scene of one thing, number facts one of equal shapes.
    """
    first = scene.things[0]
    shapes = {thing.shape for thing in scene.things}
    if fact.kind == "number":
        if len(shapes) > 1 or NUMBERS[len(scene.things)] != fact.value:
            return None
        return f"as many {plural(first.shape)} as {fact.subject} has {fact.part}"
    if len(scene.things) != 1:
        return None
    if fact.kind == "color" and first.color == fact.value:
        form = pick(rng, ("{} in the color of {}", "{} with the color of {}"))
        return form.format(with_article(first.shape), fact.subject)
    if fact.kind == "shape" and first.shape == fact.value:
        return f"{with_article(first.color)} thing in the shape of {fact.subject}"
    return None


def applicable(scene: Scene, *, in_pictures: bool = True) -> list[Fact]:
    """The facts by which a prompt could describe this scene."""
    rng = np.random.default_rng(0)
    return [
        fact
        for fact in FACTS
        if fact.in_pictures == in_pictures and indirect_caption(rng, scene, fact) is not None
    ]


assert set(COLOR_FACTS) == set(COLORS) and set(SHAPE_FACTS) == set(SHAPES)
