"""Questions about a scene with one right, short answer each, and about the facts of `language.py`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arm.world.language import FACTS, NUMBERS, Fact, noun_phrase, plural, references, with_article
from arm.world.sampling import HELD_OUT_COLORED, HELD_OUT_RELATIONS, held_out_scene, pick
from arm.world.scene import COLORS, SHAPES, Scene, holds, region, relation_of


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


OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str


Asker = Callable[[np.random.Generator, Scene], Question | None]


def _reference(rng: np.random.Generator, scene: Scene, index: int, **options: bool) -> str | None:
    """One of the two shortest references, or None where the thing cannot be told apart."""
    found = references(scene, index, **options)[:2]
    return pick(rng, found) if found else None


def _any_thing(rng: np.random.Generator, scene: Scene) -> int:
    return int(rng.integers(len(scene.things)))


def existence(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Yes and no equally often; a wrong combination differs from the picture in one word."""
    present, colored = rng.random() < 0.5, rng.random() < 0.6
    for _ in range(20):
        thing = scene.things[_any_thing(rng, scene)]
        shape, color = thing.shape, thing.color
        if not present and colored and rng.random() < 0.5:
            color = pick(rng, COLORS)
        elif not present:
            shape = pick(rng, SHAPES)
        there = any(t.shape == shape and (t.color == color or not colored) for t in scene.things)
        # Training pictures never show a held-out pair. Answering "no" to it there again and again
        # would teach that there is no such thing, so it is asked about in held-out pictures only.
        tells = colored and (color, shape) in HELD_OUT_COLORED and not held_out_scene(scene)
        if there == present and not tells:
            phrase = with_article(f"{color} {shape}" if colored else shape)
            form = pick(rng, ("is there {} ?", "is there {} in the picture ?", "do you see {} ?"))
            return Question("existence", form.format(phrase), "yes" if present else "no")
    return None


def color(rng: np.random.Generator, scene: Scene) -> Question | None:
    index = _any_thing(rng, scene)
    thing = scene.things[index]
    forms = [
        noun_phrase(thing, attributes)
        for attributes in ((), ("size",), ("pattern",))
        if noun_phrase(thing, attributes) in references(scene, index)
    ]
    if not forms:
        return None
    return Question("color", f"what color is the {pick(rng, forms)} ?", thing.color)


def shape(rng: np.random.Generator, scene: Scene) -> Question | None:
    index = _any_thing(rng, scene)
    reference = _reference(rng, scene, index, with_shape=False)
    if reference is None:
        return None
    return Question("shape", f"what shape is the {reference} ?", scene.things[index].shape)


def count(rng: np.random.Generator, scene: Scene) -> Question | None:
    draw = rng.random()
    if draw < 0.3:
        text, n = "how many things are there ?", len(scene.things)
    elif draw < 0.75:
        present = rng.random() < 0.8
        name = scene.things[_any_thing(rng, scene)].shape if present else pick(rng, SHAPES)
        text = f"how many {plural(name)} are there ?"
        n = sum(t.shape == name for t in scene.things)
    else:
        name = scene.things[_any_thing(rng, scene)].color
        text, n = f"how many {name} things are there ?", sum(t.color == name for t in scene.things)
    return Question("count", text, NUMBERS[n])


def position(rng: np.random.Generator, scene: Scene) -> Question | None:
    index = _any_thing(rng, scene)
    reference = _reference(rng, scene, index)
    if reference is None:
        return None
    thing = scene.things[index]
    answer = region(thing.x, thing.y, scene.height, scene.width)
    return Question("position", f"where is the {reference} ?", answer)


def comparison(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Places or sizes of two things; a held-out relation is not asked about either."""
    if len(scene.things) < 2:
        return None
    i, j = (int(k) for k in rng.permutation(len(scene.things))[:2])
    first, second = _reference(rng, scene, i), _reference(rng, scene, j)
    if first is None or second is None:
        return None
    a, b = scene.things[i], scene.things[j]
    if rng.random() < 0.3:
        answer = "yes" if a.radius > b.radius else "no"
        return Question("comparison", f"is the {first} larger than the {second} ?", answer)
    relation = relation_of(a, b)
    if relation is None:
        return None
    asked = relation if rng.random() < 0.5 else OPPOSITE[relation]
    if (a.shape, asked, b.shape) in HELD_OUT_RELATIONS:
        return None
    answer = "yes" if holds(a, asked, b) else "no"
    return Question("comparison", f"is the {first} {asked} the {second} ?", answer)


def appearance(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Size, pattern, or the colour of the background."""
    if rng.random() < 0.34:
        return Question("appearance", "what color is the background ?", scene.background)
    index = _any_thing(rng, scene)
    reference = _reference(rng, scene, index)
    if reference is None:
        return None
    thing = scene.things[index]
    words = reference.split()
    if rng.random() < 0.5:
        if thing.size in words:
            return None
        return Question("appearance", f"what size is the {reference} ?", thing.size)
    if thing.pattern in words:
        return None
    return Question("appearance", f"is the {reference} plain or striped ?", thing.pattern)


ASKERS: dict[str, Asker] = {
    "existence": existence,
    "color": color,
    "shape": shape,
    "count": count,
    "position": position,
    "comparison": comparison,
    "appearance": appearance,
}


def ask(rng: np.random.Generator, scene: Scene, kind: str | None = None) -> Question | None:
    """A question of the kind (None: any kind); None where this scene allows none after 20 tries."""
    for _ in range(20):
        question = ASKERS[kind or pick(rng, tuple(ASKERS))](rng, scene)
        if question is not None:
            return question
    return None
