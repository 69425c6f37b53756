"""The icons of a conversion: rendered, compared, split and paired, in stages that are kept on disk.

Each stage is written whole, so a conversion that was interrupted loses at most the set or the stage it was at.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from arm.errors import DataError, InputError, shown
from arm.files import atomic_write, make_folder, read_json_object, write_json
from arm.icons.names import IconName
from arm.icons.package import (
    IconSet,
    brand_names,
    kept_names,
    parse_names,
    read_icons,
    read_sets,
)
from arm.icons.pairs import Pair, clean_pairs
from arm.icons.render import Ink, coverage_of, ink_of, render_set
from arm.icons.splits import (
    Assignment,
    Neighbours,
    Shares,
    assign_splits,
    families,
    find_neighbours,
)

VERSION = 1
"""Of the stages' files; they are made anew where it differs."""
Show = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Wraps a loop of a known length to show its progress: items, description, length."""


@dataclass(frozen=True)
class Settings:
    """size: pixels of a side, a multiple of 16. min_sets: a content is asked for in words where it stands in this
    many sets, and min_icons: where each of its words stands in this many icons. records_scale: times the caps of
    records of each kind.
    """

    sets: tuple[str, ...] = ()
    size: int = 64
    seed: int = 0
    min_sets: int = 2
    min_icons: int = 10
    records_scale: float = 1.0
    shares: Shares = field(default_factory=Shares)

    def __post_init__(self) -> None:
        if self.size % 16 or not 16 <= self.size <= 512:
            raise InputError(f"--size must be a multiple of 16 from 16 to 512, not {self.size}")


@dataclass(frozen=True, eq=False)
class Corpus:
    """N icons: their set, name as the set spells it, and what it says. numbers in `pairs` count these icons.

    named: whether words define the picture well enough to ask for it. pictures: by set; `place` is an icon's row there.
    """

    sets: dict[str, IconSet]
    set_of: tuple[str, ...]
    spelled: tuple[str, ...]
    names: tuple[IconName, ...]
    place: tuple[int, ...]
    pictures: dict[str, UInt8[np.ndarray, "m s s c"]]
    aliases: dict[str, dict[str, str]]
    categories: dict[str, dict[str, tuple[str, ...]]]
    named: tuple[bool, ...]
    duplicate: tuple[bool, ...]
    neighbours: Neighbours
    assignment: Assignment
    pairs: tuple[Pair, ...]
    pair_counts: dict[str, tuple[int, int]]
    refused: Counter[str]

    def picture(self, number: int) -> UInt8[np.ndarray, "s s c"]:
        return self.pictures[self.set_of[number]][self.place[number]]

    def is_colour(self, number: int) -> bool:
        return self.sets[self.set_of[number]].colour


def _render_stage(job: tuple[Path, IconSet, int, Path]) -> None:
    """Renders one set into its file, unless it is there."""
    package, icon_set, size, path = job
    if path.is_file():
        return
    contents = read_icons(package, icon_set.prefix)
    rendered = render_set(contents.svgs, size, icon_set.colour)
    about = {
        "names": rendered.names,
        "aliases": contents.aliases,
        "categories": contents.categories,
        "refused": contents.refused + rendered.refused,
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, pixels=rendered.pixels, grids=rendered.grids, about=np.array(json.dumps(about))
        )


def check_settings(work: Path, package: Path, settings: Settings) -> None:
    """Remembers the settings of a conversion. Raises InputError where the folder holds one with other settings."""
    version = read_json_object(package / "package.json", DataError).get("version", "")
    now = {"stages": VERSION, "package": version} | json.loads(json.dumps(asdict(settings)))
    path = work / "settings.json"
    if path.is_file():
        before = read_json_object(path, DataError)
        for key in now:
            if before.get(key) != now[key]:
                raise InputError(
                    f"{shown(str(work.parent))} holds a conversion with {key} = {shown(str(before.get(key)))}, not "
                    f"{shown(str(now[key]))}; name a new folder"
                )
    else:
        make_folder(work)
        write_json(now, path)


def build_corpus(
    package: Path, work: Path, settings: Settings, show: Show, processes: int
) -> Corpus:
    """All stages up to the pairs; those whose files are in `work` are read.

    Raises InputError for a package, a set or settings that do not fit.
    """
    sets = read_sets(package, settings.sets)
    check_settings(work, package, settings)
    make_folder(work / "sets")
    largest_first = sorted(sets, key=lambda s: -(package / "json" / f"{s}.json").stat().st_size)
    files = {s: work / "sets" / f"{s}.npz" for s in sets}
    jobs = [(package, sets[s], settings.size, files[s]) for s in largest_first]
    if processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with ProcessPoolExecutor(processes) as pool:
            list(show(pool.map(_render_stage, jobs), "rendering", len(jobs)))
    else:
        for job in show(jobs, "rendering", len(jobs)):
            _render_stage(job)
    about: dict[str, dict[str, Any]] = {}
    pictures, grids = {}, {}
    for prefix, path in files.items():
        with np.load(path) as data:
            about[prefix] = json.loads(str(data["about"]))
            pictures[prefix], grids[prefix] = data["pixels"], data["grids"]
    parsed = {s: parse_names(s, about[s]["names"]) for s in sets}
    kept, dropped = kept_names(parsed, brand_names(package))
    rows = {s: {name: i for i, name in enumerate(about[s]["names"])} for s in sets}
    set_of = tuple(s for s in sets for _ in kept[s])
    spelled = tuple(name for s in sets for name in kept[s])
    if not spelled:
        raise InputError("no icon of these sets can be used")
    names = tuple(parsed[s][n] for s, n in zip(set_of, spelled, strict=True))
    place = tuple(rows[s][n] for s, n in zip(set_of, spelled, strict=True))
    kept_grids = np.stack([grids[s][p] for s, p in zip(set_of, place, strict=True)])
    neighbours = _neighbour_stage(work / "neighbours.npz", kept_grids, show)
    assignment = assign_splits(set_of, names, neighbours, settings.shares, settings.seed)

    def ink(number: int) -> Ink:
        picture = pictures[set_of[number]][place[number]]
        return ink_of(picture) if picture.shape[-1] == 1 else coverage_of(picture)

    pairs, counts = _pair_stage(work / "pairs.json", set_of, names, ink, show)
    refused = dropped + sum((Counter(a["refused"]) for a in about.values()), Counter[str]())
    duplicate = np.zeros(len(names), bool)
    duplicate[neighbours.second[neighbours.equal()]] = True
    return Corpus(
        sets=sets,
        set_of=set_of,
        spelled=spelled,
        names=names,
        place=place,
        pictures=pictures,
        aliases={s: about[s]["aliases"] for s in sets},
        categories={s: about[s]["categories"] for s in sets},
        named=_named(set_of, names, settings),
        duplicate=tuple(bool(d) for d in duplicate),
        neighbours=neighbours,
        assignment=assignment,
        pairs=tuple(pairs),
        pair_counts=counts,
        refused=refused,
    )


def _named(
    set_of: tuple[str, ...], names: tuple[IconName, ...], settings: Settings
) -> tuple[bool, ...]:
    """Of which icons the words say what is drawn: their content stands in several sets, its words in many icons."""
    in_sets = families(names, set_of)
    words = Counter(word for name in names for word in set(name.content))
    return tuple(
        set_name != "iconmind"
        and in_sets[name.phrase] >= settings.min_sets
        and all(words[word] >= settings.min_icons for word in name.content)
        for set_name, name in zip(set_of, names, strict=True)
    )


def _neighbour_stage(path: Path, grids: np.ndarray, show: Show) -> Neighbours:
    if not path.is_file():
        (found,) = (find_neighbours(grids) for _ in show(range(1), "comparing icons", 1))
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(found))
    with np.load(path) as data:
        return Neighbours(data["first"], data["second"], data["cosine"], data["difference"])


def _pair_stage(
    path: Path,
    set_of: tuple[str, ...],
    names: tuple[IconName, ...],
    ink: Callable[[int], Ink],
    show: Show,
) -> tuple[list[Pair], dict[str, tuple[int, int]]]:
    if not path.is_file():
        ((pairs, counts),) = (
            clean_pairs(set_of, names, ink) for _ in show(range(1), "finding edits", 1)
        )
        rows = [[p.kind, p.source, p.target, *p.step] for p in pairs]
        write_json({"pairs": rows, "counts": counts}, path)
    data = read_json_object(path, DataError)
    pairs = [Pair(k, s, t, (before, after)) for k, s, t, before, after in data["pairs"]]
    return pairs, {kind: (raw, clean) for kind, (raw, clean) in data["counts"].items()}
