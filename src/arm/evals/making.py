"""The first half of a published benchmark: pictures or answers, by one process or by many.

    RUN/manifest.json      benchmark, hash of its prompts, model and its hash, settings and seed: what made the rest
    RUN/images/ID_K.png    picture K of item ID; an edit says in its file which picture it was made from
    RUN/answers*.jsonl     one answer a line, of benchmarks that ask; a file for each shard
    RUN/submission.json    answers for the authors' server, where it alone can score them
    RUN/replies/           what the judge said, by the hash of all it was told
    RUN/report.json        scores with intervals, the judge, and what is missing; report.html shows it
    RUN/items.jsonl        each item's score, pictures and verdicts, for comparisons of two runs

What is there is passed over, so a killed run goes on; what was made of a picture that is another one by
now is made again. A picture depends on the seed and on its item's own place in the benchmark, so a run that
many processes share makes the very pictures of one.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from arm.errors import ConfigError, InputError
from arm.evals.answers import read_answers, write_answers
from arm.evals.benchmarks.base import Item, json_object
from arm.evals.benchmarks.registry import Benchmark
from arm.evals.requests import as_turn, draw_codes
from arm.evals.sources import Fingerprints, read_picture, source_path
from arm.files import atomic_write
from arm.pipeline import Arm
from arm.sequence import Turn

Report = Callable[[str], None]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SOURCE = "source"
"""The text in a picture's file that holds the SHA-256 of the picture that it was edited from."""


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
    batch: how many requests go through the model together, which changes nothing but the time (and, with
    16-bit weights, what rounding decides).
    """

    seed: int = 0
    limit: int | None = None
    known_words: bool = False
    batch: int = 1


def picture_name(item: Item, index: int) -> str:
    """A file name for any id."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.id)
    return f"{safe}_{index}.png"


def prompts_hash(items: Sequence[Item]) -> str:
    """Of the ids, texts, options and sources of a benchmark's items, all of them: other ones belong to
    another run.
    """

    def told(item: Item) -> list[Any]:
        more = [dict(found) for found in (item.images, item.ranked) if found]
        return [item.id, item.text, item.image, *more]

    return hashlib.sha256(json.dumps([told(item) for item in items]).encode()).hexdigest()


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


def picture_path(folder: Path, item: Item, index: int) -> Path | None:
    """The file of picture `index` of an item; another system may name the first one ID.png alone, and
    write .jpg, .jpeg or .webp instead.
    """
    own = picture_name(item, index).removesuffix(".png")
    stems = [own, own.removesuffix("_0")] if index == 0 else [own]
    ends = [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]
    paths = (folder / f"{stem}{end}" for stem in stems for end in ends)
    return next((path for path in paths if path.is_file()), None)


def state(folder: Path, item: Item, index: int) -> Literal["whole", "missing", "broken"]:
    """Whether picture `index` of an item is there and can be read."""
    path = picture_path(folder, item, index)
    if path is None:
        return "missing"
    return "broken" if read_picture(path) is None else "whole"


def edited_from(path: Path) -> str | None:
    """The fingerprint of the picture that one of our own was edited from; None where none is recorded."""
    with Pillow.open(path) as image:
        found = image.info.get(SOURCE)
    return found if isinstance(found, str) else None


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
    """Pictures or answers for all items of the shard that have none yet, or that have those of another
    source; why there is none, by item.

    images: the folder with the benchmark's own pictures. An item whose picture is missing or broken
    is named and passed over; so is one of which the model knows no word.
    """
    mine = [(place, item) for place, item in enumerate(items) if shard.holds(place)]
    if benchmark.kind == "questions":
        # Each process writes a file of its own, so that no two lines can meet.
        name = "answers" if shard == WHOLE else f"answers-{shard.index}-of-{shard.count}"
        return write_answers(
            arm, [item for _, item in mine], images, out / f"{name}.jsonl",
            known_words=settings.known_words, batch=settings.batch, report=report,
        )  # fmt: skip
    return _paint(arm, benchmark, mine, images, out / "images", settings, report)


def _paint(
    arm: Arm,
    benchmark: Benchmark,
    mine: Sequence[tuple[int, Item]],
    images: Path,
    folder: Path,
    settings: Settings,
    report: Report,
) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    edits, prints = benchmark.kind == "editing", Fingerprints()

    def stands(item: Item, k: int) -> bool:
        path = picture_path(folder, item, k)
        if path is None or read_picture(path) is None:
            return False
        try:
            return not edits or edited_from(path) == prints.of([source_path(images, item)])
        except InputError:
            return True  # of a source that is not there any more

    todo = [
        (place, item, k)
        for place, item in mine
        for k in range(benchmark.pictures)
        if not stands(item, k)
    ]
    failed: dict[str, str] = {}
    for start in range(0, len(todo), settings.batch):
        ready: list[tuple[Path, int, Turn, PngInfo]] = []
        for place, item, k in todo[start : start + settings.batch]:
            # A seed of its own: a picture depends on its item's place and the seed alone, neither on
            # what was made before nor on what shares a batch.
            seed = settings.seed * 1_000_003 + 16 * place + k
            try:
                sources = [source_path(images, item)] if edits else []
                turn = as_turn(arm, (*sources, item.text), known_words=settings.known_words)
                about = PngInfo()
                if sources:
                    about.add_text(SOURCE, prints.of(sources))
            except InputError as error:
                failed[item.id] = str(error)
                continue
            ready.append((folder / picture_name(item, k), seed, turn, about))
        drawn = draw_codes(arm, [turn for _, _, turn, _ in ready], seed=[r[1] for r in ready])
        for (path, seed, _, about), codes in zip(ready, drawn, strict=True):
            with atomic_write(path, shared=True) as temporary:
                arm.decode(codes, seed=seed).save(temporary, "PNG", pnginfo=about)
        done = min(start + settings.batch, len(todo))
        if done // 32 > start // 32 or done == len(todo):
            report(f"{done} of {len(todo)} pictures")
    return failed


def unmade(benchmark: Benchmark, items: Sequence[Item], out: Path) -> list[str]:
    """Ids of the items that lack a picture or their answer."""
    if benchmark.kind == "questions":
        answered = read_answers(out)
        return [item.id for item in items if item.id not in answered]
    folder = out / "images"
    counts = range(benchmark.pictures)
    return [i.id for i in items if any(picture_path(folder, i, k) is None for k in counts)]
