"""What a run of a language model costs before it is paid for: memory, FLOPs, hours, and what fits.

Everything follows from the configuration; no weights are read. `train/measure.py` checks it.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from arm.errors import ConfigError
from arm.models.backbone_config import read_settings
from arm.train.gpus import GPU
from arm.train.lm import LMRun
from arm.train.plan_flops import Flops, by_kind, flops_of
from arm.train.plan_memory import Bytes, Setting, dtype_of, fullest
from arm.train.plan_sizes import Count, Sizes, Work, sizes_of

MOST_ROWS = 4096
"""Where the search for the largest micro-batch ends."""
SHORT = 1024
"""Tokens of the shortest row that is proposed."""


@dataclass(frozen=True)
class Mix:
    """What rows hold, where the data have not been looked at. code, text: shares of tokens whose loss
    is of a code, of text; document: tokens of a packed document, 0 for whole rows; sample: tokens of
    a sample where a batch is counted in samples, 0 for half a row.
    """

    code: float = 0.8
    text: float = 0.2
    document: int = 0
    sample: int = 0

    def __post_init__(self) -> None:
        # A NaN is in no order, so what is wanted is asked for.
        counted = self.document >= 0 and self.sample >= 0
        if not (counted and self.code >= 0 and self.text >= 0 and self.code + self.text <= 1):
            raise ValueError("shares of code and text must be 0 or more and together at most 1")


@dataclass(frozen=True)
class Cluster:
    """GPUs, each one process, and the share of their peak that the model's FLOPs reach."""

    gpu: GPU
    count: int = 1
    mfu: float = 0.4

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.mfu <= 1:
            raise ValueError("there must be a GPU, and a utilisation above 0 and at most 1")


@dataclass(frozen=True)
class Plan:
    """memory: of the fullest moment of the fullest GPU. flops: of one GPU's step, on average. micro_rows:
    rows at a time; largest_micro_rows: of them what fits. headline: whether it fits, and what to change
    where not.
    """

    headline: str
    fits: bool
    cluster: Cluster
    parameters: dict[str, Count]
    memory: Bytes
    flops: Flops
    micro_rows: int
    largest_micro_rows: int
    tokens_per_step: float
    tokens_per_second: float
    steps: int
    notes: tuple[str, ...]

    @property
    def hours(self) -> float:
        return self.steps * self.tokens_per_step / self.tokens_per_second / 3600

    @property
    def flops_per_token(self) -> float:
        return self.flops.model * self.cluster.count / self.tokens_per_step

    def to_dict(self) -> dict[str, Any]:
        """JSON types, what is computed from the fields included."""
        tokens = self.tokens_per_step / self.cluster.count
        return {
            **asdict(self),
            "bytes": self.memory.by_kind() | {"total": self.memory.total},
            "flops_per_token": {k: v / tokens for k, v in by_kind(self.flops).items()}
            | {"model": self.flops.model / tokens, "hardware": self.flops.hardware / tokens},
            "hours": self.hours,
            "gpu_hours": self.hours * self.cluster.count,
        }


def words_of(run: LMRun) -> tuple[int, str]:
    """The size of the run's text tokenizer, and where it was found. Raises ConfigError."""
    if run.backbone.text_size:
        return run.backbone.text_size, "backbone.text_size"
    if (run.text_tokenizer / "tokenizer.json").is_file():
        from arm.models.pretrained import load_text_tokenizer

        return len(load_text_tokenizer(run.text_tokenizer)), str(run.text_tokenizer)
    if run.init_from is not None and run.init_from.is_dir():
        return read_settings(run.init_from)[1].text_size, str(run.init_from)
    if run.domain is not None and run.shards and not run.conversations:
        return len(run.domain.text_tokenizer()), "the domain's words"
    raise ConfigError(
        f"{run.text_tokenizer} is not there to count its words; set backbone.text_size=N"
    )


def local_rows(run: LMRun, processes: int, mix: Mix) -> float:
    """Rows of one process and step, on average: where they do not come out even some processes have one
    more than others. Raises ConfigError where they cannot be shared out.
    """
    if run.rows:
        if run.rows % processes:
            raise ConfigError(
                f"rows={run.rows} cannot be shared by {processes} GPUs; set rows="
                f"{math.ceil(run.rows / processes) * processes}"
            )
        return run.rows // processes
    rows = math.ceil(run.samples * (mix.sample or run.row_length / 2) / run.row_length)
    if rows < processes:
        raise ConfigError(
            f"{run.samples} samples make about {rows} rows for {processes} GPUs; raise samples"
        )
    return rows / processes


def shards_of(run: LMRun, processes: int) -> int:
    """Processes that hold a model between them. Raises ConfigError."""
    replicas = run.loop.parallel.replicas
    if processes % replicas:
        raise ConfigError(f"{processes} GPUs do not make {replicas} equal replicas")
    return processes // replicas if run.loop.parallel.shard else 1


def work_by(run: LMRun, mix: Mix, rows: float) -> Work:
    """The mix in rows of the run's length."""
    tokens = rows * run.row_length
    document = min(mix.document or run.row_length, run.row_length)
    return Work(rows, run.row_length, (document + 1) / 2, mix.code * tokens, mix.text * tokens)


def memory_of(
    run: LMRun, sizes: Sizes, processes: int, mix: Mix, rows: float, at_a_time: float
) -> Bytes:
    """The fullest GPU's, with `rows` rows a step on average, `at_a_time` of them together."""
    rows = math.ceil(rows)
    how = Setting(
        dtype_of(run, products=True), processes, shards_of(run, processes),
        at_a_time < rows, rows * run.row_length,
    )  # fmt: skip
    return fullest(run, sizes, work_by(run, mix, at_a_time), how)


def plan(run: LMRun, cluster: Cluster, mix: Mix | None = None) -> Plan:
    """Raises ConfigError for rows and replicas that the GPUs cannot share."""
    chosen, count, gpu = mix or Mix(), cluster.count, cluster.gpu
    words, source = words_of(run)
    sizes = sizes_of(run, words)
    rows = local_rows(run, count, chosen)
    most = math.ceil(rows)
    together = min(run.micro_rows or most, most)
    memory = memory_of(run, sizes, count, chosen, rows, together)
    at_a_time = min(together, rows)
    flops = flops_of(run, sizes, work_by(run, chosen, at_a_time), rows / at_a_time)
    tokens = rows * run.row_length * count
    fits = memory.total <= gpu.memory
    fitting = largest(run, sizes, cluster, chosen, rows)
    used = f"{memory.total / 1e9:.1f} of {gpu.memory / 1e9:.0f} GB a GPU"
    headline = f"fits: {used}"
    if not fits:
        headline = f"DOES NOT FIT: {used}. Set {advice(run, sizes, cluster, chosen, rows, fitting)}"
    return Plan(
        headline, fits, cluster, sizes.groups, memory, flops, together, fitting, tokens,
        tokens / (flops.model / (cluster.mfu * gpu.flops)), run.loop.steps,
        tuple(_notes(run, chosen, mix is None, source, words, cluster)),
    )  # fmt: skip


def largest(run: LMRun, sizes: Sizes, cluster: Cluster, mix: Mix, rows: float) -> int:
    """The most rows that go through the network together and fit; 0 where one does not."""

    def fits(at_a_time: int) -> bool:
        step = max(rows, at_a_time)
        found = memory_of(run, sizes, cluster.count, mix, step, at_a_time)
        return found.total <= cluster.gpu.memory

    low, high = 0, MOST_ROWS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def advice(run: LMRun, sizes: Sizes, cluster: Cluster, mix: Mix, rows: float, fitting: int) -> str:
    """The smallest change of a run that makes it fit."""

    def in_all(count: int) -> int:
        """Rows of a step, as many for each of `count` processes."""
        return math.ceil(rows * cluster.count / count) * count

    if fitting:
        by_rows = _by_rows(run, in_all(cluster.count))[0] if run.loop.parallel.shard else ""
        return f"{by_rows}micro_rows={fitting}"

    def room(changed: LMRun, count: int) -> bool:
        found = memory_of(changed, sizes, count, mix, max(rows, 2), 1)
        return found.total <= cluster.gpu.memory

    def tried(count: int) -> list[tuple[str, LMRun]]:
        return [("", run), *_changes(run, in_all(count))]

    for name, changed in tried(cluster.count)[1:]:
        if room(changed, cluster.count):
            return name
    count, (name, small) = cluster.count, tried(cluster.count)[-1]
    before = f"{name} and " if name else ""
    while small.loop.parallel.shard and count < 64 * cluster.count:
        count *= 2
        if room(small, count):
            name = tried(count)[-1][0]
            return f"{name}{' and ' if name else ''}--gpus {count} (more shards)"
    length = run.row_length
    while length > SHORT:
        length //= 2
        if room(replace(small, row_length=length), cluster.count):
            return f"{before}row_length={length}, or take a GPU with more memory"
    return f"{before}a smaller backbone, or take a GPU with more memory"


def _by_rows(run: LMRun, rows: int) -> tuple[str, LMRun]:
    """A sharded model goes by micro_rows only where a batch is counted in rows: so it is, where it was in
    samples.
    """
    return ("", run) if run.rows else (f"rows={rows} ", replace(run, rows=rows))


def _changes(run: LMRun, rows: int) -> Iterator[tuple[str, LMRun]]:
    """What saves memory, each on top of those before: cheap ones first. rows: see `_by_rows`."""
    changed, names = run, []

    def also(name: str, next_run: LMRun) -> tuple[str, LMRun]:
        names.append(name)
        return " ".join(names), next_run

    if run.micro_rows != 1 and run.rows != 1:
        by_rows, changed = _by_rows(run, rows) if run.loop.parallel.shard else ("", run)
        changed = replace(changed, micro_rows=1)
        yield also(f"{by_rows}micro_rows=1", changed)
    if run.attention == "mask":
        changed = replace(changed, attention="documents")
        yield also("attention=documents", changed)
    if not run.loss_chunk:
        changed = replace(changed, loss_chunk=4096)
        yield also("loss_chunk=4096", changed)
    how = changed.loop.parallel
    if not how.shard or not how.bf16:
        by_rows, changed = _by_rows(changed, rows)
        how = replace(how, shard=True, bf16=True)
        changed = replace(changed, loop=replace(changed.loop, parallel=how))
        yield also(f"{by_rows}loop.parallel.shard=true loop.parallel.bf16=true", changed)
    for what in ("selective", "all"):
        if run.loop.parallel.recompute == "all" or what == run.loop.parallel.recompute:
            continue
        how = replace(how, recompute=what)
        changed = replace(changed, loop=replace(changed.loop, parallel=how))
        shown = [n for n in names if "recompute" not in n]
        names[:] = shown
        yield also(f"loop.parallel.recompute={what}", changed)
    if changed.loop.parallel.replicas > 1:
        how = replace(changed.loop.parallel, replicas=1)
        changed = replace(changed, loop=replace(changed.loop, parallel=how))
        yield also("loop.parallel.replicas=1", changed)


def _notes(
    run: LMRun, mix: Mix, assumed: bool, source: str, words: int, cluster: Cluster
) -> Iterator[str]:
    found = "assumed" if assumed else "given"
    length = mix.document or run.row_length
    yield (
        f"mix ({found}): {mix.code:.0%} of tokens carry a code's loss, {mix.text:.0%} a word's; documents of "
        f"{min(length, run.row_length):,} tokens; rows full"
    )
    if not run.rows:
        yield f"{run.samples} samples of about {mix.sample or run.row_length // 2} tokens a step"
    yield f"{words:,} ids of text, from {source}"
    yield (
        f"MFU {cluster.mfu:.0%} is an assumption; it counts the model's FLOPs, attention by half squares, "
        "without what is made again"
    )
    if run.attention == "mask" and run.backbone.num_heads != run.backbone.num_kv_heads:
        yield "not modelled: a GPU kernel for a mask with grouped heads may make T x T scores"
    yield "not modelled: networks between GPUs, data loading, evaluation, checkpoints"
    if run.loop.compile:
        yield "not modelled: what torch.compile saves"
