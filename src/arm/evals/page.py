"""A report as one HTML file that needs nothing from outside: scores, pictures, what the judge said."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from arm.evals.published import PAPER, PUBLISHED

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h1 { margin-bottom: 0 } .headline { font-size: 1.4rem } .missing { color: #a33 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
th { cursor: pointer; user-select: none } td.number { text-align: right; font-variant-numeric: tabular-nums }
.items { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem }
.item { border: 1px solid #ddd; border-radius: .4rem; padding: .6rem } .item img { max-width: 48%; image-rendering: pixelated; min-width: 40% }
.item p { margin: .3rem 0 } pre { white-space: pre-wrap; font-size: .8rem; background: #f6f6f6; padding: .4rem; margin: .3rem 0 }
"""
SCRIPT = """
for (const th of document.querySelectorAll('th')) th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], column = th.cellIndex;
  const up = th.dataset.up = th.dataset.up === '1' ? '' : '1';
  const key = row => { const text = row.cells[column].textContent, n = parseFloat(text); return isNaN(n) ? text : n; };
  const rows = [...body.rows].sort((a, b) => (key(a) > key(b) ? 1 : -1) * (up ? 1 : -1));
  rows.forEach(row => body.append(row));
});
"""
SIDE = 256


@dataclass(frozen=True)
class Shown:
    """One item on the page: its pictures (a source before what was made of it) and what was said."""

    name: str
    text: str
    group: str
    pictures: tuple[Path, ...]
    said: tuple[str | None, ...]


def picture_tag(path: Path) -> str:
    """An <img> that holds its picture, at most SIDE pixels wide; words where it cannot be read."""
    try:
        with Pillow.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE))
    except (OSError, ValueError):
        return '<p class="missing">picture missing</p>'
    out = io.BytesIO()
    small.save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'


def table(head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    def cell(value: str | float) -> str:
        if isinstance(value, float):
            return f'<td class="number">{value:.3f}</td>'
        return f"<td>{escape(str(value))}</td>"

    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _chosen(items: Sequence[Shown], most: int) -> list[Shown]:
    """At most so many items, the groups in turn, so that all of them are seen."""
    groups: dict[str, list[Shown]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    found: list[Shown] = []
    depth = 0
    while len(found) < min(most, len(items)):
        found += [group[depth] for group in groups.values() if depth < len(group)]
        depth += 1
    return found[:most]


def page(report: Mapping[str, Any], items: Sequence[Shown], most: int = 200) -> str:
    """The HTML text. `report` is what `harness.report_of` gives; `most` items are shown."""
    name, overall = str(report["benchmark"]), report["overall"]
    judge = report["judge"]
    by = f"judged by {escape(judge['model'])}" if judge else "answered by the model itself"
    groups = [
        (group, float(s["value"]), float(s["low"]), float(s["high"]), str(s["n"]))
        for group, s in report["groups"].items()
    ]
    beside = [("this run", float(overall["value"]), "")]
    beside += [(system, value, PAPER) for system, value in PUBLISHED.get(name, {}).items()]
    shown = _chosen(items, most)
    cards = []
    for item in shown:
        pictures = "".join(map(picture_tag, item.pictures))
        said = "".join(
            f"<pre>{escape(s)}</pre>" if s is not None else '<p class="missing">verdict missing</p>'
            for s in item.said
        )
        cards.append(
            f'<div class="item"><p><b>{escape(item.name)}</b> {escape(item.group)}</p>'
            f"<p>{escape(item.text)}</p>{pictures}{said}</div>"
        )
    details = "".join(f"<li>{escape(k)}: {v:.4g}</li>" for k, v in report["details"].items())
    failed = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in report["not_made"].items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title><style>{STYLE}</style></head><body>
<h1>{escape(name)}</h1>
<p class="headline">{overall["value"]:.3f} ({overall["low"]:.3f} to {overall["high"]:.3f}, 95 %),
<span class="missing">{report["missing_share"]:.1%} of {report["items"]} verdicts missing</span>, {by}</p>
<ul>{details}</ul>
{table(("group", "score", "low", "high", "n"), groups)}
<h2>Beside published scores</h2>
{table(("system", "score", "source"), beside)}
{f"<h2>Not made</h2><ul>{failed}</ul>" if failed else ""}
<h2>{len(shown)} of {len(items)} items</h2>
<div class="items">{"".join(cards)}</div>
<script>{SCRIPT}</script>
</body></html>
"""
