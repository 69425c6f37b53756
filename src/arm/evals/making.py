"""The first half of a published benchmark: pictures or answers, by one process or by many.

    RUN/manifest.json      benchmark, hash of its prompts, model and its hash, settings and seed: what made the rest
    RUN/images/ID_K.png    picture K of item ID
    RUN/answers*.jsonl     one answer a line, of benchmarks that ask; a file for each shard
    RUN/replies/           what the judge said, by the hash of all it was told
    RUN/report.json        scores with intervals, the judge, and what is missing; report.html shows it
    RUN/items.jsonl        each item's score, pictures and verdicts, for comparisons of two runs

What is there is passed over, so a killed run goes on. A picture depends on the seed and on its item's
own place in the benchmark, so a run that many processes share makes the very pictures of one.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from arm.errors import ConfigError, DataError, InputError
from arm.evals.benchmarks.base import Item, json_object
from arm.evals.benchmarks.registry import Benchmark
from arm.pipeline import Arm, Codes

Picture = UInt8[np.ndarray, "h w 3"]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Shard:
    """Every `count`-th item from `index` on: what one of several processes makes."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"shard {self.index}/{self.count} is none: of N shards there are 0/N to N-1/N"
            )

    def holds(self, place: int) -> bool:
        return place % self.count == self.index


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """'1/4' -> Shard(1, 4). Raises InputError for anything else."""
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal():
        raise InputError(f"'{text}' is no shard; give I/N, as 0/4 for the first of four")
    return Shard(int(index), int(count))


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


def prompts_hash(items: Sequence[Item]) -> str:
    """Of the ids, texts and sources of a benchmark's items, all of them: other ones belong to another run."""
    told = json.dumps([[item.id, item.text, item.image] for item in items])
    return hashlib.sha256(told.encode()).hexdigest()


def begin(out: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, or agrees with the one that is there; of many processes one writes it.

    Raises ConfigError where the folder belongs to another run.
    """
    path = out / "manifest.json"
    out.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        temporary = out / f"manifest.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(dict(manifest), indent=2) + "\n", encoding="utf-8")
        try:
            os.link(temporary, path)  # unlike a rename it leaves another process's file alone
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    old = json_object(path)
    for key in sorted(old.keys() | manifest.keys()):
        if old.get(key) != manifest.get(key):
            raise ConfigError(
                f"{out} was made with {key}={old.get(key)}, now it is {manifest.get(key)}; "
                "name another --out"
            )


def spoken(arm: Arm, text: str, settings: Settings) -> str:
    """The text as the model can read it. Raises InputError where nothing of it is left."""
    if not settings.known_words:
        return text
    kept = arm.words.known(text)
    if not kept:
        raise InputError(f"the model knows no word of '{text}'")
    return kept


def read_picture(path: Path) -> Picture | None:
    """A picture's pixels, None where it is missing or broken."""
    try:
        with Pillow.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        return None


def picture_path(folder: Path, item: Item, index: int) -> Path | None:
    """The file of picture `index` of an item; another system may name the first one ID.png alone."""
    own = picture_name(item, index)
    names = [own, own.removesuffix("_0.png") + ".png"] if index == 0 else [own]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def state(folder: Path, item: Item, index: int) -> Literal["whole", "missing", "broken"]:
    """Whether picture `index` of an item is there and can be read."""
    path = picture_path(folder, item, index)
    if path is None:
        return "missing"
    return "broken" if read_picture(path) is None else "whole"


def source_path(images: Path, item: Item) -> Path:
    """The benchmark's own picture of an item. Raises InputError where there is none."""
    if item.image is None:
        raise InputError(f"item {item.id} names no picture")
    path = images / item.image
    if not path.is_file():
        raise InputError(f"{path} is missing")
    return path


def make(
    arm: Arm,
    benchmark: Benchmark,
    items: Sequence[Item],
    images: Path,
    out: Path,
    settings: Settings,
    shard: Shard = WHOLE,
    report: Report = lambda _: None,
) -> dict[str, str]:
    """Pictures or answers for all items of the shard that have none yet; why there is none, by item.

    images: the folder with the benchmark's own pictures. An item whose picture is missing or broken
    is named and passed over; so is one of which the model knows no word.
    """
    mine = [(place, item) for place, item in enumerate(items) if shard.holds(place)]
    if benchmark.kind == "questions":
        return _answer(arm, [item for _, item in mine], images, out, settings, shard, report)
    failed: dict[str, str] = {}
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    todo = [
        (place, item, k)
        for place, item in mine
        for k in range(benchmark.pictures)
        if state(folder, item, k) != "whole"
    ]
    for number, (place, item, k) in enumerate(todo, 1):
        # One request at a time: a picture depends on its item's place and the seed alone, neither on
        # what was made before nor on what shares a batch.
        seed = settings.seed * 1_000_003 + 16 * place + k
        try:
            text = spoken(arm, item.text, settings)
            if benchmark.kind == "editing":
                source = arm.encode(source_path(images, item))
                codes = arm.edit_codes([source], [text], seed=seed)[0]
            else:
                codes = arm.draw_prompts([text], seed=seed)[0]
        except InputError as error:
            failed[item.id] = str(error)
            continue
        path = folder / picture_name(item, k)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        arm.decode(codes, seed=seed).save(temporary, "PNG")
        temporary.replace(path)
        if number % 32 == 0 or number == len(todo):
            report(f"{number} of {len(todo)} pictures")
    return failed


def _answer(
    arm: Arm,
    items: Sequence[Item],
    images: Path,
    out: Path,
    settings: Settings,
    shard: Shard,
    report: Report,
) -> dict[str, str]:
    answered, failed = read_answers(out), {}
    codes: dict[Path, Codes] = {}
    # Each process writes a file of its own, so that no two lines can meet.
    name = "answers" if shard == WHOLE else f"answers-{shard.index}-of-{shard.count}"
    path = out / f"{name}.jsonl"
    if path.is_file():
        whole = "".join(f"{line}\n" for line in _whole_lines(path))
        temporary = path.with_suffix(".tmp")  # a kill while this is written takes no answer away
        temporary.write_text(whole, encoding="utf-8")
        temporary.replace(path)
    with path.open("a", encoding="utf-8") as file:
        for number, item in enumerate(items, 1):
            if item.id in answered:
                continue
            try:
                source = source_path(images, item)
                if source not in codes:
                    codes = {source: arm.encode(source)}
                text = spoken(arm, item.text, settings)
                answer = arm.answer_codes([codes[source]], [text])[0]
            except InputError as error:
                failed[item.id] = str(error)
                continue
            file.write(json.dumps({"id": item.id, "answer": answer}) + "\n")
            file.flush()
            if number % 100 == 0:
                report(f"{number} of {len(items)} answers")
    return failed


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file but for a last one that a kill cut off. Raises DataError for no text."""
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds no answers ({error})") from None
    yield from whole.splitlines()


def read_answers(out: Path) -> dict[str, str]:
    """Answers by item, those of all shards. Raises DataError for a line that is none."""
    found: dict[str, str] = {}
    for path in sorted(out.glob("answers*.jsonl")):
        for number, line in enumerate(_whole_lines(path), 1):
            try:
                entry = json.loads(line)
                name, answer = entry["id"], entry["answer"]
                if not isinstance(name, str) or not isinstance(answer, str):
                    raise TypeError("an answer is a text")
                found[name] = answer
            except (ValueError, TypeError, KeyError):
                raise DataError(
                    f"{path}:{number} is no answer; take the line out, and it is made again"
                ) from None
    return found


def unmade(benchmark: Benchmark, items: Sequence[Item], out: Path) -> list[str]:
    """Ids of the items that lack a picture or their answer."""
    if benchmark.kind == "questions":
        answered = read_answers(out)
        return [item.id for item in items if item.id not in answered]
    folder = out / "images"
    counts = range(benchmark.pictures)
    return [i.id for i in items if any(picture_path(folder, i, k) is None for k in counts)]
