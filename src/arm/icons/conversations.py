"""A corpus of icons -> conversations of every task, with several phrasings each.

A draft's kind is "task.what" ("edit.badge-add"); its pictures are numbers of icons, or a number and a colour. A split has
drafts whose pictures of the assistant, and whose asked pictures, belong to it; the source of a tested edit may be any icon
of which the target is not trained on. A training draft has training icons alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from arm.data.conversation import PLACEHOLDER
from arm.icons.corpus import Corpus
from arm.icons.names import EMOJI_SETS, IconName
from arm.icons.pairs import Pair

Split = Literal["train", "dev", "test"]
Picture = tuple[int, str]
"""An icon by its number, and the colour that `currentColor` has: "" for black or the icon's own colours."""

COLOURS = {
    "red": (214, 39, 40),
    "orange": (245, 130, 32),
    "yellow": (222, 184, 0),
    "green": (30, 140, 60),
    "blue": (31, 90, 200),
    "purple": (130, 60, 170),
    "pink": (230, 90, 160),
    "brown": (130, 80, 40),
}
SPOKEN_BADGES = {
    "plus": "plus",
    "minus": "minus",
    "x": "cross",
    "check": "check mark",
    "cog": "gear",
    "alert": "exclamation mark",
    "question": "question mark",
    "info": "info sign",
    "ai": "sparkle",
    "dollar": "dollar sign",
    "at": "at sign",
    "percent": "percent sign",
    "edit": "pencil",
    "sync": "refresh arrow",
    "search": "magnifier",
    "unlock": "open lock",
    "bolt": "lightning bolt",
    "download": "download arrow",
    "upload": "upload arrow",
    "share": "share sign",
    "ban": "prohibition sign",
    "block": "block sign",
    "error": "error sign",
    "code": "code sign",
    "pause": "pause sign",
    "play": "play sign",
    "stop": "stop sign",
}
SPOKEN_STYLES = {
    "outline": "outlined",
    "filled": "filled",
    "duotone": "duotone",
    "twotone": "duotone",
}
POINTING = frozenset(
    "arrow arrows chevron chevrons caret angle triangle hand pointer cursor finger point".split()
)
CAPS = {
    "draw.icon": 92_000,
    "edit.badge-add": 6_000,
    "edit.badge-remove": 3_000,
    "edit.badge-swap": 14_000,
    "edit.fill": 6_000,
    "edit.outline": 6_000,
    "edit.direction": 8_000,
    "edit.weight": 5_000,
    "edit.enclose": 3_000,
    "edit.enclosure-swap": 3_000,
    "edit.strike": 2_000,
    "edit.unstrike": 900,
    "edit.corner": 2_000,
    "edit.duotone": 2_000,
    "edit.level": 500,
    "edit.open": 500,
    "edit.multiple": 250,
    "edit.tone": 1_000,
    "edit.colour": 3_000,
    "edit.redraw": 15_000,
    "ask.what": 14_000,
    "ask.fill": 8_000,
    "ask.badge-yes-no": 5_000,
    "ask.badge": 4_000,
    "ask.struck": 3_000,
    "ask.direction": 2_500,
    "ask.enclosure": 2_000,
    "ask.colour": 2_000,
    "chain.draw-ask-edit-ask": 6_000,
    "text.synonym": 3_000,
    "text.category": 3_000,
    "draw.synonym": 3_000,
}
"""The most training drafts of a kind; `Settings.records_scale` multiplies them."""
TEST_CAPS = {"train": 1.0, "dev": 0.02, "test": 0.05}
LEAST_TEST_CAP = 300
PER_CONCEPT, PER_CONTENT = 3, 12
"""The most drafts of a kind for one (set, concept) and for one (set, content)."""


@dataclass(frozen=True)
class Draft:
    """A conversation that is not yet written. turns: the user's and the assistant's in turn, pictures among words;
    one turn alone is a document. set_name: of the last picture, or "" of text.
    """

    kind: str
    turns: tuple[tuple[str | Picture, ...], ...]
    set_name: str
    icon: str
    reason: str


def styled_prompt(name: IconName, rng: np.random.Generator, set_name: str = "") -> str:
    """Words for a picture of `name`: what it shows, then its style, and the set's name where it is given."""
    thing = describe(name)
    style = [SPOKEN_STYLES[name.fill]] if rng.random() < 0.8 else []
    if name.weight not in (None, "regular"):
        style.append(str(name.weight))
    style += [f"{name.corner} corners"] if name.corner else []
    if len(style) == 1 and rng.random() < 0.3:
        text = f"{style[0]} {thing}"
    else:
        text = ", ".join([choose(rng, ("{}", "icon of {}", "draw {}", "{}")).format(thing), *style])
    return f"{text}, in the style of {set_name}" if set_name else text


def describe(name: IconName) -> str:
    """What an icon shows, without its style: "bell with a plus in a circle, struck through"."""
    words = [*(f"{tone} skin tone" for tone in (name.tone,) if tone), name.gender or ""]
    words += [*name.state, *name.level, name.phrase]
    if name.direction:
        turned = " ".join(name.direction)
        words.append(f"pointing {turned}" if name.content[0] in POINTING else turned)
    words += ["several" if count == "multiple" else count for count in name.count]
    for badge in name.badges:
        words.append(f"with {with_article(SPOKEN_BADGES.get(badge, badge))}")
    words += [f"in {with_article(shape)}" for shape in name.enclosure]
    return " ".join(word for word in words if word) + (", struck through" if name.struck else "")


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeio" else f"a {noun}"


def choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def edit_instruction(kind: str, step: tuple[str, str], pointing: bool) -> Sequence[str]:
    """Phrasings of an edit. kind: as "badge-add"; step: what is there before and after."""
    before, after = (SPOKEN_BADGES.get(word, word) for word in step)
    if kind == "direction" and pointing:
        return (f"make it point {after}", f"turn it from {before} to {after}", f"point it {after}")
    options: dict[str, Sequence[str]] = {
        "badge-add": (
            f"add {with_article(after)}" if after else "",
            f"put {with_article(after)} on it" if after else "",
            f"the same with {with_article(after)}" if after else "",
        ),
        "badge-remove": (f"remove the {before}", f"take the {before} away"),
        "badge-swap": (
            f"replace the {before} with {with_article(after)}" if after else "",
            f"turn the {before} into {with_article(after)}" if after else "",
        ),
        "strike": ("strike it through", "cross it out", "add a slash through it"),
        "unstrike": ("remove the slash", "it is no longer crossed out"),
        "enclose": (
            f"put it in {with_article(after)}" if after else "",
            f"enclose it in {with_article(after)}" if after else "",
        ),
        "enclosure-swap": (
            f"replace the {before} around it with {with_article(after)}" if after else "",
            f"make the {before} {with_article(after)}" if after else "",
        ),
        "fill": ("fill it in", "make it filled", "the filled version"),
        "outline": ("make it outlined", "only the outline", "the outlined version"),
        "duotone": ("make it duotone", "draw it in two tones"),
        "weight": (f"make it {after}", f"make the strokes {after}", f"change {before} to {after}"),
        "corner": (f"make the corners {after}", f"the same with {after} corners"),
        "direction": (f"change {before} to {after}", f"make it {after} instead of {before}"),
        "level": (f"make it {after}", f"change {before} to {after}"),
        "open": (f"make it {after}", f"it should be {after}"),
        "multiple": ("make it several", "show several of them"),
        "tone": (f"give it a {after} skin tone", f"make the skin {after}"),
        "colour": (f"make it {after}", f"color it {after}", f"paint it {after}"),
        "redraw": (f"redraw it in the style of {after}", f"draw it as {after} would"),
    }
    return options[kind]


ADDED = {"badge": "badge-add", "swap": "badge-swap"}
REVERSED = {"badge": "badge-remove", "swap": "badge-swap", "strike": "unstrike", "fill": "outline"}
REVERSED |= {kind: kind for kind in ("direction", "enclosure-swap", "weight", "level")}
"""Kinds of pairs that are used from target to source too, under the name of that edit."""


class Writer:
    """Makes the drafts of one split, deterministic by `seed`."""

    def __init__(self, corpus: Corpus, split: Split, seed: int, scale: float) -> None:
        self.corpus, self.split = corpus, split
        self.rng = np.random.default_rng((seed, ("train", "dev", "test").index(split)))
        self.scale = scale
        self.member = [s == split for s in corpus.assignment.split]
        hidden = {"train": ("dev", "test", "purged"), "dev": ("test",), "test": ()}[split]
        self.usable = [s not in hidden for s in corpus.assignment.split]

    def select(self, drafts: Iterable[Draft]) -> list[Draft]:
        """Drafts in random order, of each kind at most as many as its caps allow."""
        by_kind: dict[str, list[Draft]] = defaultdict(list)
        for draft in drafts:
            by_kind[draft.kind].append(draft)
        chosen = [draft for kind in sorted(by_kind) for draft in self._capped(by_kind[kind])]
        return [chosen[i] for i in self.rng.permutation(len(chosen))]

    def _capped(self, drafts: list[Draft]) -> list[Draft]:
        """Random drafts of one kind, at most so many as its cap and the caps of concept and content allow.

        Rounds over the contents, so that a common thing does not take the place of rare ones.
        """
        cap = int(CAPS[drafts[0].kind] * TEST_CAPS[self.split] * self.scale)
        cap = cap if self.split == "train" else max(cap, LEAST_TEST_CAP)
        seen: Counter[tuple[str, str]] = Counter()
        rounds: list[tuple[int, int, Draft]] = []
        for order, i in enumerate(self.rng.permutation(len(drafts))):
            draft = drafts[i]
            key = (draft.set_name, draft.icon.split("/")[0])
            seen[key] += 1
            if draft.kind.startswith("text") or seen[key] <= PER_CONTENT:
                rounds.append((seen[key], order, draft))
        return [draft for _, _, draft in sorted(rounds, key=lambda r: r[:2])[:cap]]

    def numbers(self) -> Iterator[int]:
        return (i for i, member in enumerate(self.member) if member)

    def draft(self, kind: str, number: int, *turns: tuple[str | Picture, ...]) -> Draft:
        corpus = self.corpus
        label = f"{corpus.names[number].phrase}/{corpus.spelled[number]}"
        reason = corpus.assignment.reason[number]
        return Draft(kind, turns, corpus.set_of[number], label, reason)

    def drawings(self) -> Iterator[Draft]:
        corpus, seen = self.corpus, Counter[object]()
        for i in self.numbers():
            name, set_name = corpus.names[i], corpus.set_of[i]
            if not corpus.named[i] or corpus.duplicate[i] or name.variant:
                continue
            seen[set_name, name.concept()] += 1
            if seen[set_name, name.concept()] > PER_CONCEPT:
                continue
            whole_set = corpus.assignment.reason[i] == "set"
            spoken = "" if whole_set or self.rng.random() < 0.5 else corpus.sets[set_name].spoken
            prompt = styled_prompt(name, self.rng, spoken)
            yield self.draft("draw.icon", i, (prompt,), ((i, ""),))

    def edit_steps(self) -> Iterator[tuple[str, int, int, tuple[str, str]]]:
        """The edits of this split: kind, source, target, and what changes; backwards too where that is determined."""
        for pair in self.corpus.pairs:
            before, after = pair.step
            directions = [(ADDED.get(pair.kind, pair.kind), pair.source, pair.target, pair.step)]
            if pair.kind in REVERSED:
                back = (after, before)
                directions.append((REVERSED[pair.kind], pair.target, pair.source, back))
            for kind, source, target, step in directions:
                inside = self.member[source] if self.split == "train" else self.usable[source]
                if self.member[target] and inside:
                    yield kind, source, target, step

    def edits(self) -> Iterator[Draft]:
        corpus, rng = self.corpus, self.rng
        sets = corpus.sets
        for kind, source, target, step in self.edit_steps():
            if kind == "redraw":
                step = (sets[step[0]].spoken, sets[step[1]].spoken)
            text = self.instruct(kind, step, target)
            yield self.draft(f"edit.{kind}", target, ((source, ""), text), ((target, ""),))
            if kind in ("badge-add", "strike", "enclose") and rng.random() < 0.3:
                yield self.chain(kind, source, target, step)
        for i in self.numbers():
            if not corpus.is_colour(i) and rng.random() < 0.2:
                before = choose(rng, ("", "", *COLOURS))
                after = choose(rng, [c for c in COLOURS if c != before])
                text = self.instruct("colour", (before, after), i)
                yield self.draft("edit.colour", i, ((i, before), text), ((i, after),))

    def instruct(self, kind: str, step: tuple[str, str], target: int) -> str:
        pointing = self.corpus.names[target].content[0] in POINTING
        return choose(self.rng, edit_instruction(kind, step, pointing))

    def chain(self, kind: str, source: int, target: int, step: tuple[str, str]) -> Draft:
        """Draw, ask, edit, ask: the question is answered no before the edit, and yes after it."""
        questions = {
            "strike": "is it struck through?",
            "badge-add": f"is there {with_article(SPOKEN_BADGES.get(step[1], step[1] or 'x'))}?",
            "enclose": f"is it in {with_article(step[1] or 'x')}?",
        }
        return self.draft(
            "chain.draw-ask-edit-ask",
            target,
            (styled_prompt(self.corpus.names[source], self.rng),),
            ((source, ""),),
            (questions[kind],),
            ("no",),
            (self.instruct(kind, step, target),),
            ((target, ""),),
            (questions[kind],),
            ("yes",),
        )


def pairs_of_kind(corpus: Corpus, *kinds: str) -> Iterator[Pair]:
    return (pair for pair in corpus.pairs if pair.kind in kinds)


def is_emoji(corpus: Corpus, number: int) -> bool:
    return corpus.set_of[number] in EMOJI_SETS


def to_record(draft: Draft, number: int) -> tuple[dict[str, Any], list[Picture]]:
    """A draft as a record of `arm.data.conversation`, and its pictures in the order of their placeholders."""
    pictures: list[Picture] = []
    messages = []
    for turn, parts in enumerate(draft.turns):
        words = []
        for part in parts:
            if isinstance(part, str):
                words.append(part)
            else:
                words.append(PLACEHOLDER)
                pictures.append(part)
        user = turn % 2 == 0 and len(draft.turns) > 1
        messages.append({"role": "user" if user else "assistant", "content": " ".join(words)})
    spelled = draft.icon.split("/")[1]
    origin = f".{draft.set_name}:{spelled}" if draft.set_name else ""
    why = f".{draft.reason}" if draft.reason else ""
    return {"id": f"{draft.kind}{why}{origin}#{number}", "messages": messages}, pictures
