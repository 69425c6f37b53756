"""The first half of a published benchmark: the model's pictures or answers, by one process or by many.

    RUN/manifest.json      benchmark, hash of its prompts, model and its hash, settings and seed
    RUN/images/ID_K.png    picture K of item ID; an edit's file records the hash of its source
    RUN/answers*.jsonl     one answer a line, for benchmarks that ask; a file for each process
    RUN/submission.json    answers for the authors' server, where it alone can score them
    RUN/replies/           what the judge replied, by the hash of the whole question
    RUN/report.json        scores with intervals, the judge, and what is missing; report.html shows it
    RUN/items.jsonl        each item's score, pictures and verdicts, for comparisons of two runs

Existing results are kept, so an interrupted run can be continued; results made from a source picture
that has changed are made again. A picture depends on the seed and on its item's position in the
benchmark only, so a run shared by many processes makes the same pictures as one process.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from arm.data.image_files import OPENED
from arm.errors import ConfigError, InputError
from arm.evals.answers import read_answers, write_answers
from arm.evals.benchmarks.base import Benchmark, Item
from arm.evals.benchmarks.files import (
    Fingerprints,
    read_json_object,
    read_picture,
    source_path,
)
from arm.evals.requests import as_turn, draw_codes
from arm.files import atomic_write
from arm.pipeline import Arm
from arm.sequence import Turn

Notify = Callable[[str], None]
"""Takes a line about the progress of a run."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SOURCE = "source"
"""The text field of a picture's file with the SHA-256 of the picture that it was edited from."""


@dataclass(frozen=True)
class Shard:
    """Every `count`-th item from `index` on: what one of several processes makes."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"there is no shard {self.index}/{self.count}: the N shards are 0/N to N-1/N"
            )

    def holds(self, position: int) -> bool:
        return position % self.count == self.index


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """'1/4' -> Shard(1, 4). Raises InputError for anything else."""
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal():
        raise InputError(f"'{text}' is not a shard; give I/N, as 0/4 for the first of four")
    return Shard(int(index), int(count))


class Processes(Protocol):
    """The processes that share a run; the module `arm.train.parallel` is one for torchrun."""

    def init_processes(self) -> Any: ...
    def rank(self) -> int: ...
    def world_size(self) -> int: ...
    def is_main(self) -> bool: ...
    def barrier(self) -> Any: ...


class OneProcess:
    """A run that is not shared."""

    def init_processes(self) -> None:
        pass

    def rank(self) -> int:
        return 0

    def world_size(self) -> int:
        return 1

    def is_main(self) -> bool:
        return True

    def barrier(self) -> None:
        pass


ONE_PROCESS = OneProcess()


@dataclass(frozen=True)
class MakeSettings:
    """How pictures and answers are made."""

    seed: int = 0
    limit: int | None = None
    """Only the first items, as a trial, whose score is not the benchmark's; None for all."""
    known_words: bool = False
    """Leave words that the model does not know out of prompts, instead of an error."""
    batch: int = 1
    """Requests that go through the model together. Changes the speed and, with 16-bit weights, how
    results are rounded."""


def picture_name(item: Item, index: int) -> str:
    """The file name of picture `index` of an item, valid for any id."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.id)
    return f"{safe}_{index}.png"


def prompts_hash(items: Sequence[Item]) -> str:
    """SHA-256 of the ids, texts, options and sources of all items of a benchmark.

    Runs with different hashes cannot be continued or compared.
    """

    def content(item: Item) -> list[Any]:
        more = [dict(part) for part in (item.images, item.ranked) if part]
        return [item.id, item.text, item.image, *more]

    return hashlib.sha256(json.dumps([content(item) for item in items]).encode()).hexdigest()


def check_or_write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a run, or checks that the existing one is the same.

    Of many processes one writes it. Raises ConfigError where the folder belongs to another run.
    """
    path = out / "manifest.json"
    out.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        temporary = out / f"manifest.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(dict(manifest), indent=2) + "\n", encoding="utf-8")
        try:
            os.link(temporary, path)  # unlike a rename, never replaces another process's file
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    old = read_json_object(path)
    for key in sorted(old.keys() | manifest.keys()):
        if old.get(key) != manifest.get(key):
            raise ConfigError(
                f"{out} was made with {key}={old.get(key)}, now it is {manifest.get(key)}; "
                "name another --out"
            )


def picture_path(folder: Path, item: Item, index: int) -> Path | None:
    """The file of picture `index` of an item; None where there is none.

    Other systems' pictures may be .jpg, .jpeg or .webp, and the first may be named ID without "_0".
    """
    own = picture_name(item, index).removesuffix(".png")
    stems = [own, own.removesuffix("_0")] if index == 0 else [own]
    suffixes = [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in suffixes)
    return next((path for path in paths if path.is_file()), None)


def picture_state(folder: Path, item: Item, index: int) -> Literal["whole", "missing", "broken"]:
    """Whether picture `index` of an item exists and can be read."""
    path = picture_path(folder, item, index)
    if path is None:
        return "missing"
    return "broken" if read_picture(path) is None else "whole"


def edited_from(path: Path) -> str | None:
    """The hash of the picture that one of our own was edited from; None where none is recorded."""
    with Pillow.open(path, formats=OPENED) as image:
        fingerprint = image.info.get(SOURCE)
    return fingerprint if isinstance(fingerprint, str) else None


def make(
    arm: Arm,
    benchmark: Benchmark,
    items: Sequence[Item],
    images: Path,
    out: Path,
    settings: MakeSettings,
    shard: Shard = WHOLE,
    notify: Notify = lambda _: None,
) -> dict[str, str]:
    """Makes the pictures or answers of a shard that are missing, or were made from a changed source.

    images: the folder with the benchmark's own pictures. Returns the reason by item for those that
    cannot be made: a missing or broken source picture, or a prompt without any known word.
    """
    own = [(position, item) for position, item in enumerate(items) if shard.holds(position)]
    if benchmark.kind == "questions":
        # Each process writes a file of its own, so that lines of two processes never mix.
        name = "answers" if shard == WHOLE else f"answers-{shard.index}-of-{shard.count}"
        return write_answers(
            arm, [item for _, item in own], images, out / f"{name}.jsonl",
            known_words=settings.known_words, batch=settings.batch, report=notify,
        )  # fmt: skip
    return _make_pictures(arm, benchmark, own, images, out / "images", settings, notify)


def _make_pictures(
    arm: Arm,
    benchmark: Benchmark,
    own: Sequence[tuple[int, Item]],
    images: Path,
    folder: Path,
    settings: MakeSettings,
    notify: Notify,
) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    edits, fingerprints = benchmark.kind == "editing", Fingerprints()

    def is_valid(item: Item, k: int) -> bool:
        path = picture_path(folder, item, k)
        if path is None or read_picture(path) is None:
            return False
        try:
            source = [source_path(images, item)] if edits else []
            return not edits or edited_from(path) == fingerprints.of(source)
        except InputError:
            return True  # the source is gone

    todo = [
        (position, item, k)
        for position, item in own
        for k in range(benchmark.images_per_item)
        if not is_valid(item, k)
    ]
    failed: dict[str, str] = {}
    for start in range(0, len(todo), settings.batch):
        ready: list[tuple[Path, int, Turn, PngInfo]] = []
        for position, item, k in todo[start : start + settings.batch]:
            # One seed for each picture, so that it depends on its item's position and the run's seed
            # only, not on what was made before or shares its batch.
            seed = settings.seed * 1_000_003 + 16 * position + k
            try:
                sources = [source_path(images, item)] if edits else []
                turn = as_turn(arm, (*sources, item.text), known_words=settings.known_words)
                about = PngInfo()
                if sources:
                    about.add_text(SOURCE, fingerprints.of(sources))
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
            notify(f"{done} of {len(todo)} pictures")
    return failed


def unmade(benchmark: Benchmark, items: Sequence[Item], out: Path) -> list[str]:
    """Ids of the items that lack a picture or their answer."""
    if benchmark.kind == "questions":
        answers = read_answers(out)
        return [item.id for item in items if item.id not in answers]
    folder = out / "images"
    indices = range(benchmark.images_per_item)
    return [i.id for i in items if any(picture_path(folder, i, k) is None for k in indices)]
