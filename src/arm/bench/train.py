"""The network that all rows of a training table share: random weights, and treatments that are undone.

One optimiser step of a language model's run, with what makes it faster or smaller changed one at a time.

The first row is the run as it is written, on one process and without torch.compile; every other row
differs from it in what its name says. All share one network and one optimiser whose rate is 0, so
that every step of every row computes the same loss and the same gradient."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from arm.bench.rounds import Trial, Variant, free_bytes, matrix_products
from arm.errors import ConfigError
from arm.models.qwen2 import Qwen2
from arm.models.weights import trained
from arm.plan.estimates import Mix, model_flops, reserve_bytes
from arm.plan.language_model import parameter_counts, rows_per_process, text_tokenizer_size
from arm.plan.trace import step_cost
from arm.sequence import PackedBatch
from arm.train import parallel
from arm.train.finetune import prepare
from arm.train.lm import LMRun, config_of
from arm.train.measure import own_batch, random_batch, take_step
from arm.train.optim import Muon, block_matrices, init_ema, make_optimizer
from arm.train.sharding import (
    Recompute,
    apply_parallelism,
    blocks,
    checkpoint_activations,
    has_bf16_units,
    is_sharded,
    multiply_in_bf16,
)
from arm.train.training import to_device, uses_bf16


@dataclass(frozen=True)
class How:
    """One row: what differs from the first, the run with it, and how the network is treated."""

    name: str
    run: LMRun
    bf16: bool
    compiled: bool = False


@dataclass(frozen=True, eq=False)
class Shared:
    """A model, its optimiser and its average, made when they are first asked for: a table whose rows
    all lack memory needs none. words: the size of the text tokenizer.
    """

    run: LMRun
    words: int
    device: torch.device

    @cached_property
    def model(self) -> Qwen2:
        return random_model(self.run, self.words, self.device)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.model, self.run.optim, block_matrices(self.model))

    @cached_property
    def averages(self) -> dict[str, Tensor]:
        return init_ema(trained(self.model)) if self.run.optim.ema else {}

    @contextmanager
    def treated(self, how: How) -> Iterator[None]:
        """Inside, the network recomputes, multiplies and is compiled as the row says; then as before."""
        model, optimizer = self.model, self.optimizer
        classes = [(module, type(module)) for module in model.modules()]
        if how.bf16:
            multiply_in_bf16(model)
        if isinstance(optimizer, Muon):
            optimizer.bf16 = how.bf16
        checkpoint_activations(model, how.run.loop.parallel.recompute)
        parts: list[Any] = blocks(model) if is_sharded(model) else [model]
        if how.compiled:
            for part in parts:
                part.compile(dynamic=True)
        try:
            yield
        finally:
            for part in parts:
                part._compiled_call_impl = None
            for block in blocks(model):
                vars(block).pop("forward", None)
            for module, its in classes:
                module.__class__ = its

    def alive(self) -> list[Any]:
        """Whose bytes are taken before a step begins; the gradients of the last one are let go."""
        self.optimizer.zero_grad(set_to_none=True)
        state = [tuple(values.values()) for values in self.optimizer.state.values()]
        return [*self.model.state_dict().values(), *self.averages.values(), *state]


def random_model(run: LMRun, words: int, device: torch.device) -> Qwen2:
    """The run's network with random weights that are made where they are used; nothing is read."""
    torch.manual_seed(run.loop.seed)
    config, _ = config_of(run, run.backbone.text_size or words)
    with torch.device("meta"):
        model = Qwen2(config)
    how = replace(run.loop.parallel, recompute="nothing")
    adds = run.finetune.partial  # LoRA's layers stand on weights that are there
    if not adds:
        apply_parallelism(model, how, device)
    _fill(model.to_empty(device=device))
    if adds:
        prepare(model, run.finetune)
        apply_parallelism(model, how, device)
    return model.train()


@torch.no_grad()
def _fill(model: Qwen2) -> None:
    for name, parameter in model.named_parameters():
        own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        if name.endswith("norm.weight"):
            own.fill_(1.0)
        elif name.endswith(".bias"):
            own.zero_()
        else:
            own.normal_(0.0, 0.02)


RECOMPUTED: tuple[Recompute, ...] = ("nothing", "selective", "all")
CHUNK = 4096
"""Positions whose logits exist at a time, where a run without chunks is tried with them."""
CLOSE, CLOSE_BF16 = 1e-3, 0.05
"""How far losses and gradient norms may be apart, relative: in fp32, and where one is of bf16."""


@dataclass(frozen=True)
class Wanted:
    """layers: 0 keeps the run's. tokens: lengths of rows, a step of one row each; none takes the run's
    rows. document: tokens of a packed document, 0 for whole rows. compiled: try torch.compile too.
    side: of the yardstick's matrices, 0 for large ones.
    """

    layers: int = 0
    tokens: tuple[int, ...] = ()
    document: int = 0
    compiled: bool = False
    side: int = 0


@dataclass(frozen=True)
class Step:
    """What rows are compared by. bf16: whether products were."""

    loss: float
    norm: float
    bf16: bool


def differ(first: Step, other: Step) -> str:
    """What tells two steps apart beyond rounding, "" for nothing."""
    close = CLOSE_BF16 if first.bf16 or other.bf16 else CLOSE
    for name in ("loss", "norm"):
        a, b = getattr(first, name), getattr(other, name)
        if not math.isclose(a, b, rel_tol=close):
            return f"its {name} is {b:.6g}, the first row's {a:.6g}: it does not compute the same"
    return ""


def alone(run: LMRun, wanted: Wanted, device: torch.device) -> LMRun:
    """The run on this one process: the rows that go through the network together, no replicas, a rate of
    0, nothing read; sharded bf16 only where the device has units for it.
    """
    how = replace(run.loop.parallel, replicas=1)
    if device.type != "cuda" and not has_bf16_units():
        how = replace(how, bf16=False)
    size = replace(run.backbone, num_layers=wanted.layers or run.backbone.num_layers)
    rows = min(run.micro_rows, run.rows or run.micro_rows) if run.micro_rows else run.rows
    return replace(
        run, backbone=size, rows=rows, micro_rows=0, init_from=None, pretrained=None,
        loop=replace(run.loop, parallel=how, compile=False), optim=replace(run.optim, lr=0.0),
    )  # fmt: skip


def rows_of(run: LMRun, positions: int, compiled: bool, device: torch.device) -> Iterator[How]:
    """The run, then the run with one thing changed at a time. positions: see `loss_positions`."""
    how, bf16 = run.loop.parallel, uses_bf16(run.loop, device)
    yield How("as the run is", run, bf16)
    other = "documents" if run.attention == "mask" else "mask"
    yield How(f"attention={other}", replace(run, attention=other), bf16)
    for what in RECOMPUTED:
        if what != how.recompute:
            loop = replace(run.loop, parallel=replace(how, recompute=what))
            yield How(f"recompute={what}", replace(run, loop=loop), bf16)
    chunk = 0 if 0 < run.loss_chunk < positions else min(CHUNK, math.ceil(positions / 4))
    yield How(f"loss_chunk={chunk}", replace(run, loss_chunk=chunk), bf16)
    changed = replace(run, loop=replace(run.loop, bf16=not bf16))
    if not how.shard and uses_bf16(changed.loop, device) != bf16:
        yield How("fp32" if bf16 else "bf16 products", changed, not bf16)
    if compiled:
        yield How("torch.compile", run, bf16, compiled=True)


def loss_positions(batch: PackedBatch) -> int:
    """How many positions have the loss of a code or that of a text token, whichever is larger."""
    counted, is_code = batch.weights[:, 1:] > 0, batch.codes[:, 1:] >= 0
    return max(int((counted & is_code).sum()), int((counted & ~is_code).sum()))


def lack_of_memory(
    how: How, text_size: int, batch: PackedBatch, device: torch.device, room: float
) -> str:
    """What a variant needs by its traced step, if that is more than `room` bytes."""
    needed = step_cost(how.run, text_size, batch, bf16_products=how.bf16).peak_bytes
    if device.type == "cuda":
        needed += reserve_bytes(needed)
    if needed <= room:
        return ""
    return f"it needs about {needed / 1e9:.1f} GB, {room / 1e9:.1f} GB are free"


def trials(run: LMRun, wanted: Wanted, device: torch.device) -> Iterator[Trial]:
    """One table a length of rows. Raises ConfigError under several processes."""
    if parallel.world_size() > 1:
        raise ConfigError("arm bench train measures one process: start it without torchrun")
    base, room = alone(run, wanted, device), free_bytes(device)
    text_size, _ = text_tokenizer_size(base)
    shared, products = Shared(base, text_size, device), matrix_products(device, wanted.side)
    parameters = sum(count.total for count in parameter_counts(base, text_size).values())
    lengths = [replace(base, rows=1, row_length=length) for length in wanted.tokens]
    made = []
    # All steps are traced before the first is taken, which may join a process group.
    for one in lengths or [base]:
        batch, source = _batch(one, text_size, wanted.document, own=not lengths)
        flops = model_flops(one, text_size, batch).model
        variants, placed = [], to_device(batch, device)
        for how in rows_of(one, loss_positions(batch), wanted.compiled, device):
            why = lack_of_memory(how, text_size, batch, device, room)
            variants.append(_variant(how, shared, placed, flops, why))
        rows, length = batch.ids.shape
        title = (
            f"{rows} x {length:,} tokens ({source}), {base.backbone.num_layers} layers, "
            f"{parameters:,} parameters; the run: {_settings(one, device)}"
        )
        made.append(Trial(title, "tokens", tuple(variants), differ, products))
    yield from made


def _settings(run: LMRun, device: torch.device) -> str:
    how = run.loop.parallel
    precision = "bf16 products" if uses_bf16(run.loop, device) else "fp32"
    return (
        f"attention={run.attention} recompute={how.recompute} loss_chunk={run.loss_chunk} "
        f"{'sharded in bf16' if how.bf16 else precision}"
    )


def _batch(run: LMRun, text_size: int, document: int, own: bool) -> tuple[PackedBatch, str]:
    """The run's own first batch where it is asked for and there, else a random one of its shape."""
    found = own_batch(run) if own and not document else None
    if found is not None:
        return found[0], "the run's own data"
    _, vocab = config_of(run, run.backbone.text_size or text_size)
    rows = math.ceil(rows_per_process(run, 1, Mix(document=document)))
    source = f"random, documents of {min(document or run.row_length, run.row_length):,}"
    return random_batch(run, vocab, rows, document), source


def _variant(how: How, shared: Shared, batch: PackedBatch, flops: float, why: str) -> Variant:
    def run() -> Step:
        loss, norm = take_step(how.run, shared.model, shared.optimizer, shared.averages, batch)
        return Step(float(loss), float(norm), how.bf16)

    def within() -> AbstractContextManager[None]:
        return shared.treated(how)

    def alive() -> list[object]:
        return [*shared.alive(), *(getattr(batch, f.name) for f in fields(batch))]

    # A mode that looks at every operation undoes what torch.compile did.
    return Variant(
        how.name,
        batch.ids.numel(),
        run,
        flops,
        within,
        alive,
        sees_memory=not how.compiled,
        left_out=why,
    )
