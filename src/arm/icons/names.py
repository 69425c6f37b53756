"""The name of an icon -> what it shows and in which style: "bell-plus-fill" is a filled bell with a plus.

Words have the meaning that their set gives them: `material-symbols` draws filled where a name says nothing,
`line` is a style in a few sets and a thing in the others (chart-line). The tables below were checked by eye on
samples of every set; of 200 random names 9 were parsed wrongly in some field, at most one of them in its style.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

Fill = Literal["outline", "filled", "duotone", "twotone"]


def synonym_table(text: str) -> dict[str, str]:
    """ "plus: add new; minus: remove" -> every word, its canonical word included, to the canonical word."""
    table = {}
    for entry in text.split(";"):
        canonical, _, others = entry.partition(":")
        for word in (canonical.strip(), *others.split()):
            table[word] = canonical.strip()
    return table


FILLS: dict[str, Fill] = {
    "outline": "outline",
    "outlined": "outline",
    "line": "outline",
    "linear": "outline",
    "stroke": "outline",
    "stroked": "outline",
    "fill": "filled",
    "filled": "filled",
    "solid": "filled",
    "duotone": "duotone",
    "duo": "duotone",
    "twotone": "twotone",
}
LINE_IS_A_STYLE = frozenset("mingcute ri si majesticons clarity ix system-uicons".split())
DEFAULT_FILL: dict[str, Fill] = {
    **dict.fromkeys(
        """material-symbols material-symbols-light mdi bxs uis heroicons-solid icon-park-solid ion famicons weui
        healthicons maki temaki pinhead osmic zondicons foundation raphael vaadin fontisto oi wpf medical-icon ooui
        fluent-emoji-high-contrast glyphs uiw""".split(),
        "filled",
    ),
    "icon-park-twotone": "twotone",
    "uim": "duotone",
    "duo-icons": "duotone",
}
"""The fill of icons whose name says none; "outline" for sets that are not here."""
WEIGHTS = {
    "ph": ("thin", "light", "bold"),
    "iconmind": ("thin", "regular", "bold"),
    "glyphs": ("bold",),
    "stash": ("light",),
    "fluent": ("light", "regular"),
    "ep": ("bold",),
}
SHORT_STYLES: dict[str, tuple[str, Fill, frozenset[str]]] = {
    "f": ("fill", "filled", frozenset({"jam"})),
    "o": ("fill", "outline", frozenset("vaadin uiw gg iwwa pajamas fe la".split())),
}
"""Last letters that are a style: letter -> field, value, sets."""
SIZES = frozenset("10 12 14 16 20 24 28 32 48 96 24px".split())
SIZED_SETS = frozenset(
    """fluent octicon garden qlementine-icons osmic fluent-color heroicons sidekickicons healthicons
    fluent-mdl2""".split()
)
STYLE_INSIDE = {"bi": "fill", "ri": "fill", "carbon": "filled"}
"""Sets whose style may stand before the badge, as in person-fill-add."""
GOOGLE_PREFIXES: dict[str, tuple[Fill, str | None]] = {
    "baseline": ("filled", None),
    "outline": ("outline", None),
    "round": ("filled", "rounded"),
    "sharp": ("filled", "sharp"),
    "twotone": ("twotone", None),
}
EMOJI_SETS = frozenset("noto noto-v1 fluent-emoji-flat fluent-emoji-high-contrast fxemoji".split())
TONES = ("medium-light", "medium-dark", "light", "dark", "medium")

BADGES = synonym_table(
    """plus: add new added create; minus: remove subtract dash removed;
    x: xmark close cancel cancelled canceled cross dismiss times;
    check: checkmark tick done checked checks ok verified complete completed success; lock: locked secure;
    unlock: unlocked; search: find magnify searching zoom; heart: favorite favorites love favourite;
    star: starred; cog: settings gear config setting configuration;
    alert: warning exclamation important alerted attention caution danger; info: information;
    question: help unknown; clock: time schedule history timer; edit: pencil pen write; download: downloading;
    upload; share: shared; sync: refresh reload repeat update; user: account person people profile;
    dollar: money usd currency; code; bolt: lightning flash zap; ai: sparkle sparkles; link; shield;
    eye: view visible; pause; play; stop; key; pin: location; bell: notification badged; music;
    image: photo picture; text; bookmark; home: house; wifi; percent; list; dot: dots; at;
    ban: prohibited forbidden; block: blocked; error; bug"""
)
STRIKES = frozenset("off slash disabled slashed crossed mute muted".split())
ENCLOSURES = synonym_table(
    """circle: circled; square: box squared; rectangle: rect; hexagon; octagon; diamond; triangle; pentagon;
    wavy: waves seal"""
)
LEADING_ENCLOSURES = frozenset("circle square hexagon octagon diamond".split())
DIRECTIONS = synonym_table(
    """up: top upward upwards north; down: bottom downward downwards south; left: back west;
    right: forward east; horizontal: h; vertical: v; incoming; outgoing; in; out"""
)
STATES = synonym_table("open: opened; closed: shut; on: active; inactive")
LEVELS = frozenset("empty full half low medium high quarter".split())
NUMBERS: dict[str, int] = dict(
    zip("zero one two three four five six seven eight nine ten".split(), range(11), strict=True)
)
VARIANTS = frozenset("alt variant small sm large lg xs mini xl big outer inner simple 2x".split())
WHOLE_PHRASES = frozenset(
    """plus-minus minus-plus check-in check-out follow-up sign-in log-in sign-out log-out sign-up thumb-up
    thumbs-up""".split()
)
"""Two words that are one thing, so that the second is no badge and no direction."""


@dataclass(frozen=True)
class IconName:
    """What a name says. `content`, the thing itself, has at least one word; badges, enclosure, direction, state,
    level and count are canonical words in the order of the name; None and () where the name is silent.
    """

    content: tuple[str, ...]
    badges: tuple[str, ...] = ()
    struck: bool = False
    enclosure: tuple[str, ...] = ()
    direction: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    level: tuple[str, ...] = ()
    count: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    fill: Fill = "outline"
    weight: str | None = None
    corner: str | None = None
    size: str | None = None
    right_to_left: bool = False
    tone: str | None = None
    gender: str | None = None

    @property
    def phrase(self) -> str:
        """The content as words: "shopping cart"."""
        return " ".join(self.content)

    def concept(self) -> tuple[object, ...]:
        """Everything but style and variant: equal for the style variants of one icon."""
        return (
            self.content,
            self.badges,
            self.struck,
            self.enclosure,
            self.direction,
            self.state,
            self.level,
            self.count,
            self.tone,
            self.gender,
        )

    def modifiers(self) -> Iterator[str]:
        """The words that can be combined with other contents: "plus", "struck", "in circle", "left", ..."""
        yield from self.badges
        yield from ("struck",) * self.struck
        yield from (f"in {shape}" for shape in self.enclosure)
        yield from self.direction


def parse_name(set_name: str, name: str, names_of_set: Collection[str] = ()) -> IconName:
    """What the icon `name` of a set shows. names_of_set: the other names, which tell skin tones from words."""
    words, parsed = _without_tone(set_name, name.replace("two-tone", "twotone"), names_of_set)
    if set_name in EMOJI_SETS - {"fxemoji"} and len(words) > 1:
        if words[0] in ("man", "woman", "person"):
            parsed, words = replace(parsed, gender=words[0]), words[1:]
    if set_name == "ic" and len(words) > 1 and words[0] in GOOGLE_PREFIXES:
        fill, corner = GOOGLE_PREFIXES[words[0]]
        parsed, words, styled = replace(parsed, fill=fill, corner=corner), words[1:], True
    else:
        words, parsed, styled = _without_style(set_name, words, parsed)
    words, parsed = _without_variant(set_name, words, parsed)
    inside = STYLE_INSIDE.get(set_name)
    if len(words) > 2 and inside in words[1:]:
        words.remove(inside)
        parsed, styled = replace(parsed, fill="filled"), True
    if not styled:
        parsed = replace(parsed, fill=DEFAULT_FILL.get(set_name, "outline"))
    return _content_and_modifiers(set_name, _joined_marks(words), parsed)


def _without_tone(
    set_name: str, name: str, names_of_set: Collection[str]
) -> tuple[list[str], IconName]:
    """The words of a name without the skin tone that sets of emoji end it with."""
    suffix = {"noto": "-skin-tone", "noto-v1": "-skin-tone", "fluent-emoji-flat": ""}.get(set_name)
    for tone in TONES if suffix is not None else ():
        base = name.removesuffix(f"-{tone}{suffix}")
        if base != name and (suffix or base in names_of_set):
            return base.split("-"), IconName((), tone=tone)
    return [word for word in name.split("-") if word] or [name], IconName(())


def _without_style(
    set_name: str, words: list[str], parsed: IconName
) -> tuple[list[str], IconName, bool]:
    """Takes corner, fill, weight, size and direction of writing from the end of a name, in any order.

    The last value says whether a fill was among them.
    """
    words, styled = list(words), False
    while len(words) > 1:
        last = words[-1]
        if last in ("rounded", "sharp") and parsed.corner is None:
            parsed = replace(parsed, corner=last)
        elif last in FILLS and not styled and (last != "line" or set_name in LINE_IS_A_STYLE):
            parsed, styled = replace(parsed, fill=FILLS[last]), True
        elif last in SHORT_STYLES and set_name in SHORT_STYLES[last][2]:
            parsed, styled = replace(parsed, fill=SHORT_STYLES[last][1]), True
        elif last == "r" and set_name == "gg":
            parsed = replace(parsed, corner="rounded")
        elif last in WEIGHTS.get(set_name, ()) and parsed.weight is None:
            parsed = replace(parsed, weight=last)
        elif last in SIZES and set_name in SIZED_SETS and parsed.size is None:
            parsed = replace(parsed, size=last)
        elif last in ("rtl", "ltr"):
            parsed = replace(parsed, right_to_left=last == "rtl")
        else:
            break
        words.pop()
    return words, parsed, styled


def _without_variant(
    set_name: str, words: list[str], parsed: IconName
) -> tuple[list[str], IconName]:
    """Takes what only numbers the drawings of one thing from the end of a name: bell-2, user-alt."""
    if set_name in EMOJI_SETS:
        return words, parsed
    words, variant = list(words), []
    numbered = set_name.startswith("icon-park")
    while len(words) > 1 and (
        re.fullmatch(r"0?\d", words[-1])
        or words[-1] in VARIANTS
        or (numbered and words[-1] in NUMBERS)
    ):
        variant.insert(0, words.pop())
    match = re.fullmatch(r"([a-z]{3,})(\d)", words[-1])
    if match and not variant and set_name in ("reicon", "bytesize", "gg"):
        words[-1], variant = match[1], [match[2]]
    return words, replace(parsed, variant=tuple(variant))


def _joined_marks(words: list[str]) -> list[str]:
    """Without "mark" after question, exclamation, check and x, and without a digit that ends a long word."""
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word != "mark" or before not in ("question", "exclamation", "check", "x")
    ]
    return [re.sub(r"^([a-z]{4,})\d$", r"\1", word) for word in kept]


def _content_and_modifiers(set_name: str, words: list[str], parsed: IconName) -> IconName:
    """Sorts the words that are left into the thing and what is said of it."""
    emoji = set_name in EMOJI_SETS
    fields: dict[str, list[str]] = {
        name: [] for name in ("badges", "enclosure", "direction", "state", "level", "count")
    }
    struck = False
    leads = len(words) > 1 and words[0] in LEADING_ENCLOSURES and not emoji
    if leads and not (len(words) == 2 and words[1] in LEVELS):
        fields["enclosure"].append(ENCLOSURES[words[0]])
        words = words[1:]
    if len(words) > 1 and words[0] == "no" and not emoji:
        struck, words = True, words[1:]
    if len(words) > 1 and words[-1] == "multiple":
        fields["count"].append("multiple")
        words = words[:-1]
    if "-".join(words) in WHOLE_PHRASES:
        content, rest = words, []
    else:
        content, rest = words[:1], words[1:]
    for place, word in enumerate(rest):
        following = rest[place + 1] if place + 1 < len(rest) else None
        modifies = following is None or any(
            following in known for known in (DIRECTIONS, ENCLOSURES, BADGES, STRIKES)
        )
        if word in ("up", "in", "out", "back") and not modifies:
            content.append(word)
        elif word in ENCLOSURES:
            fields["enclosure"].append(ENCLOSURES[word])
        elif word in DIRECTIONS:
            fields["direction"].append(DIRECTIONS[word])
        elif word in STRIKES:
            struck = True
        elif word in STATES:
            fields["state"].append(STATES[word])
        elif word in LEVELS:
            fields["level"].append(word)
        elif word in NUMBERS or word.isdigit():
            fields["count"].append(str(NUMBERS.get(word, word)))
        elif word in BADGES and all(
            later in ENCLOSURES or later in DIRECTIONS or later in BADGES or later in STATES
            for later in rest[place + 1 :]
        ):
            fields["badges"].append(BADGES[word])
        else:
            content.append(word)
    lists = {name: tuple(values) for name, values in fields.items()}
    return replace(parsed, content=tuple(content), struck=struck, **lists)
