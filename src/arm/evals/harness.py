"""Published benchmarks in two halves that can run apart: make pictures or answers, then score them.

    RUN/manifest.json     benchmark, model and its hash, settings and seed: what made the rest
    RUN/images/ID_K.png   picture K of item ID
    RUN/answers.jsonl     one answer a line, of benchmarks that ask
    RUN/replies/          what the judge said, by the hash of all it was told
    RUN/report.json       scores with intervals, the judge, and what is missing; report.html shows it

Both halves pass over what is there, so a killed run goes on, and no judge call is paid twice. The second
half also takes a plain folder of pictures that another system made, named ID_K.png or ID.png.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from arm.errors import ConfigError, InputError
from arm.evals.benchmarks.base import Item, Result
from arm.evals.benchmarks.registry import Benchmark, Call
from arm.evals.page import Shown
from arm.judge import Endpoint, JudgeConfig, Messages, png, user_message
from arm.models.weights import read_json, write_json
from arm.pipeline import Arm, Codes

Picture = UInt8[np.ndarray, "h w 3"]
Replies = Mapping[str, Sequence[Sequence[str | None]]]
"""[item][picture][call], None where missing."""


# Making


@dataclass(frozen=True)
class Settings:
    """How a run is made. limit: the first items alone, for a trial (its score is not the benchmark's).
    known_words: words that the model does not know are left out of prompts, instead of an error.
    """

    seed: int = 0
    limit: int | None = None
    known_words: bool = False


def picture_name(item: Item, index: int) -> str:
    """A file name for any id."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.id)
    return f"{safe}_{index}.png"


def begin(out: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest. Raises ConfigError where the folder belongs to another run."""
    path = out / "manifest.json"
    if path.is_file():
        old = read_json(path)
        for key in sorted(old.keys() | manifest.keys()):
            if old.get(key) != manifest.get(key):
                raise ConfigError(
                    f"{out} was made with {key}={old.get(key)}, now it is {manifest.get(key)}; "
                    "name another --out"
                )
    out.mkdir(parents=True, exist_ok=True)
    write_json(dict(manifest), path)


def spoken(arm: Arm, text: str, settings: Settings) -> str:
    """The text as the model can read it. Raises InputError where nothing of it is left."""
    if not settings.known_words:
        return text
    kept = arm.words.known(text)
    if not kept:
        raise InputError(f"the model knows no word of '{text}'")
    return kept


def make(
    arm: Arm,
    benchmark: Benchmark,
    items: Sequence[Item],
    images: Path,
    out: Path,
    settings: Settings,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, str]:
    """Pictures or answers for all items that have none yet; why there is none, by item.

    images: the folder with the benchmark's own pictures. An item whose picture is missing or broken
    is named and passed over; so is one of which the model knows no word.
    """
    failed: dict[str, str] = {}
    if benchmark.kind == "questions":
        _answer(arm, items, images, out, settings, report, failed)
        return failed
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    todo = [
        (place, item, k)
        for place, item in enumerate(items)
        for k in range(benchmark.pictures)
        if not (folder / picture_name(item, k)).is_file()
    ]
    for number, (place, item, k) in enumerate(todo, 1):
        # A picture depends on its item's place and the seed alone, not on what was made before.
        seed = settings.seed * 1_000_003 + 16 * place + k
        try:
            text = spoken(arm, item.text, settings)
            if benchmark.kind == "editing":
                source = arm.encode(_source(images, item))
                codes = arm.edit_codes([source], [text], seed=seed)[0]
            else:
                codes = arm.draw_prompts([text], seed=seed)[0]
        except InputError as error:
            failed[item.id] = str(error)
            continue
        path = folder / picture_name(item, k)
        arm.decode(codes, seed=seed).save(path.with_suffix(".tmp"), "PNG")
        path.with_suffix(".tmp").replace(path)
        if number % 32 == 0 or number == len(todo):
            report(f"{number} of {len(todo)} pictures")
    return failed


def _source(images: Path, item: Item) -> Path:
    if item.image is None:
        raise InputError(f"item {item.id} names no picture")
    path = images / item.image
    if not path.is_file():
        raise InputError(f"{path} is missing")
    return path


def _answer(
    arm: Arm,
    items: Sequence[Item],
    images: Path,
    out: Path,
    settings: Settings,
    report: Callable[[str], None],
    failed: dict[str, str],
) -> None:
    answered = read_answers(out)
    codes: dict[Path, Codes] = {}
    with (out / "answers.jsonl").open("a", encoding="utf-8") as file:
        for number, item in enumerate(items, 1):
            if item.id in answered:
                continue
            try:
                path = _source(images, item)
                if path not in codes:
                    codes = {path: arm.encode(path)}
                text = spoken(arm, item.text, settings)
                answer = arm.answer_codes([codes[path]], [text])[0]
            except InputError as error:
                failed[item.id] = str(error)
                continue
            file.write(json.dumps({"id": item.id, "answer": answer}) + "\n")
            file.flush()
            if number % 100 == 0:
                report(f"{number} of {len(items)} answers")


def read_answers(out: Path) -> dict[str, str]:
    """Answers by item; a last line that a kill cut off is no answer."""
    path = out / "answers.jsonl"
    found: dict[str, str] = {}
    if path.is_file():
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        for line in whole.splitlines():
            entry = json.loads(line)
            found[entry["id"]] = entry["answer"]
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return found


# Scoring


def _picture(folder: Path, item: Item, index: int) -> Picture | None:
    """Picture `index` of an item, None where it is missing or broken."""
    names = [picture_name(item, index)]
    if index == 0:
        names.append(picture_name(item, 0).replace("_0.png", ".png"))
    for name in names:
        try:
            with Pillow.open(folder / name) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError):
            continue
    return None


def questions_for(
    benchmark: Benchmark,
    directory: Path,
    item: Item,
    folder: Path,
    images: Path,
    index: int,
    min_side: int,
) -> list[tuple[Call, Messages | None]]:
    """The judge's questions about one picture; None where the picture or its source is missing."""
    picture = _picture(folder, item, index)
    found: list[tuple[Call, Messages | None]] = []
    for call in benchmark.calls(directory, item):
        shown = [picture]
        if call.with_source:
            source = None
            try:
                with Pillow.open(_source(images, item)) as image:
                    source = np.asarray(image.convert("RGB"))
            except (InputError, OSError, ValueError):
                pass
            shown = [source, picture]
        files = [png(p, min_side) for p in shown if p is not None]
        whole = len(files) == len(shown)
        found.append((call, [user_message(call.text, files)] if whole else None))
    return found


def judge(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    images: Path,
    folder: Path,
    endpoint: Endpoint,
) -> Replies:
    """What the judge says about every picture in `folder`; None for a missing picture or verdict."""
    asked: list[tuple[str, int, Call, Messages | None]] = []
    for item in items:
        for k in range(benchmark.pictures):
            for call, messages in questions_for(
                benchmark, directory, item, folder, images, k, endpoint.config.min_side
            ):
                asked.append((item.id, k, call, messages))
    replies: dict[str, list[list[str | None]]] = {
        item.id: [[] for _ in range(benchmark.pictures)] for item in items
    }
    again = (
        "That could not be read. Answer exactly in the form that was asked for, and nothing else."
    )
    sent = [(call, m) for _, _, call, m in asked if m is not None]
    found = iter(endpoint.ask_each([m for _, m in sent], [c.readable for c, _ in sent], again))
    for name, k, _, messages in asked:
        reply = None if messages is None else next(found)
        replies[name][k].append(None if reply is None else reply.text)
    return replies


def shown(
    benchmark: Benchmark, items: Sequence[Item], images: Path, folder: Path, replies: Replies
) -> list[Shown]:
    """Every item as the page shows it: the first picture that was made, and its source before it."""
    found = []
    for item in items:
        source = () if item.image is None else (images / item.image,)
        made = () if benchmark.kind == "questions" else (folder / picture_name(item, 0),)
        said = replies.get(item.id) or [[None]]
        found.append(Shown(item.id, item.text, item.group, (*source, *made), tuple(said[0])))
    return found


def report_of(
    benchmark: Benchmark,
    result: Result,
    judge_config: JudgeConfig | None,
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """A report as plain data, the share of missing verdicts in its first lines."""
    return {
        "benchmark": benchmark.name,
        "overall": result.overall.to_dict(),
        "missing_share": result.missing_share,
        "missing": result.missing,
        "items": result.total,
        "judge": None if judge_config is None else {"model": judge_config.model},
        "groups": {name: score.to_dict() for name, score in result.groups.items()},
        "details": dict(result.details),
        "not_made": dict(failed),
    }
