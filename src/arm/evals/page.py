"""A report as one HTML file that needs nothing from outside: scores, pictures, what the judge said."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from arm.evals.benchmarks.base import published_scores
from arm.evals.html import Cell, document, number, picture, table
from arm.judge.asking import in_words

MOST_ITEMS = 200
MOST_BYTES = 24_000_000
MOST_SAID = 4_000
"""Characters of a reply; a judge that takes no limit of tokens may write a book."""
FEW_DETAILS = 4


@dataclass(frozen=True)
class Said:
    """One question, where it is short enough to show, and its reply; None where that is missing."""

    asked: str
    reply: str | None


@dataclass(frozen=True)
class Made:
    """A picture that was made of an item, None where it is missing, and the verdicts on it. Of
    benchmarks that ask nothing is `drawn`, and the model's answer stands in the verdict's place.
    """

    path: Path | None
    said: tuple[Said, ...]
    drawn: bool = True


@dataclass(frozen=True)
class Shown:
    """One item on the page. `source`: the benchmark's own picture; `value`: its score, if it has one;
    `key`: under which key of the report's values that stands, "" where that is its name.
    """

    name: str
    text: str
    group: str
    source: Path | None
    made: tuple[Made, ...]
    value: float | None = None
    key: str = ""


def spread(items: Sequence[Shown], most: int) -> list[Shown]:
    """At most so many items, the groups in turn, so that all of them are seen."""
    groups: dict[str, list[Shown]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    deepest = max(map(len, groups.values()), default=0)
    turns = [g[depth] for depth in range(deepest) for g in groups.values() if depth < len(g)]
    return turns[:most]


def _said(said: Said) -> str:
    asked = f"<p>{escape(said.asked)}</p>" if said.asked else ""
    if said.reply is None:
        return f'{asked}<p class="bad">verdict missing</p>'
    cut = " ..." if len(said.reply) > MOST_SAID else ""
    return f"{asked}<pre>{escape(said.reply[:MOST_SAID])}{cut}</pre>"


def figures(item: Shown, made: Made, index: int) -> str:
    """The source and one picture of an item, each with a text for those who do not see it."""
    found = ""
    if item.source is not None:
        alt = f"picture that item {item.name} begins with"
        found += picture(item.source, alt, "source" if made.drawn else "asked about")
    if made.drawn:
        words = "edited" if item.source is not None else "drawn"
        alt = f"picture {words} for item {item.name}: {item.text[:160]}"
        many = f", {index + 1} of {len(item.made)}" if len(item.made) > 1 else ""
        found += picture(made.path, alt, f"{words}{many}")
    return found


def card(item: Shown, place: int) -> str:
    value = "" if item.value is None else f"{item.value:.6g}"
    score = '<span class="score bad">no score</span>'
    if item.value is not None:
        score = f'<span class="score">{item.value:.3g}</span>'
    made = "".join(
        f'<div class="made">{figures(item, m, k)}<div class="said">{"".join(map(_said, m.said))}</div></div>'
        for k, m in enumerate(item.made)
    )
    return (
        f'<article class="card" data-value="{value}" data-place="{place}" data-group="{escape(item.group)}">'
        f'<header><h3>{escape(item.name)}</h3><span class="chip">{escape(item.group)}</span>{score}</header>'
        f"<p>{escape(item.text)}</p>{made}</article>"
    )


def capped(items: Sequence[Shown], most: int, most_bytes: int) -> Iterator[str]:
    """The cards of items from all groups, until there are `most` or the page grows too heavy."""
    size = 0
    for place, item in enumerate(spread(items, most)):
        text = card(item, place)
        size += len(text)
        if size > most_bytes and place:
            return
        yield text


def _figure(value: str, words: str, kind: str = "") -> str:
    return f'<div class="figure"><b class="{kind}">{escape(value)}</b><span>{escape(words)}</span></div>'


def _headline(report: Mapping[str, Any]) -> str:
    overall, judge = report["overall"], report["judge"]
    low, high = overall["low"], overall["high"]
    share = report["missing_share"]
    found = _figure(f"{overall['value']:.3f}", f"score, 95 % interval {low:.3f} to {high:.3f}")
    found += _figure(
        f"{share:.1%}",
        f"of {report.get('verdicts', report['items']):,} verdicts missing",
        "bad" if share else "good",
    )
    if judge:
        found += _figure(judge["model"], "the judge")
    elif "detector" not in report:
        found += _figure("no judge", "scored without one")
    details = report["details"]
    if len(details) <= FEW_DETAILS:
        found += "".join(_figure(f"{value:.4g}", name) for name, value in details.items())
    return f'<div class="headline">{found}</div>'


def _details(report: Mapping[str, Any]) -> str:
    """What else the benchmark reports, where it is more than the headline can hold."""
    details = report["details"]
    if len(details) <= FEW_DETAILS:
        return ""
    rows = [(name, Cell(f"{value:.4g}", value)) for name, value in details.items()]
    return f"<h2>Details</h2>{table(('measure', 'value'), rows)}"


def _about(report: Mapping[str, Any]) -> str:
    """Who made the pictures, who judged them, and what that took."""
    lines = []
    made = report.get("made_by") or {}
    if made:
        said = ", ".join(f"{k} {str(v)[:16]}" for k, v in made.items() if k != "benchmark")
        lines.append(f"Made by: {said}.")
    judge = report["judge"] or {}
    lines += [f"Verdicts missing, {n:,}: {why}." for why, n in judge.get("missing", {}).items()]
    if judge.get("called_itself"):
        lines.append(f"The judge called itself {', '.join(judge['called_itself'])}.")
    if judge.get("asked"):
        lines.append(in_words(judge["asked"]))
    tokens = judge.get("tokens") or {}
    if tokens.get("prompt"):
        left = tokens.get("uncounted_replies")
        lines.append(
            f"Its replies took {tokens['prompt']:,} tokens in and {tokens.get('completion', 0):,} out"
            + (f"; {left:,} replies came without a count." if left else ".")
        )
    if "detector" in report:
        lines.append(f"Looked at by {report['detector']}; colours named by {report['clip']}.")
    lines += [f"Note: {note}" for note in report.get("notes", ())]
    pictures = report.get("pictures") or {}
    for kind in ("missing", "broken"):
        names = pictures.get(kind) or []
        if names:
            few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            lines.append(f"{len(names):,} pictures are {kind}: {few}.")
    return "".join(f'<p class="soft">{escape(line)}</p>' for line in lines)


def _published(report: Mapping[str, Any]) -> str:
    name = str(report["benchmark"])
    published = published_scores(name)
    rows = published.rows
    if not rows:
        return ""
    stated = [m for row in rows for m in row.scores]
    measures = list(dict.fromkeys([*stated, *published.own_measures]))
    ours = {"overall": report["overall"]["value"], **report["details"]}
    judge = report["judge"]["model"] if report["judge"] else report.get("detector", "none")
    lines: list[list[str | Cell]] = [
        ["this run", *(number(ours.get(m)) for m in measures), judge, ""]
    ]
    lines += [
        [row.system, *(number(row.scores.get(m)) for m in measures), row.judge, row.source]
        for row in rows
    ]
    note = "As their sources state them. Another judge, or another version of one, is another scale: a neighbourhood, no ranking."
    note = f"{note} {published.note}".strip()
    head = ("system", *("score" if m == "overall" else m for m in measures), "judge", "source")
    return f"<h2>Beside published scores</h2>{table(head, lines, note, own=0)}"


def _not_made(report: Mapping[str, Any]) -> str:
    """Why items have no picture; a long list is folded."""
    failed = report["not_made"]
    if not failed:
        return ""
    lines = "".join(f"<li><b>{escape(k)}</b>: {escape(v)}</li>" for k, v in failed.items())
    unfolded = " open" if len(failed) <= 12 else ""
    return (
        f"<h2>Not made</h2><details{unfolded}><summary>{len(failed):,} items</summary>"
        f"<ul>{lines}</ul></details>"
    )


def _controls(report: Mapping[str, Any]) -> str:
    options = "".join(f"<option>{escape(name)}</option>" for name in report["groups"])
    return (
        '<div class="controls"><label>Order <select id="order"><option value="">as in the benchmark</option>'
        '<option value="low">lowest score first</option><option value="high">highest score first</option></select></label>'
        f'<label>Category <select id="group"><option value="">all</option>{options}</select></label></div>'
    )


def page(
    report: Mapping[str, Any],
    items: Sequence[Shown],
    plot: str = "",
    most: int = MOST_ITEMS,
    most_bytes: int = MOST_BYTES,
) -> str:
    """The HTML text. `report` is what `scoring.report_of` gives, `plot` an SVG of its categories, or why there is none. At
    most `most` items are shown, and fewer where the page would be heavier than `most_bytes`.
    """
    groups = [
        (group, number(s["value"]), number(s["low"]), number(s["high"]), number(s["n"], 0))
        for group, s in report["groups"].items()
    ]
    cards = list(capped(items, most, most_bytes))
    left = ""
    if len(cards) < len(items):
        left = (
            '<p class="soft">From all categories in turn; the others are left out so that this file stays '
            "small, and stand in items.jsonl beside it.</p>"
        )
    name = str(report["benchmark"])
    broad = " broad" if any(item.source is not None for item in items) else ""
    drawn = f'<div class="plot">{plot}</div>' if plot else ""
    return document(
        name,
        f"""<h1>{escape(name)}</h1>
{_headline(report)}
{_about(report)}
<h2>By category</h2>
<div class="beside">{table(("category", "score", "low", "high", "n"), groups, "Means with their 95 % bootstrap intervals")}{drawn}</div>
{_details(report)}
{_published(report)}
{_not_made(report)}
<h2>{len(cards):,} of {len(items):,} items</h2>
{left}{_controls(report)}
<div class="cards{broad}">{"".join(cards)}</div>""",
    )
