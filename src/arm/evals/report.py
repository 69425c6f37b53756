"""Scores as a table in the terminal."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from arm.errors import InputError
from arm.files import write_text


def rows(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every score of a nested result with its dotted name."""
    for name, value in result.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and "value" not in value:
            yield from rows(value, f"{full}.")
        else:
            yield full, value


def shown(value: Any) -> tuple[str, str, str]:
    """Value, interval and sample count as text."""
    if isinstance(value, Mapping):
        interval = f"{value['low']:.3f} - {value['high']:.3f}"
        return f"{value['value']:.3f}", interval, str(value["n"])
    return (f"{value:.4f}" if isinstance(value, float) else str(value)), "", ""


def print_scores(result: Mapping[str, Any]) -> None:
    table = Table("score", "value", "95 % interval", "n")
    for name, value in rows(result):
        table.add_row(name, *shown(value))
    # A category may be called [anything], and :so: too; its name is no markup.
    Console(markup=False, emoji=False).print(table)


def print_differences(comparison: Mapping[str, Any], p_text: Callable[[float], str]) -> None:
    """What `runs.Comparison.to_dict` gives: A - B over all common items and by category."""
    table = Table("category", "A - B", "95 % interval", "p", "p (Holm)", "n")
    overall = {**comparison["difference"], "n": comparison["common_items"]}
    for name, row in {"all items": overall, **comparison["groups"]}.items():
        adjusted = p_text(row["p_holm"]) if "p_holm" in row else ""
        interval = f"{row['low']:+.3f} - {row['high']:+.3f}".replace(" - ", " to ")
        table.add_row(
            name, f"{row['value']:+.3f}", interval, p_text(row["p"]), adjusted, str(row["n"])
        )
    # A category may be called [anything], and :so: too; its name is no markup.
    Console(markup=False, emoji=False).print(table)


HEADLINES = {
    "recon.exact": "exact reconstructions (share)",
    "recon.clear": "... and the reader sure of every thing (share)",
    "recon.psnr": "PSNR of reconstructions (dB)",
    "recon.ssim": "SSIM of reconstructions",
    "recon.zero_shot": "zero-shot shape of 12, through the tokens",
    "recon.usage": "codes used at least once (share of 4,096)",
    "recon.locality": "codes kept where an edit changes nothing (share)",
    "vqa.accuracy": "world-vqa accuracy",
    "vqa.yesno_f1": "world-vqa yes/no F1",
    "geneval.overall": "world-geneval, default sampling",
    "geneval.greedy.overall": "world-geneval, greedy",
    "geneval.cfg1.overall": "world-geneval, without guidance",
    "geneval.trained.overall": "world-geneval on trained combinations",
    "gedit.o": "world-gedit O (0-10), default sampling",
    "gedit.sc": "world-gedit SC (0-10)",
    "gedit.pq": "world-gedit PQ (0-10)",
    "gedit.greedy.o": "world-gedit O, greedy",
    "gedit.cfg1.o": "world-gedit O, without guidance",
    "gedit.perfect.o": "... of the right codes, painted: what the decoder allows",
    "gedit.trained.o": "world-gedit O on trained combinations",
    "gedit.trained_perfect.o": "... of the right codes, painted",
    "wise.overall": "world-wise, default sampling",
}


def markdown(result: Mapping[str, Any], names: Mapping[str, str] = HEADLINES) -> str:
    """A Markdown table of the named scores, as the README and the model card show it."""
    found = dict(rows(result))
    lines = ["| score | value | 95 % interval | n |", "|---|---|---|---|"]
    for name, title in names.items():
        value, interval, count = shown(found[name])
        lines.append(f"| {title} | {value} | {interval} | {count} |")
    return "\n".join(lines)


LOSS_COLUMNS = {
    "zero_shot": "zero-shot",
    "psnr": "PSNR (dB)",
    "usage": "codes used",
    "perplexity": "perplexity",
    "locality": "codes kept",
    "exact": "exact",
    "steps": "steps",
}
DECODER_COLUMNS = {
    "exact": "exact",
    "psnr": "PSNR (dB)",
    "like_pixel": "reads like the pixel DiT's",
}


def markdown_grid(
    table: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str], first: str
) -> str:
    """A Markdown table with a line for each named row; scores carry their interval in brackets."""

    def cell(value: Any) -> str:
        text, interval, _ = shown(value) if value is not None else ("", "", "")
        return f"{text} ({interval})" if interval else text

    lines = [f"| {first} | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        lines.append(f"| {name} | {' | '.join(cell(row.get(key)) for key in columns)} |")
    return "\n".join(lines)


def decoder_rows(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The rows of `DECODER_COLUMNS` from what `evals/decoders.py` returns."""
    agreement = result["agreement"]
    return {
        name: {**scores, "like_pixel": agreement.get(f"pixel_{name}")}
        for name, scores in result.items()
        if name != "agreement"
    }


BLOCKS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "world": ("scores", markdown),
    "decoders": (
        "decoders",
        lambda result: markdown_grid(decoder_rows(result), DECODER_COLUMNS, "decoder"),
    ),
}
"""The block of each benchmark that has one, and what makes its table."""


def check_block(path: Path, benchmark: str) -> None:
    """Raises InputError where `fill_scores` could not fill the file, before there are scores to fill in."""
    if benchmark not in BLOCKS:
        raise InputError(f"'{benchmark}' has no table for a Markdown file; leave --into away")
    _filled(path, BLOCKS[benchmark][0], "")
    if not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"{path} cannot be written: you may not write to its folder")


def fill_scores(path: Path, benchmark: str, result: Mapping[str, Any]) -> None:
    """Fills the block of a benchmark that has one. Raises InputError for one that has none."""
    check_block(path, benchmark)
    name, table = BLOCKS[benchmark]
    fill_block(path, name, table(result))


def fill_block(path: Path, name: str, text: str) -> None:
    """Replaces what stands between <!-- name --> and <!-- /name --> in a Markdown file.

    Raises InputError where the file or the block is missing, or the file cannot be written.
    """
    new = _filled(path, name, text)
    try:
        write_text(new, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error})") from None


def _filled(path: Path, name: str, text: str) -> str:
    """The file's text with the block replaced."""
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); name a Markdown file in UTF-8"
        ) from None
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, old, re.DOTALL):
        raise InputError(f"{path} has no block <!-- {name} --> ... <!-- /{name} -->")
    return re.sub(pattern, lambda m: f"{m[1]}{text}\n{m[2]}", old, flags=re.DOTALL)
