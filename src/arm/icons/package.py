"""The npm package `@iconify/json`: its sets, their licences, and their icons as SVG.

    collections.json   of each set its name, author, licence, category, and whether it has colours
    json/SET.json      icons: name -> body of an SVG; aliases: other names; categories: of what an icon is

Only sets under permissive licences, by their own SPDX field, are read; logos, programming brands, flags and what a
set hides are not. Icons of brands, letters and digits are recognised by their names.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arm.errors import DataError, InputError, did_you_mean, shown
from arm.files import read_json_object, write_text
from arm.icons.names import BADGES, EMOJI_SETS, IconName, parse_name

LICENCES = frozenset("MIT Apache-2.0 ISC CC0-1.0 Unlicense BSD-2-Clause BSD-3-Clause".split())
REFUSED_CATEGORIES = frozenset({"Logos", "Programming", "Flags / Maps"})
REFUSED_SETS = frozenset("flag flagpack cif circle-flags svg-spinners".split())
LEFT_OUT_SETS = frozenset(
    """famicons icons8 temaki maki bx bxs heroicons-outline heroicons-solid uis uim uit eos-icons geo ginetex
    medical-icon formkit codex line-md meteocons glyphs duo-icons iwwa ei bytesize mi quill nimbus sidekickicons
    cuida meteor-icons wpf raphael foundation fontisto weui fluent-color noto noto-v1""".split()
)
"""Forks of other sets, sets of few icons and sets too fine for 64 px. Read only where they are asked for."""
LOGO_SETS = (
    "simple-icons cib bxl logos devicon fa6-brands fa7-brands entypo-social streamline-logos skill-icons token"
).split()
MAX_ASPECT = 1.25
UNSAFE_SVG = re.compile(
    r"<!|<\?|<\s*(?:script|image|foreignobject|iframe|style|text|animate|set\b)|\son[a-z]+\s*=|"
    r"href\s*=\s*[\"'](?!#)|url\(\s*[\"']?(?!#)|@import",
    re.IGNORECASE,
)
"""Scripts, references to anything outside of the icon, pictures in pictures, text (its font is unknown), movement."""

KNOWN_BRANDS = frozenset(
    """facebook twitter github google instagram youtube android linkedin html5 telegram windows paypal gitlab discord
    tiktok whatsapp dribbble reddit pinterest slack figma snapchat behance dropbox spotify skype codepen npm twitch
    tumblr wordpress linux chrome wechat mastodon react vimeo amazon microsoft soundcloud trello css3 javascript
    typescript adobe docker creativecommons nintendo steam vuejs vue php python java patreon intercom visa mastercard
    messenger safari blogger vk quora ethereum firefox ubuntu alipay stripe weibo foursquare bitbucket bootstrap nodejs
    bluesky xbox laravel stackoverflow wikipedia yahoo playstation yarn claude gemini notion flickr unsplash yelp bing
    ipad iphone chromecast flutter deviantart kubernetes netflix perplexity airbnb openai qq nextjs producthunt framer
    shopify angular aws drupal firebase graphql bilibili copilot baidu svelte taobao vercel bitcoin litecoin dogecoin
    monero anthropic ibm tencent lastfm evernote zhihu instapaper douban appstore playstore ios macos apple airdrop
    tailwind sass hangouts uber viber periscope meetup etsy imdb joomla magento mongodb mysql postgresql oracle
    kickstarter blackberry hackernews squarespace internetexplorer tesla nvidia intel kotlin rust django redux
    applepay googlepay googleplay opera thunderbird kickstarter gumroad roblox substack coinbase""".split()
)
ORDINARY_WORDS = frozenset(
    """close equal files voice send email anchor zoom eraser scan planet backpack flask cast step swap task route
    layer replay passport mailbox axe brackets mute loader polygon magic node spa safe blur desk loop campfire
    component burger tower vault stars sphere root metro shadow stream fold seat path dash source glass section
    compose status flood railway segment token alpha beta gamma delta fuel trace gas paid local progress prism razor
    area honey tips flow mention flight fort grain motion toll launch hook spotlight baseline grape meter ripple smart
    blossom lotus dome belt socks palm red buffer mode skeleton sprint shortcut matrix purse cap element gravity shell
    socket bean maze idea vine rail brick fiber fluid keep ramp release valve lens billboard rake silo horizon origami
    rest waffle sail hop ram sand boots racket mix abstract floor matter tile stacks aurora comma crowd fuse ice
    incident modal parcel pond sequence session spring waypoint hair kick spark chain trade blueprint chef hoodie maps
    mixer thread transmission bricks harbor front dust cable rss usb wifi bluetooth moon""".split()
)
"""Names of brands that are also names of things."""
LETTERS = re.compile(
    r"letter|alpha|alphabet|number|numbers|numeric|keycap|latin|cyrillic|hiragana|katakana|mahjong|language|otfeature|"
    r"ideograph|roman|greek|digit|input-latin|japanese|heading|h[1-6]|looks|filetype|fps|cjkunifiedideograph"
)
SIZE_ORDER = ("none", "24", "20", "28", "32", "16", "48", "14", "12", "10", "96", "24px")
"""Of drawings that differ in size alone the first of these is kept."""


@dataclass(frozen=True)
class IconSet:
    """A set as collections.json describes it. `colour`: its icons have colours of their own."""

    prefix: str
    name: str
    author: str
    author_url: str
    licence: str
    licence_url: str
    version: str
    colour: bool

    @property
    def spoken(self) -> str:
        """The name as prompts have it: "material symbols light"."""
        return re.sub(r"[^a-z0-9]+", " ", self.name.lower()).strip()


@dataclass(frozen=True)
class SetContents:
    """svgs: by name, those that may be rendered. aliases: other name -> name. categories: name -> its categories.
    refused: how many icons were left out, by reason.
    """

    svgs: dict[str, str]
    aliases: dict[str, str]
    categories: dict[str, tuple[str, ...]]
    refused: Counter[str]


def package_folder(path: Path) -> Path:
    """The folder of collections.json. Raises InputError where there is none."""
    for folder in (path, path / "package"):
        if (folder / "collections.json").is_file() and (folder / "json").is_dir():
            return folder
    raise InputError(
        f"{shown(str(path))} holds no collections.json; give the folder `package` that "
        "`npm pack @iconify/json` and `tar xf iconify-json-*.tgz` make"
    )


def read_sets(package: Path, chosen: Sequence[str] = ()) -> dict[str, IconSet]:
    """The sets that may be used, by prefix: those of `chosen`, else all but `LEFT_OUT_SETS`.

    Raises InputError for a chosen set that is not there or may not be used, with the reason.
    """
    sets, reasons = {}, {}
    for prefix, entry in read_json_object(package / "collections.json", DataError).items():
        licence = entry.get("license") or {}
        if licence.get("spdx") not in LICENCES:
            reasons[prefix] = f"has the licence {licence.get('spdx') or licence.get('title')}"
        elif entry.get("hidden"):
            reasons[prefix] = "is hidden by the package"
        elif entry.get("category") in REFUSED_CATEGORIES or prefix in REFUSED_SETS:
            reasons[prefix] = "holds logos, flags or animations"
        elif not entry.get("category"):
            reasons[prefix] = "has no category, as sets that are no longer kept"
        else:
            author = entry.get("author") or {}
            sets[prefix] = IconSet(
                prefix,
                str(entry.get("name") or prefix),
                str(author.get("name") or ""),
                str(author.get("url") or ""),
                licence["spdx"],
                str(licence.get("url") or ""),
                str(entry.get("version") or ""),
                bool(entry.get("palette")),
            )
    for prefix in chosen:
        if prefix in reasons:
            raise InputError(f"the set {shown(prefix)} may not be used: it {reasons[prefix]}")
        if prefix not in sets:
            raise InputError(
                f"the package has no set {shown(repr(prefix))}.{did_you_mean(prefix, sets)}"
            )
    names = sorted(set(chosen) or sets.keys() - LEFT_OUT_SETS)
    return {prefix: sets[prefix] for prefix in names}


def read_icons(package: Path, prefix: str) -> SetContents:
    """The icons of a set as square SVGs, without those that are hidden, unsafe to render, or far from square."""
    data = read_json_object(package / "json" / f"{prefix}.json", DataError)
    svgs, refused = {}, Counter[str]()
    for name, icon in data.get("icons", {}).items():
        width = float(icon.get("width", data.get("width", 16)))
        height = float(icon.get("height", data.get("height", 16)))
        left, top = (float(icon.get(side, data.get(side, 0))) for side in ("left", "top"))
        body = icon.get("body", "")
        if icon.get("hidden"):
            refused["hidden"] += 1
        elif not (math.isfinite(left + top) and 0 < width < 1e6 and 0 < height < 1e6):
            refused["size"] += 1
        elif not 1 / MAX_ASPECT <= width / height <= MAX_ASPECT:
            refused["not square"] += 1
        elif UNSAFE_SVG.search(body):
            refused["text, movement or references"] += 1
        else:
            side = max(width, height)
            box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
            svgs[name] = wrap_svg(body, box)
    categories: dict[str, tuple[str, ...]] = {}
    for category, names in (data.get("categories") or {}).items():
        for name in names:
            categories[name] = (*categories.get(name, ()), category.lower())
    aliases = {
        name: alias["parent"]
        for name, alias in (data.get("aliases") or {}).items()
        if alias["parent"] in svgs
        and not alias.keys() & {"hFlip", "vFlip", "rotate", "hidden", "width", "height"}
    }
    return SetContents(svgs, aliases, categories, refused)


def wrap_svg(body: str, view_box: str = "0 0 24 24") -> str:
    """A whole SVG with the elements of `body`; `currentColor` is black unless its `color` is replaced."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view_box}" color="#000000">{body}</svg>'
    )


def brand_names(package: Path) -> Counter[str]:
    """In how many of the package's sets of logos each name stands, letters and digits alone."""
    counts: Counter[str] = Counter()
    for prefix in LOGO_SETS:
        path = package / "json" / f"{prefix}.json"
        if path.is_file():
            names = read_json_object(path, DataError).get("icons", {})
            counts.update({re.sub(r"-(icon|plain|solid|block|dark|light)$", "", n) for n in names})
    joined: Counter[str] = Counter()
    for name, count in counts.items():
        joined[name.replace("-", "")] += count
    return joined


def is_brand(set_name: str, name: IconName, brands: Mapping[str, int], num_sets: int) -> bool:
    """Whether a name is that of a company or product. num_sets: sets that have the content."""
    if set_name in EMOJI_SETS:
        return False
    content = list(name.content)
    joined = "".join(content)
    marks = {"brand", "brands", "logo", "logos", "social"}
    if len(content) > 1 and (content[0] in marks or content[-1] in marks):
        return True
    if content[0] in KNOWN_BRANDS or joined in KNOWN_BRANDS:
        return True
    ordinary = joined in ORDINARY_WORDS or joined in BADGES or len(joined) <= 3
    return brands.get(joined, 0) >= 3 and num_sets < 12 and not ordinary


def is_letter(name: IconName) -> bool:
    """Whether an icon shows letters or digits, which are drawn by knowing a font rather than a thing."""
    if LETTERS.fullmatch(name.content[0]):
        return True
    short = r"[a-wyz]|\d+|[a-z]{1,2}\d|\d+[a-z]{1,3}"
    return all(re.fullmatch(short, word) for word in name.content)


def kept_names(
    parsed: Mapping[str, Mapping[str, IconName]], brands: Mapping[str, int]
) -> tuple[dict[str, list[str]], Counter[str]]:
    """By set, the names of icons that are no brand, no letter, no mirror for writing from right to left, and of
    those that differ in size alone one. parsed: set -> name -> what it says. Also how many were left out, by reason.
    """
    sets_of: dict[str, set[str]] = {}
    for prefix, names in parsed.items():
        for name in names.values():
            sets_of.setdefault(name.phrase, set()).add(prefix)
    kept: dict[str, list[str]] = {}
    dropped: Counter[str] = Counter()
    for prefix, names in parsed.items():
        chosen: dict[object, tuple[int, str]] = {}
        for text, name in names.items():
            if name.right_to_left:
                dropped["right to left"] += 1
            elif is_letter(name):
                dropped["letters"] += 1
            elif is_brand(prefix, name, brands, len(sets_of[name.phrase])):
                dropped["brands"] += 1
            else:
                key = (name.concept(), name.variant, name.fill, name.weight, name.corner)
                rank = SIZE_ORDER.index(name.size or "none"), text
                dropped["another size"] += key in chosen
                chosen[key] = min(chosen.get(key, rank), rank)
        kept[prefix] = sorted(text for _, text in chosen.values())
    return kept, dropped


def parse_names(prefix: str, names: Collection[str]) -> dict[str, IconName]:
    """The names of a set, parsed."""
    known = frozenset(names)
    return {name: parse_name(prefix, name, known) for name in names}


def write_attribution(sets: Iterable[IconSet], counts: Mapping[str, int], path: Path) -> None:
    """A table of the sets in use: who made them, under which licence, where, and how many icons are used."""
    head = "prefix name author author_url licence licence_url version icons".split()
    text = io.StringIO()
    lines = csv.writer(text, delimiter="\t", lineterminator="\n")
    lines.writerow(head)
    for s in sets:
        row = (s.prefix, s.name, s.author, s.author_url, s.licence, s.licence_url, s.version)
        lines.writerow([*row, counts.get(s.prefix, 0)])
    write_text(text.getvalue(), path)
