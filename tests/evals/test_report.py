"""Tables for the README and the model card."""

from pathlib import Path

import pytest

from arm.cli.options import write_json_file
from arm.errors import InputError
from arm.evals.report import (
    check_block,
    decoder_rows,
    fill_block,
    fill_scores,
    markdown,
    markdown_grid,
    print_differences,
    print_scores,
    rows,
)

EXACT = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
PSNR = {"value": 30.0, "low": 29.0, "high": 31.0, "n": 4}


def test_a_grid_by_hand():
    table = {"all": {"exact": EXACT, "usage": 0.25, "steps": 7}, "none": {"steps": 8}}
    columns = {"exact": "Exact", "usage": "Used", "steps": "Steps"}
    assert markdown_grid(table, columns, "losses").splitlines() == [
        "| losses | Exact | Used | Steps |",
        "|---|---|---|---|",
        "| all | 0.500 (0.250 - 0.750) | 0.2500 | 7 |",
        "| none |  |  | 8 |",
    ]


def test_scores_have_dotted_names():
    result = {"a": {"b": EXACT, "c": 0.125}}
    assert [name for name, _ in rows(result)] == ["a.b", "a.c"]
    table = markdown(result, {"a.b": "B", "a.c": "C"})
    assert "| B | 0.500 | 0.250 - 0.750 | 4 |" in table and "| C | 0.1250 |  |  |" in table


def test_decoders_are_compared_with_the_first():
    scores = {"exact": EXACT, "psnr": PSNR}
    result = {"pixel": scores, "flux": scores, "agreement": {"pixel_flux": EXACT}}
    by_decoder = decoder_rows(result)
    assert list(by_decoder) == ["pixel", "flux"]
    assert by_decoder["pixel"]["like_pixel"] is None
    assert by_decoder["flux"]["like_pixel"] == EXACT


def test_blocks_are_filled_and_missing_ones_named(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- decoders -->\nold\n<!-- /decoders -->\nb\n")
    scores = {"exact": EXACT, "psnr": PSNR}
    fill_scores(path, "decoders", {"pixel": scores, "agreement": {}})
    text = path.read_text()
    assert "old" not in text and "| pixel | 0.500 (0.250 - 0.750) |" in text
    assert text.startswith("a\n<!--") and text.endswith("-->\nb\n")
    with pytest.raises(InputError, match="no block <!-- scores -->"):
        fill_block(path, "scores", "x")
    with pytest.raises(InputError, match="'sweep' has no table"):
        fill_scores(path, "sweep", {})
    with pytest.raises(InputError, match="cannot be read"):
        fill_block(tmp_path / "none.md", "scores", "x")
    path.write_bytes(b"<!-- scores -->\n\xff<!-- /scores -->\n")
    with pytest.raises(InputError, match=r"cannot be read .* name a Markdown file in UTF-8"):
        check_block(path, "world")


def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError("no room")

    path = tmp_path / "page.md"
    path.write_text("a\n<!-- scores -->\nold\n<!-- /scores -->\nb\n")
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match=r"page\.md cannot be written \(no room\)"):
        fill_block(path, "scores", "new")
    with pytest.raises(InputError, match=r"page\.md cannot be written \(no room\)"):
        write_json_file({}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_category_is_no_markup(capsys: pytest.CaptureFixture[str]):
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    print_scores({"[/red] :star:": score})
    difference = {"value": 0.1, "low": 0.0, "high": 0.2, "p": 0.5}
    found = {
        "difference": difference,
        "common_items": 2,
        "groups": {"[/b]": {**difference, "n": 2}},
    }
    print_differences(found, str)
    said = capsys.readouterr().out
    assert "[/red] :star:" in said and "[/b]" in said
