"""The comparison of two runs as one HTML file: differences, and both pictures of each item side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from arm.evals.html import Cell, document, number, picture, table
from arm.evals.page import MOST_BYTES
from arm.evals.runs import Comparison, Pair, Run

MOST_ITEMS = 100


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _items(*runs: Run) -> dict[str, list[str]]:
    """The ids of the items of a score, by the key that it stands under; several items may share one."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, line in run.shown.items():
            found.setdefault(str(line.get("key") or name), {})[name] = None
    return {key: list(names) for key, names in found.items()}


def _item(pair: Pair, name: str, a: Run, b: Run, first: bool) -> str:
    """An item's text, and what both runs made or said of it; the source and the scores stand with the first
    of a pair's items.
    """
    own, other = a.shown.get(name, {}), b.shown.get(name, {})
    text = str(own.get("text") or other.get("text") or "")
    figures = ""
    source = a.file(own.get("source")) if first else None
    if source is not None:
        figures += picture(source, f"picture that item {name} begins with", "source")
    for side, run, line, value in (("A", a, own, pair.a), ("B", b, other, pair.b)):
        words = f"{side}: {value:.3g}" if first else side
        made = line.get("pictures") or []
        if any(made):
            alt = f"picture of run {side} for item {name}: {text[:160]}"
            figures += picture(run.file(made[0]), alt, words)
        else:
            said = (line.get("said") or [[None]])[0]
            replies = "".join(f"<pre>{escape(str(s))}</pre>" for s in said if s is not None)
            figures += f'<div class="said">{words}{replies}</div>'
    return f'<p>{escape(text)}</p><div class="made pair">{figures}</div>'


def _card(pair: Pair, place: int, names: Sequence[str], a: Run, b: Run) -> str:
    """A score of both runs with its items."""
    gap = pair.a - pair.b
    kind = "good" if gap > 0 else "bad" if gap < 0 else ""
    shown = "".join(_item(pair, name, a, b, name == names[0]) for name in names)
    return (
        f'<article class="card" data-value="{gap:.6g}" data-place="{place}" data-group="{escape(pair.group)}">'
        f'<header><h3>{escape(pair.name)}</h3><span class="chip">{escape(pair.group)}</span>'
        f'<span class="score {kind}">{gap:+.3g}</span></header>{shown}</article>'
    )


def compare_page(
    comparison: Comparison,
    a: Run,
    b: Run,
    plot: str = "",
    most: int = MOST_ITEMS,
    most_bytes: int = MOST_BYTES,
) -> str:
    """The HTML text; the items that differ most come first, `most` of them at most."""
    found = comparison.to_dict(a, b)
    rows = [
        (name, number(g["value"]), number(g["low"]), number(g["high"]),
         Cell(p_text(g["p"]), g["p"]), Cell(p_text(g["p_holm"]), g["p_holm"]), number(g["n"], 0))
        for name, g in found["groups"].items()
    ]  # fmt: skip
    cards: list[str] = []
    size = 0
    items = _items(a, b)
    ordered = sorted(comparison.pairs, key=lambda pair: -abs(pair.a - pair.b))
    for place, pair in enumerate(ordered[:most]):
        cards.append(_card(pair, place, items.get(pair.name, [pair.name]), a, b))
        size += len(cards[-1])
        if size > most_bytes:
            break
    drawn = f'<div class="plot">{plot}</div>' if plot else ""
    title = f"{comparison.benchmark}: A against B"
    return document(
        title,
        f"""<h1>{escape(title)}</h1>
{_headline(found)}
<h2>By category</h2>
<div class="beside">{table(("category", "A - B", "low", "high", "p", "p, Holm", "n"), rows, "Mean paired differences, 95 % bootstrap intervals, sign-flip p-values")}{drawn}</div>
<h2>{len(cards):,} of {len(comparison.pairs):,} common items, the most different first</h2>
<div class="cards">{"".join(cards)}</div>""",
    )


def _headline(found: Mapping[str, Any]) -> str:
    overall = found["difference"]
    figures = [
        (f"{overall['value']:+.3f}", f"A - B, 95 % interval {overall['low']:+.3f} to {overall['high']:+.3f}"),
        (p_text(overall["p"]), "p, by flipping signs"),
        (f"{found['common_items']:,}", "items that both have a score for"),
    ]  # fmt: skip
    cards = "".join(
        f'<div class="figure"><b>{escape(value)}</b><span>{escape(words)}</span></div>'
        for value, words in figures
    )
    sides = "".join(
        f"<p><b>{name.upper()}</b> {escape(side['run'])}: {side['common_mean']:.3f} on the common items; "
        f'<span class="soft">verdicts missing: {side["missing"]:,}, items scored here alone: {side["only_here"]:,}, '
        f"judge {escape(side['judge'])}</span></p>"
        for name, side in (("a", found["a"]), ("b", found["b"]))
    )
    return f'<div class="headline">{cards}</div>{sides}'
