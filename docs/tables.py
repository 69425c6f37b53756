"""Rewrites every generated table and number of the documentation from the files of scores.

`make docs-tables` runs it after new scores have been written; a test fails where it has not been run.
A table stands between `<!-- NAME -->` and `<!-- /NAME -->`. A number in a sentence stands between
`<!-- v SOURCE KEY FORMAT -->` and `<!-- /v -->`: the value of a key of one of `SOURCES`, or with a
further word `interval` the value and its 95 % interval.
"""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from arm.evals import synergy
from arm.evals.report import (
    DECODER_COLUMNS,
    HEADLINES,
    LOSS_COLUMNS,
    decoder_rows,
    markdown,
    markdown_grid,
    rows,
)

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "src/arm/weights"
SOURCES = {
    "micro": WEIGHTS / "micro/scores.json",
    "micro-sft": WEIGHTS / "micro-sft/scores.json",
    "losses": WEIGHTS / "micro-sft/losses.json",
    "decoders": WEIGHTS / "micro-sft/decoders.json",
    "guidance": ROOT / "docs/guidance.json",
    "synergy": ROOT / "docs/synergy/synergy.json",
}
README_SCORES = {
    "recon.exact": "pictures that are exact again after encoding and decoding",
    "recon.zero_shot": "shape of 12 by the text tower, from the codes alone",
    "vqa.accuracy": "questions answered (world-vqa)",
    "geneval.overall": "prompts drawn (world-geneval)",
    "gedit.o": "edits, 0 to 10 (world-gedit)",
    "wise.overall": "prompts that need a fact (world-wise)",
}
STAGE_SCORES = {name: HEADLINES[name] for name in list(README_SCORES)[2:]}
KINDS = {"geneval.tags.": "drawing", "gedit.kinds.": "editing, 0 to 10", "vqa.kinds.": "questions"}


def read(source: str) -> Any:
    return json.loads(SOURCES[source].read_text(encoding="utf-8"))


def with_interval(score: Mapping[str, Any], spec: str) -> str:
    """A score as "0.942 (0.917 to 0.964)"."""
    low, high = format(score["low"], spec), format(score["high"], spec)
    return f"{format(score['value'], spec)} ({low} to {high})"


def grid(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    every = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def stages() -> str:
    """The supervised model beside the one after reinforcement learning."""
    models = {name: dict(rows(read(name))) for name in ("micro-sft", "micro")}
    lines = [
        [title, *(with_interval(scores[name], ".3f") for scores in models.values())]
        for name, title in STAGE_SCORES.items()
    ]
    return grid(["score", *(f"`{name}`" for name in models)], lines)


def kinds() -> str:
    """The scores of each kind of prompt, edit and question."""
    models = {name: dict(rows(read(name))) for name in ("micro-sft", "micro")}
    lines = []
    for prefix, task in KINDS.items():
        for name in models["micro"]:
            if name.startswith(prefix):
                scores = [with_interval(m[name], ".3f") for m in models.values()]
                lines.append([task, name.removeprefix(prefix), *scores])
    return grid(["task", "kind", *(f"`{name}`" for name in models)], lines)


def guidance() -> str:
    """Drawing and editing over the scale of guidance by the text."""
    lines = [
        [name.removeprefix("text "), *(with_interval(row[k], ".3f") for k in ("geneval", "gedit"))]
        for name, row in read("guidance").items()
    ]
    return grid(["guidance by the text", "world-geneval", "world-gedit O"], lines)


def settings() -> str:
    """Means of the synergy experiment in the settings that its main table leaves out."""
    lines = []
    for name, means in read("synergy")["means"].items():
        for setting in ("unguided, sampled", "unguided, greedy"):
            scores = [format(means[setting][task], ".3f") for task in ("geneval", "gedit", "wise")]
            lines.append([name, setting, *scores])
    return grid(["model", "setting", "geneval", "gedit O", "wise"], lines)


def continued() -> str:
    """Differences of the synergy experiment to supervised training continued at equal compute."""
    lines = []
    for name, row in read("synergy")["to_continued"].items():
        scores = [row[task] for task in synergy.TASKS]
        signed = [f"{s['value']:+.3f} ({s['low']:+.3f} to {s['high']:+.3f})" for s in scores]
        lines.append([name, *signed])
    return grid(["model", "geneval", "gedit O", "wise", "vqa"], lines)


def scores() -> str:
    return markdown(read("micro"))


BLOCKS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"scores": lambda: markdown(read("micro"), README_SCORES)},
    "src/arm/weights/micro/README.md": {"scores": scores},
    "docs/results.md": {
        "scores": scores,
        "stages": stages,
        "kinds": kinds,
        "losses": lambda: markdown_grid(read("losses"), LOSS_COLUMNS, "losses"),
        "decoders": lambda: markdown_grid(
            decoder_rows(read("decoders")), DECODER_COLUMNS, "decoder"
        ),
        "guidance": guidance,
        "synergy": lambda: synergy.markdown(read("synergy")),
        "settings": settings,
        "continued": continued,
    },
}
"""The generated tables of each document, by name."""
VALUE = re.compile(r"<!-- v (.+?) -->.*?<!-- /v -->", re.DOTALL)


def value(words: str) -> str:
    """The text of a number: SOURCE KEY FORMAT [interval]. Parts of a key are separated by "/"."""
    source, key, spec, *more = shlex.split(words)
    entry = read(source)
    for part in key.split("/"):
        entry = entry[part]
    if more == ["interval"]:
        return with_interval(entry, spec)
    return format(entry["value"] if isinstance(entry, dict) else entry, spec)


def refreshed(document: str, text: str) -> str:
    """The text of a document with its tables and numbers made anew. Raises KeyError for a table that
    is not there.
    """
    for name, table in BLOCKS.get(document, {}).items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise KeyError(f"{document} has no block <!-- {name} -->")
        text = pattern.sub(lambda m, table=table: f"{m[1]}{table()}\n{m[2]}", text)
    return VALUE.sub(lambda m: f"<!-- v {m[1]} -->{value(m[1])}<!-- /v -->", text)


def documents() -> Iterator[Path]:
    """Every Markdown file that may hold a generated table or number."""
    yield from sorted({*(ROOT / name for name in BLOCKS), *(ROOT / "docs").rglob("*.md")})


def main() -> None:
    for path in documents():
        old = path.read_text(encoding="utf-8")
        new = refreshed(path.relative_to(ROOT).as_posix(), old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} refreshed", file=sys.stderr)


if __name__ == "__main__":
    main()
