"""Memory and FLOPs of a language model's step for an assumed mix of data and any micro-batch.

Traces (`plan/trace.py`) give the cost of a few rows; larger micro-batches are extrapolated from them.
"""

from dataclasses import dataclass, replace

import torch

from arm.errors import ConfigError
from arm.plan.trace import (
    CODE_LOSS,
    EMBEDDING,
    EMBEDDING_BACKWARD,
    OPTIMIZER,
    TEXT_LOSS,
    StepCost,
    extrapolate,
    step_cost,
)
from arm.sequence import PackedBatch
from arm.train.lm import LMRun
from arm.train.sharding import Parallel

MAX_MICRO_ROWS = 4096
"""The search for the largest micro-batch ends here."""
MAX_TRACED_ROWS = 64
"""Micro-batches with more rows are extrapolated."""
RESERVE = 2e9
"""Bytes for the CUDA context and the buffers of cuBLAS and NCCL."""
FRAGMENTATION = 0.05
"""Share of the allocated memory that the caching allocator cannot use."""


@dataclass(frozen=True)
class Mix:
    """What rows are assumed to contain. Raises ValueError for shares and lengths that are impossible."""

    code: float = 0.8
    """Share of tokens whose loss is that of a code."""
    text: float = 0.2
    """Share of tokens whose loss is that of a text token."""
    document: int = 0
    """Tokens of a packed document; 0 for whole rows."""
    sample: int = 0
    """Tokens of a sample if a batch is counted in samples; 0 for half a row."""

    def __post_init__(self) -> None:
        # Conditions are stated positively because comparisons with NaN are false.
        counted = self.document >= 0 and self.sample >= 0
        if not (counted and self.code >= 0 and self.text >= 0 and self.code + self.text <= 1):
            raise ValueError("shares of code and text must be 0 or more and together at most 1")

    def positions(self, row_length: int) -> tuple[int, int]:
        """How many positions of a row have the loss of a code and of text; the first has none."""
        code = min(round(self.code * row_length), row_length - 1)
        return code, min(round(self.text * row_length), row_length - 1 - code)

    def document_length(self, row_length: int) -> int:
        return min(self.document or row_length, row_length)

    def batch(self, row_length: int, rows: int) -> PackedBatch:
        """Full rows of one document each, with codes first."""
        code, text = self.positions(row_length)
        ids = torch.zeros(rows, row_length, dtype=torch.long)
        codes, weights = torch.full_like(ids, -1), torch.zeros(rows, row_length)
        codes[:, 1 : code + 1] = 0
        weights[:, 1 : code + text + 1] = 1.0
        positions = torch.arange(row_length).expand(rows, -1).contiguous()
        return PackedBatch(
            ids, codes, codes.clone(), codes.clone(), weights, positions, ids.clone(),
            tally=torch.zeros(rows, 1, dtype=torch.long),
        )  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at its fullest moment."""

    moment: str
    kinds: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Flops:
    """FLOPs of one process and step. Those of the model exclude whatever is computed twice."""

    linears: float
    """Linear layers of the blocks."""
    attention: float
    text_head: float
    visual: float
    """Embedding and head of codes."""
    hardware: float
    """All that is computed: with recomputation, masked scores and the optimiser's products."""

    @property
    def model(self) -> float:
        return sum(self.by_kind().values())

    def by_kind(self) -> dict[str, float]:
        return {
            "blocks' linear layers": self.linears, "attention": self.attention,
            "text head": self.text_head, "visual part": self.visual,
        }  # fmt: skip


def reserve_bytes(allocated: float) -> float:
    """Bytes of a GPU's memory that are needed beside what PyTorch allocates."""
    return RESERVE + FRAGMENTATION * allocated


class Estimates:
    """Costs of one process's step for different micro-batches. Raises ConfigError if the processes do
    not form `loop.parallel.replicas` equal groups.
    """

    def __init__(self, run: LMRun, text_size: int, processes: int, mix: Mix) -> None:
        if processes % run.loop.parallel.replicas:
            raise ConfigError(
                f"{processes} GPUs do not make {run.loop.parallel.replicas} equal replicas"
            )
        self.run, self.text_size, self.processes, self.mix = run, text_size, processes, mix
        self.costs: dict[tuple[int, bool], StepCost] = {}
        # Below this number of rows the logits of one loss or the other are not split into chunks.
        fewest = min((n for n in mix.positions(run.row_length) if n), default=1)
        self.linear_from = min(run.loss_chunk // fewest + 1, MAX_TRACED_ROWS)

    def cost(self, micro_rows: int, accumulate: bool) -> tuple[StepCost, int]:
        """The cost of a step of one micro-batch, or of two whose gradients accumulate, and its rows."""
        rows = micro_rows * (2 if accumulate else 1)
        first, second = self.linear_from, 2 * self.linear_from
        if micro_rows <= first or micro_rows == second:
            return self._traced(micro_rows, accumulate), rows
        few, more = self._traced(first, accumulate), self._traced(second, accumulate)
        return extrapolate(few, more, (micro_rows - second) / first), rows

    def _traced(self, micro_rows: int, accumulate: bool) -> StepCost:
        if (micro_rows, accumulate) not in self.costs:
            rows = micro_rows * (2 if accumulate else 1)
            run = replace(self.run, rows=rows * self.processes, micro_rows=micro_rows)
            batch = self.mix.batch(run.row_length, rows)
            self.costs[micro_rows, accumulate] = step_cost(
                run, self.text_size, batch, self.processes, run.loop.bf16
            )
        return self.costs[micro_rows, accumulate]

    def memory(self, micro_rows: int, rows: int) -> Memory:
        """A GPU's memory when a process has `rows` rows a step, with the reserve."""
        cost, traced = self.cost(micro_rows, micro_rows < rows)
        moment, kinds = cost.fullest
        kinds = kinds | {"batch": kinds["batch"] * rows / traced}
        return Memory(moment, {**kinds, "reserve": reserve_bytes(sum(kinds.values()))})

    def hardware_flops(self, micro_rows: int, rows: float) -> float:
        """FLOPs that a process performs in a step of `rows` rows."""
        cost, traced = self.cost(micro_rows, micro_rows < rows)
        optimizer = sum(n for (phase, _), n in cost.flops.items() if phase == OPTIMIZER)
        attention = sum(n for (_, kind), n in cost.flops.items() if kind != "linear")
        network = cost.total_flops - optimizer - attention
        if self.run.attention == "documents":
            attention *= _attended_share(self.run, self.mix)
        return (network + attention) * rows / traced + optimizer

    def largest(self, start: int, rows: int, gpu_memory: float) -> int:
        """The most rows of a micro-batch that fit, searched from `start`; 0 if one does not."""

        def fits(micro_rows: int) -> bool:
            return self.memory(micro_rows, max(rows, micro_rows)).total <= gpu_memory

        low, high = (start, 2 * start) if fits(start) else (0, 1)
        while high <= MAX_MICRO_ROWS and fits(high):
            low, high = high, 2 * high
        high = min(high, MAX_MICRO_ROWS + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


def _attended_share(run: LMRun, mix: Mix) -> float:
    """Attention's FLOPs within documents, as a share of those within whole rows."""
    return (mix.document_length(run.row_length) + 1) / (run.row_length + 1)


def model_flops(run: LMRun, text_size: int, batch: PackedBatch) -> Flops:
    """FLOPs that the mathematics of a step on `batch` requires, for one process; `hardware` is 0.

    Traced without recomputation, on unmasked documents. Of the backward kernel's five products for
    attention, one computes the scores again and is not counted.
    """
    plain = replace(
        run, attention="documents", loss_chunk=0, micro_rows=0, optim=replace(run.optim, muon=False),
        loop=replace(run.loop, bf16=False, parallel=Parallel()),
    )  # fmt: skip
    linear = attention = text_head = visual = 0.0
    for (phase, kind), flops in step_cost(plain, text_size, batch).flops.items():
        if kind != "linear":
            attention += flops * (0.8 if kind == "backward attention" else 1.0)
        elif phase == TEXT_LOSS:
            text_head += flops
        elif phase in (EMBEDDING, CODE_LOSS, EMBEDDING_BACKWARD):
            visual += flops
        else:
            linear += flops
    return Flops(linear, attention, text_head, visual, 0.0)


def planned_flops(estimates: Estimates, micro_rows: int, rows: float) -> Flops:
    """FLOPs of one process and step on `rows` rows of the estimates' mix."""
    run, mix = estimates.run, estimates.mix
    row = model_flops(run, estimates.text_size, mix.batch(run.row_length, 1))
    return Flops(
        linears=row.linears * rows,
        attention=row.attention * _attended_share(run, mix) * rows,
        text_head=row.text_head * rows,
        visual=row.visual * rows,
        hardware=estimates.hardware_flops(micro_rows, rows),
    )
