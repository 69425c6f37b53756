"""The HTML report: whole, escaped, without a word to the outside, and working in a browser."""

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arm.evals.html import picture, table
from arm.evals.page import Made, Said, Shown, card, page
from arm.evals.plots import inline

REPORT = {
    "benchmark": "wise",
    "overall": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3},
    "missing_share": 0.25, "missing": 1, "items": 4,
    "judge": {"model": "judge-<1>", "called_itself": ["judge-<1>-2026"],
              "tokens": {"prompt": 1200, "completion": 30, "uncounted_replies": 2},
              "missing": {"APITimeoutError": 1}},
    "groups": {"time": {"value": 0.25, "low": 0.1, "high": 0.4, "n": 10},
               "space": {"value": 0.5, "low": 0.3, "high": 0.7, "n": 9}},
    "details": {"f1": 0.75}, "not_made": {"k2": "no & such"},
    "pictures": {"folder": "x", "whole": 1, "missing": ["2"], "broken": []},
}  # fmt: skip
CHROMIUM = Path("/usr/bin/chromium")


def shown(tmp_path: Path) -> list[Shown]:
    noise = np.random.default_rng(0).integers(0, 256, (600, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    Image.fromarray(noise[:56, :56]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def made(name: str | None, reply: str | None, asked: str = "") -> Made:
        return Made(None if name is None else tmp_path / name, (Said(asked, reply),))

    large, broken = made("large.png", "Score: 1", "is it <red>?"), made("broken.png", None)
    return [
        Shown("1", "a <b>red</b> star", "time", tmp_path / "small.png", (large, broken), 0.25),
        Shown("2", "x", "space", None, (made("nothing.png", None),)),
        Shown("3", "is it?", "space", None, (Made(None, (Said("", "yes"),), drawn=False),), 1.0),
        *(Shown(f"t{i}", "y", "time", None, (made("small.png", "z"),), i / 10) for i in range(9)),
    ]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("img", "meta"):
            self.open.append(tag)
        found = dict(attrs)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]
        self.alts += [found.get("alt") or ""] if tag == "img" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(tmp_path: Path):
    text = page(REPORT, shown(tmp_path))
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.sources) == 12 and len([s for s in reader.sources if "jpeg" in s]) == 1
    assert all(s.startswith(("data:image/png;", "data:image/jpeg;")) for s in reader.sources)
    assert not re.search(r"https?://|@import|url\(", text)
    assert all(reader.alts) and "picture edited for item 1: a <b>red</b> star" in reader.alts
    assert ">0.500<" in text and "0.400 to 0.600" in text
    assert ">25.0%<" in text and "of 4 verdicts missing" in text
    assert "judge-&lt;1&gt;-2026" in text and "is it &lt;red&gt;?" in text
    assert "a &lt;b&gt;red&lt;/b&gt; star" in text and "no &amp; such" in text
    assert "Verdicts missing, 1: APITimeoutError." in text
    assert "1,200 tokens in and 30 out; 2 replies came without a count" in text
    assert text.count("picture missing") == 1 and text.count("picture broken") == 1
    assert text.count("verdict missing") == 2
    assert "ARM-RL" in text and "arXiv 2606.11188" in text and "not stated" in text


def test_few_items_come_from_all_groups(tmp_path: Path):
    text = page(REPORT, shown(tmp_path), most=3)
    assert "3 of 12 items" in text and "stand in items.jsonl" in text
    assert re.findall(r"<h3>(\w+)</h3>", text) == ["1", "2", "t0"]
    assert "stand in items.jsonl" not in page(REPORT, shown(tmp_path))


def test_a_heavy_page_ends_early(tmp_path: Path):
    whole = page(REPORT, shown(tmp_path))
    text = page(REPORT, shown(tmp_path), most_bytes=len(whole) // 2)
    assert len(text) < 0.8 * len(whole) and "of 12 items" in text and "<h3>1</h3>" in text


def test_many_details_have_a_table_and_a_detector_is_named(tmp_path: Path):
    report = {**REPORT, "judge": None, "detector": "owl", "clip": "big", "notes": ["not <theirs>"]}
    text = page({**report, "details": {f"d{n}": n / 8 for n in range(5)}}, [])
    assert "<h2>Details</h2>" in text and 'data-sort="0.125">0.125<' in text
    assert "Looked at by owl; colours named by big." in text and "Note: not &lt;theirs&gt;" in text
    assert "<td>owl</td>" in text and "no judge" not in text
    assert "<h2>Details</h2>" not in page(report, [])
    assert "<details open><summary>1 items" in text
    many = page({**report, "not_made": {str(n): "no" for n in range(13)}}, [])
    assert "<details><summary>13 items" in many


def test_f1_stands_beside_scores_whose_measure_is_open():
    details = {"precision": 0.5, "recall": 0.5, "f1": 0.625, "yes_share": 0.5}
    text = page({**REPORT, "benchmark": "pope", "judge": None, "details": details}, [])
    table_text = text[text.index("<h2>Beside published scores</h2>") :]
    own = table_text[table_text.index('<tr class="own">') :].partition("</tr>")[0]
    assert ">0.500<" in own and ">0.625<" in own
    assert "do not say which measure they give" in table_text and ">f1</button>" in table_text


def test_pictures_are_shown_as_the_model_sees_them(tmp_path: Path):
    turned = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(tmp_path / "turned.png", exif=exif)
    text = picture(tmp_path / "turned.png", "x", "y")
    assert 'width="4" height="8"' in text
    data = base64.b64decode(text.partition("base64,")[2].partition('"')[0])
    assert Image.open(io.BytesIO(data)).getpixel((0, 0)) == (255, 255, 255)


def test_a_table_says_what_it_sorts_by():
    text = table(("name", "p"), [("a<", "x"), ("b", "y")], "words", own=1)
    assert '<th scope="row">a&lt;</th>' in text and '<tr class="own">' in text
    assert text.count('<th scope="col" aria-sort="none">') == 2


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's chromium, as CI installs it; playwright brings none of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


def test_in_a_browser(browser: Any, tmp_path: Path):
    """Pictures show, a click sorts a table, the choices order and filter, and nothing is fetched."""
    file = tmp_path / "report.html"
    file.write_text(page(REPORT, shown(tmp_path), inline(REPORT)), encoding="utf-8")
    view = browser.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on("console", lambda message: wrong.append(message.text))
    view.goto(file.as_uri())
    widths = view.eval_on_selector_all("img", "found => found.map(i => i.naturalWidth)")
    assert sorted(set(widths)) == [56, 128] and len(widths) == 12
    names = "rows => rows.map(row => row.cells[0].textContent)"
    rows = "table:first-of-type tbody tr"
    assert view.eval_on_selector_all(rows, names)[:2] == ["time", "space"]
    view.click("thead th:nth-child(5) button")
    assert view.eval_on_selector_all(rows, names)[:2] == ["space", "time"]  # 9 before 10
    view.click("thead th:nth-child(5) button")
    assert view.eval_on_selector_all(rows, names)[:2] == ["time", "space"]
    assert view.get_attribute("thead th:nth-child(5)", "aria-sort") == "descending"
    cards = "found => found.filter(c => !c.hidden).map(c => c.querySelector('h3').textContent)"
    view.select_option("#order", "high")
    ordered = view.eval_on_selector_all(".card", cards)
    assert ordered[:2] == ["3", "t8"] and ordered[-1] == "2"  # no score comes last
    view.select_option("#group", "space")
    assert view.eval_on_selector_all(".card", cards) == ["3", "2"]
    # The page may not fetch: not even a script that wanted to could.
    view.evaluate("fetch('http://127.0.0.1:9/x').catch(() => 0)")
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
    assert [w for w in wrong if "Content Security Policy" not in w] == []


def test_a_reply_as_long_as_a_book_is_cut():
    item = Shown("1", "a star", "time", None, (Made(None, (Said("", "x" * 9_000_000),)),))
    assert len(card(item, 0)) < 10_000
