"""Users' data becomes code shards, once (see `data/code_shards.py` for the layout).

Shard i holds the records i * shard_size to (i + 1) * shard_size, so any process can make any shard and a
shard that is there is passed over: a run that was killed goes on where it was. One process reads
pictures in threads beside the tokenizer; with Ray as many processes as there is room for, on as many
machines as share `out`, make the same bytes.
"""

import logging
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.code_shards import Encoded, shard_path, write_code_shard
from arm.data.contents import container_stamps, contents_of, discard_changed_shards
from arm.data.conversation import Conversation
from arm.data.images import to_float
from arm.data.records import SKIPPED, Skipped, Source, without_place
from arm.data.source_folder import LeftOut
from arm.data.sources import left_out, open_source
from arm.errors import ArmError, ConfigError, DataError, TrainingError, WeightsError
from arm.files import read_json
from arm.model_directory import load_defaults, model_files
from arm.models.pretrained import load_siglip, locate
from arm.models.tokenizer import VisualTokenizer
from arm.train.provenance import check_or_write_manifest, tokenizer_hash
from arm.train.training import training_device

Grid = tuple[int, int]
Fitted = list[NDArray[np.uint8]]
"""The pictures of a record, each at the pixels of its grid."""


@dataclass(frozen=True)
class EncodeDataRun:
    """Turns a data set into code shards."""

    data: Path
    """Anything that `open_source` opens."""
    out: Path
    tokenizer: Path
    """The directory of tokenizer.safetensors: of a training run, or the part of a model."""
    siglip: str
    """The vision encoder under the tokenizer: a directory in the Hugging Face layout, or a hub id."""
    grids: tuple[Grid, ...]
    """(height, width) in tokens. Each picture takes the grid that suits its size and shape (`best_grid`)."""
    shard_size: int = 1000
    batch: int = 64
    """Pictures in one forward pass of the tokenizer."""
    workers: int = 2
    """Threads that read pictures; with `ray` the largest number of processes."""
    ray: bool = False
    allow_outside: bool = False
    """See `open_source`."""

    def __post_init__(self) -> None:
        if min(self.shard_size, self.batch, self.workers) < 1:
            raise ValueError("shard_size, batch and workers must be at least 1")


@dataclass(frozen=True)
class Summary:
    """What a run wrote: `shards` of them now, the rest were there; `skipped` records of all."""

    shards: int
    pictures: int
    skipped: int
    seconds: float
    changed: int = 0
    """Those of `shards` that were there, made from records that have changed since."""
    left_out: tuple[LeftOut, ...] = ()


def run_for_model(model: str, data: Path, out: Path, **settings: Any) -> EncodeDataRun:
    """The run with the tokenizer and the grids of a model directory. Raises WeightsError."""
    parts, grids = model_files(model).parts, load_defaults(model).grids
    return EncodeDataRun(data, out, parts, str(parts / "siglip"), grids, **settings)


def run_for_tokenizer(
    source: Path, data: Path, out: Path, grids: Sequence[Grid] = (), **settings: Any
) -> EncodeDataRun:
    """The run with the tokenizer of a training run, or of a directory that holds one and its `siglip`.

    A training run's configuration names its vision encoder, and its grids where `grids` is empty. Raises
    WeightsError where there is no tokenizer, ConfigError where grids are needed and not given.
    """
    if not (source / "tokenizer.safetensors").is_file():
        raise WeightsError(
            f"{source} holds no tokenizer.safetensors; name the directory of a tokenizer run, or of a model's "
            "parts"
        )
    siglip = str(source / "siglip")
    if (source / "config.json").is_file():
        config = read_json(source / "config.json")
        try:
            siglip = str(config["pretrained"]["siglip"])
            grids = grids or [(int(g["height"]), int(g["width"])) for g in config["grids"]]
        except (LookupError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{source / 'config.json'} is not of a tokenizer run ({error!r})"
            ) from None
    if not grids:
        raise ConfigError(f"{source} names no grids; give them, as --grids 16x16,14x18,18x14")
    return EncodeDataRun(data, out, source, siglip, tuple(grids), **settings)


def load_tokenizer(run: EncodeDataRun) -> VisualTokenizer:
    """Raises WeightsError for missing or damaged files."""
    siglip = load_siglip(locate(run.siglip), training_device().type == "cuda")
    return VisualTokenizer.load(run.tokenizer, siglip.vision_model)


class ShardEncoder:
    """A loaded tokenizer that makes shards; the same for one process and for each of Ray's."""

    def __init__(self, run: EncodeDataRun, source: Source) -> None:
        self.tokenizer = load_tokenizer(run).to(training_device())
        self.run, self.source = run, source
        self.containers = container_stamps(source.name)
        self.skipped = Skipped(run.out / SKIPPED)

    def make(self, index: int, seen: Callable[[int], None] = lambda pictures: None) -> int:
        """Writes shard `index`; returns how many pictures it has. `seen`: told of each record's."""
        indices = _records(self.run, self.source, index)
        kept: list[tuple[Conversation, list[NDArray[Any]]]] = []
        waiting: dict[Grid, list[tuple[int, int, NDArray[np.uint8]]]] = defaultdict(list)

        def encode(grid: Grid) -> None:
            # Batches depend on the shard's records alone, so their rounding does too.
            codes = self.tokenizer.encode(to_float(np.stack([w[2] for w in waiting[grid]])))
            for (record, k, _), one in zip(waiting.pop(grid), codes.cpu().numpy(), strict=True):
                kept[record][1][k] = one

        for found in _ahead(self._read, indices, self.run.workers, self.run.batch):
            if found is None:
                seen(0)
                continue
            conversation, fitted = found
            kept.append((conversation, [np.zeros(0)] * len(fitted)))
            for k, image in enumerate(fitted):
                patch = self.tokenizer.patch
                grid = image.shape[0] // patch, image.shape[1] // patch
                waiting[grid].append((len(kept) - 1, k, image))
                if len(waiting[grid]) == self.run.batch:
                    encode(grid)
            seen(len(fitted))
        for grid in sorted(waiting):
            encode(grid)
        items: list[Encoded] = list(kept)
        contents_of(self.source, indices, self.containers).write(self.run.out, index)
        write_code_shard(self.run.out, index, items)
        return sum(len(codes) for _, codes in kept)

    def _read(self, index: int) -> tuple[Conversation, Fitted] | None:
        """A record with its pictures fitted; None, and noted, where it or one of them is broken."""
        where = self.source.where(index)
        try:
            record = self.source.record(index)
            indices, patch = range(len(record.conversation.images)), self.tokenizer.patch
            fitted = [record.fitted_image(k, self.run.grids, patch) for k in indices]
        except DataError as error:
            self.skipped.add(where, without_place(where, error))
            return None
        return record.conversation, fitted

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, list[int]]:
        """Ray's entry: shards by number -> the same numbers, and how many pictures each has."""
        shards = [int(index) for index in batch["shard"]]
        return {"shard": shards, "pictures": [self.make(index) for index in shards]}


def _ahead(
    read: Callable[[int], Any], indices: Sequence[int], threads: int, room: int
) -> Iterator[Any]:
    """read(i) for each index in order, up to `room` of them read ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Any]] = deque()
        for index in indices:
            waiting.append(pool.submit(read, index))
            if len(waiting) > room:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def main(run: EncodeDataRun) -> Summary:
    """Writes the shards that are not there yet.

    Raises DataError for data that cannot be opened, WeightsError for a missing tokenizer, and ConfigError
    where `out` holds shards of another tokenizer, other data or another shard size.
    """
    begun = time.monotonic()
    source = open_source(run.data, run.allow_outside)
    num_shards = -(-len(source) // run.shard_size)
    _agree(run, source, num_shards)
    changed = discard_changed_shards(run.out, source, run.shard_size)
    missing = [i for i in range(num_shards) if not shard_path(run.out, i).is_file()]
    records = sum(len(_records(run, source, index)) for index in missing)
    pictures = 0
    with _meter(records, len(missing)) as tell:
        if run.ray and missing:
            load_tokenizer(run)  # a fault shows here in one line, not in every process
            for index, made in _by_ray(run, source, missing):
                pictures += made
                tell(len(_records(run, source, index)), made, True)
        elif missing:
            encoder = ShardEncoder(run, source)
            for index in missing:
                pictures += encoder.make(index, lambda made: tell(1, made, False))
                tell(0, 0, True)
    skipped = len(Skipped(run.out / SKIPPED))
    seconds = time.monotonic() - begun
    return Summary(len(missing), pictures, skipped, seconds, changed, left_out(source))


def _records(run: EncodeDataRun, source: Source, shard: int) -> range:
    """The records of a shard."""
    return range(shard * run.shard_size, min((shard + 1) * run.shard_size, len(source)))


def _agree(run: EncodeDataRun, source: Source, num_shards: int) -> None:
    """Writes what the shards are made from, or checks that it is what made those that are there."""
    manifest = {
        "data": str(Path(source.name).resolve()),
        "records": len(source),
        "shard_size": run.shard_size,
        "num_shards": num_shards,
        "tokenizer": tokenizer_hash(run.tokenizer, run.siglip),
        "grids": [list(grid) for grid in run.grids],
    }
    check_or_write_manifest(run.out, manifest, "name another --out")


@contextmanager
def _meter(records: int, shards: int) -> Iterator[Callable[[int, int, bool], None]]:
    """Shows how far the records are and how many pictures pass a second: a bar on a terminal, else a
    line a shard. What it gives is told of records, pictures, and whether a shard was finished.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    begun = time.monotonic()
    done = {"pictures": 0, "shards": 0}
    columns = (
        TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TextColumn("records"),
        TextColumn("{task.fields[rate]:.0f} pictures/s"), TimeRemainingColumn(),
    )  # fmt: skip
    quiet = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task("", total=records, rate=0.0)

        def tell(read: int, made: int, finished: bool) -> None:
            done["pictures"] += made
            rate = done["pictures"] / max(time.monotonic() - begun, 1e-9)
            progress.update(bar, advance=read, rate=rate)
            if finished:
                done["shards"] += 1
                if quiet:
                    print(f"encode {done['shards']}/{shards} {rate:.0f} pictures/s", flush=True)

        yield tell


def _by_ray(
    run: EncodeDataRun, source: Source, missing: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """(shard, its count of pictures), as Ray's processes finish them.

    Joins the cluster that RAY_ADDRESS names, or starts one on this machine; every process loads the
    tokenizer once and takes a GPU where there is one.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("--ray needs Ray: pip install 'arm-lmm[data]'") from None
    own = not ray.is_initialized()
    if own:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        on_gpu = "GPU" in ray.cluster_resources()
        room = int(ray.cluster_resources()["GPU" if on_gpu else "CPU"])
        first = max(1, min(run.workers, room, len(missing)))
        shards = ray.data.from_items(
            [{"shard": i} for i in missing], override_num_blocks=len(missing)
        )
        made = shards.map_batches(
            ShardEncoder,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=first, max_size=max(first, run.workers)),
            num_gpus=1 if on_gpu else None,
            fn_constructor_kwargs={"run": run, "source": source},
        )
        for row in made.iter_rows():
            yield int(row["shard"]), int(row["pictures"])
    except Exception as error:  # Ray wraps what a process raised
        raise _cause(error) from None
    finally:
        if own:
            ray.shutdown()


def _cause(error: BaseException) -> Exception:
    """The error of ours inside one of Ray's, or one line of what Ray says."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ArmError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return TrainingError(f"Ray stopped: {lines[-1]}; the shards that are there are kept")
