"""The HTML report: whole, escaped, and without a word to the outside."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from arm.evals.page import Shown, page

REPORT = {
    "benchmark": "wise",
    "overall": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3},
    "missing_share": 0.25, "missing": 1, "items": 4,
    "judge": {"model": "judge-<1>"},
    "groups": {"time": {"value": 0.25, "low": 0.1, "high": 0.4, "n": 2}},
    "details": {"f1": 0.75}, "not_made": {"k2": "no & such"},
}  # fmt: skip


def shown(tmp_path: Path) -> list[Shown]:
    Image.fromarray(np.full((600, 300, 3), 9, dtype=np.uint8)).save(tmp_path / "a.png")
    return [
        Shown("1", "a <b>red</b> star", "time", (tmp_path / "a.png",), ("Score: 1",)),
        Shown("2", "x", "space", (tmp_path / "nothing.png",), (None,)),
        *(Shown(f"t{i}", "y", "time", (), ("z",)) for i in range(9)),
    ]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("img", "meta"):
            self.open.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(tmp_path: Path):
    text = page(REPORT, shown(tmp_path))
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.sources) == 1 and reader.sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://|@import|url\(", text)
    assert "0.500 (0.400 to 0.600, 95 %)" in text and "25.0% of 4 verdicts missing" in text
    assert (
        "judge-&lt;1&gt;" in text
        and "a &lt;b&gt;red&lt;/b&gt; star" in text
        and "no &amp; such" in text
    )
    assert "picture missing" in text and "verdict missing" in text
    assert "ARM-RL" in text and "arXiv 2606.11188" in text


def test_few_items_come_from_all_groups(tmp_path: Path):
    text = page(REPORT, shown(tmp_path), most=3)
    assert "3 of 11 items" in text
    assert all(f"<b>{name}</b>" in text for name in ("1", "2", "t0"))
    assert "<b>t1</b>" not in text
