"""What the HTML reports share: one file that needs nothing from outside, tables that sort by a click.

A content security policy in the file forbids every fetch, so that no report can leak what it shows.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from arm.data.images import open_image
from arm.errors import InputError
from arm.files import atomic_write

SIDE = 256
"""Thumbnails are at most so many pixels wide and high."""

STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --ink: #1d2126; --soft: #5c6570; --line: #e1e4e8;
  --accent: #1f6feb; --bad: #b42318; --good: #18794e; --chip: #eef1f4 }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #9aa4af;
  --line: #30363d; --accent: #6ea8fe; --bad: #ff8a80; --good: #6fd3a0; --chip: #262b31 } }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink); background: var(--back);
  margin: 0 auto; max-width: 78rem; padding: 2.2rem 1.4rem 4rem }
h1 { font-size: 1.7rem; margin: 0; letter-spacing: -.01em } h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem }
p { margin: .4rem 0 } .soft { color: var(--soft) } .bad { color: var(--bad) } .good { color: var(--good) }
.headline { display: flex; flex-wrap: wrap; gap: .9rem; margin: 1.2rem 0 .6rem }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .8rem 1.1rem; min-width: 10rem }
.figure b { display: block; font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; font-weight: 650 }
.figure span { color: var(--soft); font-size: .85rem }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start }
.plot { flex: 1 1 24rem; max-width: 40rem } .plot svg { width: 100%; height: auto }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding-bottom: .4rem }
th, td { padding: .38rem .9rem .38rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; font-weight: 400 }
.number { text-align: right } tr.own th, tr.own td { font-weight: 650 }
thead th { font-weight: 600; white-space: nowrap } thead button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
thead button::after { content: " \\2195"; color: var(--soft); opacity: .6 }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); opacity: 1 }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); opacity: 1 }
button:focus-visible, select:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
.controls { display: flex; flex-wrap: wrap; gap: 1rem; margin: .6rem 0 1rem } select { font: inherit; padding: .2rem .4rem }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(23rem, 100%), 1fr)); gap: 1rem } .cards.broad { grid-template-columns: repeat(auto-fill, minmax(min(33rem, 100%), 1fr)) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .8rem .9rem; min-width: 0 }
.card header { display: flex; gap: .5rem; align-items: baseline; flex-wrap: wrap } .card h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere }
.chip { background: var(--chip); border-radius: 1rem; padding: 0 .6rem; font-size: .8rem; color: var(--soft) } .score { margin-left: auto; font-weight: 650 }
.made { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start; margin-top: .6rem } .said { flex: 1 1 11rem; min-width: 0; font-size: .85rem; max-height: 14rem; overflow: auto }
.said pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .4rem; font: .8rem/1.45 ui-monospace, SFMono-Regular, Menlo, monospace; background: var(--chip); border-radius: .4rem; padding: .45rem .6rem }
figure { margin: 0; flex: 0 0 auto; width: 8.6rem } .pair { flex-wrap: nowrap } .pair figure { flex: 1 1 0; width: auto; min-width: 0 } figcaption { color: var(--soft); font-size: .75rem }
img { display: block; width: 100%; height: auto; border-radius: .35rem; background: var(--chip) } img.dots { image-rendering: pixelated }
.gone { display: grid; place-items: center; text-align: center; aspect-ratio: 1; border: 1px dashed var(--bad); border-radius: .35rem; color: var(--bad); font-size: .8rem; padding: .3rem }
"""
SCRIPT = """
for (const button of document.querySelectorAll('thead button')) button.addEventListener('click', () => {
  const th = button.closest('th'), table = th.closest('table'), body = table.tBodies[0];
  const up = th.getAttribute('aria-sort') !== 'ascending', column = th.cellIndex;
  for (const other of table.querySelectorAll('thead th')) other.setAttribute('aria-sort', 'none');
  th.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const empty = row => key(row) === '';
  const compare = (a, b) => empty(a) - empty(b) || (up ? 1 : -1) * key(a).localeCompare(key(b), 'en', { numeric: false });
  const byNumber = (a, b) => empty(a) - empty(b) || (up ? 1 : -1) * (Number(key(a)) - Number(key(b)));
  const rows = [...body.rows], numeric = rows.every(row => !isNaN(Number(key(row))));
  rows.sort(numeric ? byNumber : compare).forEach(row => body.append(row));
});
const cards = document.querySelector('.cards');
const order = document.getElementById('order'), group = document.getElementById('group');
if (order) order.addEventListener('change', () => {
  const missing = card => card.dataset.value === '';
  const signs = { low: 1, high: -1 };
  const compare = (a, b) => order.value in signs
    ? missing(a) - missing(b) || signs[order.value] * (a.dataset.value - b.dataset.value)
    : a.dataset.place - b.dataset.place;
  [...cards.children].sort(compare).forEach(card => cards.append(card));
});
if (group) group.addEventListener('change', () => {
  for (const card of cards.children) card.hidden = group.value !== '' && card.dataset.group !== group.value;
});
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Cell:
    """A cell that shows `text` and sorts by `number`; None sorts last."""

    text: str
    number: float | None


def number(value: float | None, digits: int = 3) -> Cell:
    return Cell("" if value is None else f"{value:.{digits}f}", value)


def document(title: str, body: str) -> str:
    """A whole HTML file."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
{body}
<script>{SCRIPT}</script>
</body></html>
"""


def write_page(text: str, path: Path) -> None:
    """Whole or not at all. Raises InputError where the file cannot be written."""
    try:
        with atomic_write(path, keep_mode=True) as temporary:
            # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark.
            temporary.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error})") from None


def table(
    head: Sequence[str], rows: Sequence[Sequence[str | Cell]], caption: str = "", own: int = -1
) -> str:
    """A table that sorts by a click on its heads; the first cell of a row names it. Row `own` is bold."""
    numeric = [all(isinstance(row[c], Cell) for row in rows) for c in range(len(head))]

    def cell(value: str | Cell, first: bool) -> str:
        tag, scope = ("th", ' scope="row"') if first else ("td", "")
        if isinstance(value, Cell):
            key = "" if value.number is None else f"{value.number:.9g}"
            return f'<{tag}{scope} class="number" data-sort="{key}">{escape(value.text)}</{tag}>'
        return f"<{tag}{scope}>{escape(value)}</{tag}>"

    def line(place: int, row: Sequence[str | Cell]) -> str:
        kind = ' class="own"' if place == own else ""
        return f"<tr{kind}>{''.join(cell(value, c == 0) for c, value in enumerate(row))}</tr>"

    def title(name: str, is_number: bool) -> str:
        kind = ' class="number"' if is_number else ""
        button = f'<button type="button">{escape(name)}</button>'
        return f'<th scope="col" aria-sort="none"{kind}>{button}</th>'

    lines = "".join(line(i, row) for i, row in enumerate(rows))
    heads = "".join(map(title, head, numeric))
    words = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{words}<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def picture(path: Path | None, alt: str, caption: str) -> str:
    """A figure that holds its picture as a thumbnail; words where it is missing or broken."""
    return f"<figure>{_image(path, alt)}<figcaption>{escape(caption)}</figcaption></figure>"


def _image(path: Path | None, alt: str) -> str:
    if path is None or not path.is_file():
        return '<div class="gone">picture missing</div>'
    try:
        image = open_image(path)
    except InputError:
        return '<div class="gone">picture broken</div>'
    large = max(image.size) > SIDE
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    # Small pictures stay as they are; a thumbnail of a photograph is many times smaller as JPEG.
    kind = "jpeg" if large else "png"
    image.save(out, kind.upper(), **({"quality": 85} if large else {}))
    data = base64.b64encode(out.getvalue()).decode()
    dots = "" if large or min(image.size) > SIDE // 2 else ' class="dots"'
    return (
        f'<img{dots} alt="{escape(alt)}" width="{image.width}" height="{image.height}" '
        f'src="data:image/{kind};base64,{data}">'
    )
