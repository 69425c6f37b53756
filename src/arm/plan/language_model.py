"""The cost of a language model's run before it starts: memory, FLOPs, hours, and the micro-batch that fits.

Memory and FLOPs of a step are traced (`plan/estimates.py`); no weights are read. A plan adds what a trace
does not know: the GPUs' peak rates and memory, and which settings to change if the run does not fit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from arm.errors import ConfigError
from arm.models.backbone_config import read_settings
from arm.models.qwen2 import Qwen2
from arm.plan.estimates import Estimates, Flops, Memory, Mix, planned_flops
from arm.plan.hardware import Cluster, HostMemory
from arm.plan.trace import step_cost
from arm.train import parallel
from arm.train.finetune import prepare
from arm.train.lm import LMRun, config_of
from arm.train.measure import Measured, measure, own_batch, random_batch
from arm.train.training import training_device, uses_bf16

SHORTEST_ROW = 1024
"""The shortest row that is proposed, in tokens."""
MOST_SHARDS = 64
"""How many times the GPUs asked for are proposed at most."""

GROUPS = {
    "text table": ("embed_tokens.",),
    "text head": ("lm_head.",),
    "visual part": ("visual.",),
    "blocks": ("layers.",),
    "last norm": ("norm.",),
}
"""Groups of parameters by the beginnings of their names."""


@dataclass(frozen=True)
class Count:
    """Number of parameters of a group, and how many of them are trained."""

    total: int
    trained: int


def parameter_counts(run: LMRun, text_size: int) -> dict[str, Count]:
    """Counts by group, on the meta device. text_size: size of the text tokenizer."""
    config, _ = config_of(run, run.backbone.text_size or text_size)
    with torch.device("meta"):
        model = Qwen2(config)
        prepare(model, run.finetune)
    named = dict(model.named_parameters())
    counts = {}
    for group, prefixes in GROUPS.items():
        members = [p for name, p in named.items() if name.startswith(prefixes)]
        trained = sum(p.numel() for p in members if p.requires_grad)
        counts[group] = Count(sum(p.numel() for p in members), trained)
    return counts


@dataclass(frozen=True)
class Plan:
    """The cost of a run."""

    headline: str
    """Whether the run fits, and if not what to change."""
    fits: bool
    cluster: Cluster
    parameters: dict[str, Count]
    memory: Memory
    """Of the process with the most rows."""
    host: HostMemory
    flops: Flops
    """Of one process and step, on average."""
    micro_rows: int
    """Rows that go through the network together."""
    largest_micro_rows: int
    """The most of them that fit; 0 if not even one does."""
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
        """JSON types, with computed properties included."""
        tokens = self.tokens_per_step / self.cluster.count
        return {
            **asdict(self),
            "bytes": self.memory.kinds | {"total": self.memory.total},
            "host_bytes": {"/dev/shm": self.host.shm, "total": self.host.total},
            "flops_per_token": {k: v / tokens for k, v in self.flops.by_kind().items()}
            | {"model": self.flops.model / tokens, "hardware": self.flops.hardware / tokens},
            "hours": self.hours,
            "gpu_hours": self.hours * self.cluster.count,
        }


def text_tokenizer_size(run: LMRun) -> tuple[int, str]:
    """The size of the run's text tokenizer and its source. Raises ConfigError if it cannot be found."""
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
        f"the text tokenizer {run.text_tokenizer} does not exist; set backbone.text_size=N"
    )


def rows_per_process(run: LMRun, processes: int, mix: Mix) -> float:
    """Rows of one process and step, on average: if they do not divide evenly, some processes have one
    more. Raises ConfigError if they cannot be distributed.
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


def host_memory(run: LMRun, memory: Memory, counts: dict[str, Count], processes: int) -> HostMemory:
    """What one process needs of its host."""
    how = run.loop.parallel
    sharded = how.shard and not run.finetune.partial
    total, trained = (sum(getattr(c, n) for c in counts.values()) for n in ("total", "trained"))
    shards = processes // how.replicas if how.shard else 1
    kinds = memory.kinds
    state = kinds.get("optimiser state", 0.0) + kinds.get("moving average", 0.0)
    largest = max(counts["text table"].total, counts["visual part"].total)
    return HostMemory(
        batch=kinds["batch"],
        workers=run.loop.workers,
        loading=4.0 * (largest if sharded else total),
        checkpoint=4.0 * trained / shards + state,
    )


def plan(run: LMRun, cluster: Cluster, mix: Mix | None = None) -> Plan:
    """The cost of a run on a cluster; without `mix`, for the default one.

    Raises ConfigError for rows and replicas that do not divide among the GPUs.
    """
    assumed, mix = mix is None, mix or Mix()
    text_size, source = text_tokenizer_size(run)
    rows = rows_per_process(run, cluster.count, mix)
    estimates = Estimates(run, text_size, cluster.count, mix)
    most = math.ceil(rows)
    micro_rows = min(run.micro_rows or most, most)
    memory = estimates.memory(micro_rows, most)
    flops = planned_flops(estimates, micro_rows, rows)
    tokens = rows * run.row_length * cluster.count
    fits = memory.total <= cluster.gpu.memory
    largest = estimates.largest(micro_rows, most, cluster.gpu.memory)

    def one_row_fits(changed: LMRun, count: int) -> bool:
        other = Estimates(changed, text_size, count, mix)
        return other.memory(1, max(most, 2)).total <= cluster.gpu.memory

    used = f"{memory.total / 1e9:.1f} of {cluster.gpu.memory / 1e9:.0f} GB a GPU"
    headline = f"fits: {used}"
    if not fits:
        headline = f"DOES NOT FIT: {used}. Set {advice(run, cluster, rows, largest, one_row_fits)}"
    counts = parameter_counts(run, text_size)
    return Plan(
        headline, fits, cluster, counts, memory,
        host_memory(run, memory, counts, cluster.count), flops, micro_rows, largest, tokens,
        tokens / (flops.model / (cluster.mfu * cluster.gpu.flops)), run.loop.steps,
        (*_assumptions(run, mix, assumed, source, text_size), *notes(run, cluster)),
    )  # fmt: skip


def _assumptions(run: LMRun, mix: Mix, assumed: bool, source: str, text_size: int) -> Iterator[str]:
    yield (
        f"mix ({'assumed' if assumed else 'given'}): {mix.code:.0%} of tokens carry the loss of a code, "
        f"{mix.text:.0%} that of a text token; documents of {mix.document_length(run.row_length):,} tokens; "
        "full rows"
    )
    if not run.rows:
        yield f"{run.samples} samples of about {mix.sample or run.row_length // 2} tokens a step"
    yield f"text ids: {text_size:,}, from {source}"


@dataclass(frozen=True)
class Comparison:
    """One process's step, predicted and measured on the same batch."""

    batch: str
    predicted_bytes: float
    predicted_flops: float
    measured: Measured


def compare(run: LMRun, mix: Mix) -> Comparison:
    """Predicts a step and performs it on this machine, on the run's own data if they exist, else on
    random data of their shape.
    """
    own, processes = own_batch(run), parallel.world_size()
    if own is not None:
        (batch, text_size), source = own, "the run's own data"
    else:
        text_size, _ = text_tokenizer_size(run)
        _, vocab = config_of(run, run.backbone.text_size or text_size)
        rows = math.ceil(rows_per_process(run, processes, mix))
        batch, source = random_batch(run, vocab, rows, mix.document), "random data"
    cost = step_cost(run, text_size, batch, processes, uses_bf16(run.loop, training_device()))
    parallel.init_processes()
    rows, length = batch.ids.shape
    return Comparison(
        f"{source}, {rows} rows of {length} tokens", cost.peak_bytes, cost.total_flops,
        measure(run, text_size, batch),
    )  # fmt: skip


def advice(
    run: LMRun, cluster: Cluster, rows: float, largest: int, fits: Callable[[LMRun, int], bool]
) -> str:
    """The smallest change of settings that makes a run fit.

    rows: of one process and step. largest: the largest micro-batch that fits, 0 if not even one row does.
    fits(run, gpus): whether another run fits with one row at a time.
    """

    def all_rows(count: int) -> int:
        """At least as many rows a step, divisible among `count` processes."""
        return math.ceil(rows * cluster.count / count) * count

    if largest:
        by_rows = _count_rows(run, all_rows(cluster.count))[0] if run.loop.parallel.shard else ""
        return f"{by_rows}micro_rows={largest}"

    def changes(count: int) -> list[tuple[str, LMRun]]:
        return [("", run), *_memory_savings(run, all_rows(count))]

    for settings, changed in changes(cluster.count)[1:]:
        if fits(changed, cluster.count):
            return settings
    count, (settings, smallest) = cluster.count, changes(cluster.count)[-1]
    prefix = f"{settings} and " if settings else ""
    while smallest.loop.parallel.shard and count < MOST_SHARDS * cluster.count:
        count *= 2
        if fits(smallest, count):
            settings = changes(count)[-1][0]
            return f"{settings}{' and ' if settings else ''}--gpus {count} (more shards)"
    length = run.row_length
    while length > SHORTEST_ROW:
        length //= 2
        if fits(replace(smallest, row_length=length), cluster.count):
            return f"{prefix}row_length={length}, or take a GPU with more memory"
    return f"{prefix}a smaller backbone, or take a GPU with more memory"


def _count_rows(run: LMRun, rows: int) -> tuple[str, LMRun]:
    """The setting that makes a batch count rows instead of samples, which micro_rows of a sharded model
    require; nothing if it does already.
    """
    return ("", run) if run.rows else (f"rows={rows} ", replace(run, rows=rows))


def _memory_savings(run: LMRun, rows: int) -> Iterator[tuple[str, LMRun]]:
    """Settings that save memory, each on top of those before, cheap ones first; and the run with them.

    rows: see `_count_rows`.
    """
    changed, settings = run, []

    def with_setting(setting: str, next_run: LMRun) -> tuple[str, LMRun]:
        settings.append(setting)
        return " ".join(settings), next_run

    if run.micro_rows != 1 and run.rows != 1:
        by_rows, changed = _count_rows(run, rows) if run.loop.parallel.shard else ("", run)
        changed = replace(changed, micro_rows=1)
        yield with_setting(f"{by_rows}micro_rows=1", changed)
    if run.attention == "mask":
        changed = replace(changed, attention="documents")
        yield with_setting("attention=documents", changed)
    if not run.loss_chunk:
        changed = replace(changed, loss_chunk=4096)
        yield with_setting("loss_chunk=4096", changed)
    how = changed.loop.parallel
    if not how.shard or not how.bf16:
        by_rows, changed = _count_rows(changed, rows)
        how = replace(how, shard=True, bf16=True)
        changed = replace(changed, loop=replace(changed.loop, parallel=how))
        yield with_setting(f"{by_rows}loop.parallel.shard=true loop.parallel.bf16=true", changed)
    for what in ("selective", "all"):
        if run.loop.parallel.recompute == "all" or what == run.loop.parallel.recompute:
            continue
        how = replace(how, recompute=what)
        changed = replace(changed, loop=replace(changed.loop, parallel=how))
        settings[:] = [setting for setting in settings if "recompute" not in setting]
        yield with_setting(f"loop.parallel.recompute={what}", changed)
    if changed.loop.parallel.replicas > 1:
        how = replace(changed.loop.parallel, replicas=1)
        changed = replace(changed, loop=replace(changed.loop, parallel=how))
        yield with_setting("loop.parallel.replicas=1", changed)


def notes(run: LMRun, cluster: Cluster) -> Iterator[str]:
    """What the figures of a language model's plan assume and leave out."""
    yield (
        f"MFU {cluster.mfu:.0%} is an assumption; it counts the model's FLOPs, attention within documents "
        "and causal, nothing that is computed twice"
    )
    if run.attention == "documents":
        yield (
            "attention is traced as a CPU computes it: without recomputation each block keeps its output "
            "once more than FlexAttention does on a GPU"
        )
    elif run.backbone.num_heads != run.backbone.num_kv_heads:
        yield "not modelled: a GPU kernel for a mask with grouped heads may materialise T x T scores"
    yield "not modelled: networks between GPUs, evaluation, the programs' own host memory"
    if run.loop.compile:
        yield "not modelled: what torch.compile saves"
