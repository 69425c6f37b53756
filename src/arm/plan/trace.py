"""Memory and FLOPs of one optimiser step, from running the real training code on fake tensors.

FakeTensorMode gives every tensor its shape, dtype and device but no data, so a step of any size runs on
any machine. Processes are simulated with PyTorch's "fake" process group, whose collectives only produce
shapes, so FSDP shards, gathers and frees as in a real run. The trace runs on the fake device "cpu".

Control flow that reads values needs them: which positions carry a loss, where documents begin. Tensors
no larger than the batch are therefore computed for real beside their fake counterparts.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from arm.models.qwen2 import Qwen2
from arm.models.weights import trained
from arm.sequence import PackedBatch
from arm.train import parallel
from arm.train.finetune import prepare
from arm.train.lm import LMRun, config_of
from arm.train.measure import (
    BACKWARD_ATTENTION,
    FORWARD_ATTENTION,
    LiveStorages,
    flop_counter,
    local_part,
    take_step,
)
from arm.train.optim import block_matrices, init_ema, make_optimizer
from arm.train.sharding import apply_parallelism, multiply_in_bf16

FORWARD = "forward pass of the blocks"
TEXT_LOSS = "loss of text"
CODE_LOSS = "loss of codes"
LAST_BLOCK = "backward pass of the last block"
OTHER_BLOCKS = "backward pass of the other blocks"
EMBEDDING = "embedding"
EMBEDDING_BACKWARD = "backward pass of the embedding"
OPTIMIZER = "optimiser's step"

ACTIVATIONS, SHARDING = "activations", "sharding buffers"

FEW_LAYERS = (3, 4)
"""Numbers of layers whose traces are extrapolated to deeper models."""

aten = torch.ops.aten


class StepTracer(LiveStorages):
    """Runs operations on fake tensors and records, by phase of the step, peak memory and FLOPs.

    peaks: phase -> bytes by kind when the phase's total was largest. flops: (phase, kind) -> FLOPs, where
    kind is "forward attention", "backward attention" or "linear". real_elements: the largest tensor
    whose values are computed. sharded: the model's parameters are sharded by FSDP.
    """

    def __init__(self, real_elements: int, sharded: bool) -> None:
        super().__init__()
        self.sharded = sharded
        self.fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.real_elements = real_elements
        self.values = WeakTensorKeyDictionary()
        self.kinds: dict[int, str] = {}
        self.sizes: dict[int, int] = {}
        self.totals: dict[str, float] = {ACTIVATIONS: 0}
        self.formulas = flop_counter().flop_registry
        self.start([])

    def start(self, parameters: Sequence[Tensor]) -> None:
        """Starts to record a step that trains these parameters."""
        self.without_gradient = list(parameters)
        self.phase = EMBEDDING
        self.peaks: dict[str, dict[str, float]] = {}
        self.flops: dict[tuple[str, str], float] = {}

    def begin(self, phase: str) -> None:
        self.phase = phase

    def begin_with_gradient(self, tensor: Tensor, phase: str) -> None:
        """Starts a phase when the gradient of `tensor` has been computed."""
        if tensor.requires_grad:
            tensor.register_hook(lambda _: self.begin(phase))

    def label(self, kind: str, tensors: Any) -> None:
        """Counts the storages of these tensors under `kind` from now on, unless they are part of the state."""
        self.track(tensors)
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                key = id(local_part(tensor).untyped_storage())
                if self.kinds[key] in (ACTIVATIONS, SHARDING):
                    self.totals[self.kinds[key]] -= self.sizes[key]
                    self.totals[kind] = self.totals.get(kind, 0) + self.sizes[key]
                    self.kinds[key] = kind

    def track(self, values: Any) -> list[int]:
        keys = super().track(values)
        for key in keys:
            storage = self.alive[key]()
            if storage is not None:
                self.kinds[key], self.sizes[key] = ACTIVATIONS, storage.nbytes()
                self.totals[ACTIVATIONS] += self.sizes[key]
                weakref.finalize(storage, self._freed, key)
        return keys

    def _freed(self, key: int) -> None:
        self.totals[self.kinds.pop(key)] -= self.sizes.pop(key)

    def fake(self, value: Tensor) -> Tensor:
        """A fake tensor whose values are known."""
        tensor = self.fake_mode.from_tensor(value)
        self.values[tensor] = value
        return tensor

    def _compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        with _disable_current_modes():
            known = tree_map_only(Tensor, lambda tensor: self.values[tensor], (args, kwargs))
            return func(*known[0], **known[1])

    def _record_peak(self) -> None:
        ready = [p for p in self.without_gradient if p.grad is not None]
        if ready:
            self.label("gradients", [p.grad for p in ready])
            self.without_gradient = [p for p in self.without_gradient if p.grad is None]
        buffers = [key for key, kind in tuple(self.kinds.items()) if kind == SHARDING]
        for key in buffers if self.sharded else ():
            storage = self.alive[key]()
            if storage is not None:  # FSDP frees and restores its buffers by resizing them
                self.totals[SHARDING] += storage.nbytes() - self.sizes[key]
                self.sizes[key] = storage.nbytes()
        before = self.peaks.get(self.phase)
        if before is None or sum(self.totals.values()) > sum(before.values()):
            self.peaks[self.phase] = dict(self.totals)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(type_, DTensor) for type_ in types):
            return NotImplemented  # DTensor's handler calls the operation on local tensors
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        known = bool(tensors) and all(tensor in self.values for tensor in tensors)
        if func is aten._local_scalar_dense.default:
            return self._compute(func, args, kwargs) if known else 1.0
        if func is aten.index.Tensor:
            args = (args[0], self._as_indices(args[1]))
        if func is aten.unique_consecutive.default:
            return tree_map_only(Tensor, self.fake, self._compute(func, args, kwargs))
        with self.fake_mode:
            result = func(*args, **kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        small = sum(tensor.numel() for tensor in made) <= self.real_elements
        if known and small and func.namespace == "aten":
            values = tree_leaves(self._compute(func, args, kwargs))
            for tensor, value in zip(made, values, strict=True):
                self.values[tensor] = value
        self._count_flops(func, args, kwargs, result)
        if func.namespace == "fsdp":
            self.label(SHARDING, (args, kwargs, result))
        new = self.track(result)
        if func is aten.empty.memory_format and self.sharded:
            self.label(SHARDING, result)
        if new:
            self._record_peak()
        return result

    def _as_indices(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Replaces boolean masks, whose number of true elements depends on values, by positions."""
        found: list[Tensor | None] = []
        for index in indices:
            if index is None or index.dtype != torch.bool:
                found.append(index)
                continue
            with _disable_current_modes():
                positions = self.values[index].nonzero(as_tuple=True)
            found += [self.fake(position.contiguous()) for position in positions]
        return found

    def _count_flops(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        formula = self.formulas.get(func._overloadpacket)
        if formula is None:
            return
        kind = "linear"
        if func._overloadpacket in FORWARD_ATTENTION:
            kind = "forward attention"
        elif func._overloadpacket in BACKWARD_ATTENTION:
            kind = "backward attention"
        key = (self.phase, kind)
        self.flops[key] = self.flops.get(key, 0) + formula(*args, **kwargs, out_val=result)


@dataclass(frozen=True)
class StepCost:
    """What one process needs for one step; see `StepTracer` for `peaks` and `flops`."""

    peaks: dict[str, dict[str, float]]
    flops: dict[tuple[str, str], float]

    @property
    def fullest(self) -> tuple[str, dict[str, float]]:
        """The phase with the most bytes, and its bytes by kind."""
        return max(self.peaks.items(), key=lambda peak: sum(peak[1].values()))

    @property
    def peak_bytes(self) -> float:
        return sum(self.fullest[1].values())

    @property
    def total_flops(self) -> float:
        return sum(self.flops.values())


def extrapolate(first: StepCost, second: StepCost, steps: float) -> StepCost:
    """second + steps * (second - first). Within a phase, bytes and FLOPs are linear in the number of
    layers and of rows, so this is exact up to phases whose fullest operation changes.
    """

    def beyond(a: dict[Any, float], b: dict[Any, float]) -> dict[Any, float]:
        return {key: value + steps * (value - a.get(key, 0.0)) for key, value in b.items()}

    peaks = {p: beyond(first.peaks.get(p, sizes), sizes) for p, sizes in second.peaks.items()}
    return StepCost(peaks, beyond(first.flops, second.flops))


@contextmanager
def _fake_processes(count: int, sharded: bool) -> Iterator[None]:
    """Inside, this process is the first of `count` whose collectives only produce shapes."""
    if count == 1 and not sharded:
        with parallel.single_process():
            yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        raise RuntimeError("a sharded step can only be traced outside of a process group")
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _marking(head: Any, phase: str, tracer: StepTracer) -> Any:
    """A head whose forward and backward passes start `phase`."""

    def logits(hidden: Tensor) -> Tensor:
        tracer.begin(phase)
        scores = head(hidden)
        tracer.begin_with_gradient(scores, phase)
        return scores

    return logits


def _output_hook(phase: str, tracer: StepTracer) -> Any:
    """A forward hook; the gradient of the module's output starts `phase`."""
    return lambda module, inputs, output: tracer.begin_with_gradient(output, phase)


def _mark_phases(model: Qwen2, optimizer: torch.optim.Optimizer, tracer: StepTracer) -> None:
    last = model.layers[-1]
    for block in model.layers:
        phase = LAST_BLOCK if block is last else OTHER_BLOCKS
        block.register_forward_pre_hook(lambda *_: tracer.begin(FORWARD))
        block.register_forward_hook(_output_hook(phase, tracer))
    model.layers[0].register_forward_pre_hook(
        lambda _, inputs: tracer.begin_with_gradient(inputs[0], EMBEDDING_BACKWARD)
    )
    for name, phase in (("text_logits", TEXT_LOSS), ("visual_logits", CODE_LOSS)):
        setattr(model, name, _marking(getattr(model, name), phase, tracer))
    optimizer.register_step_pre_hook(lambda *_: tracer.begin(OPTIMIZER))


def trace_step(
    run: LMRun, text_size: int, batch: PackedBatch, processes: int = 1, bf16_products: bool = False
) -> StepCost:
    """Traces the step that one of `processes` takes on its own `batch`, once the optimiser has its state.

    text_size: size of the text tokenizer. bf16_products: `loop.bf16` takes effect on the device. The
    process must not be in a process group.
    """
    config, _ = config_of(run, run.backbone.text_size or text_size)
    device, tracer = torch.device("cpu"), StepTracer(batch.ids.numel(), run.loop.parallel.shard)
    with _fake_processes(processes, run.loop.parallel.shard):
        with torch.device("meta"):
            model = Qwen2(config)
            prepare(model, run.finetune)
        apply_parallelism(model, run.loop.parallel, device)
        with tracer.fake_mode:
            model.to_empty(device=device)
        if bf16_products:
            multiply_in_bf16(model)
        optimizer = make_optimizer(model, run.optim, block_matrices(model), bf16_products)
        parameters = list(trained(model).values())
        model.train()
        with tracer:
            averages = init_ema(trained(model)) if run.optim.ema else {}
            for parameter in parameters:
                parameter.grad = parameter.detach()  # any gradient will do
            optimizer.step()  # creates the optimiser's state
            optimizer.zero_grad(set_to_none=True)
            state = [tuple(values.values()) for values in optimizer.state.values()]
            fake_batch = PackedBatch(*(tracer.fake(getattr(batch, f.name)) for f in fields(batch)))
            tracer.label("parameters", list(model.state_dict().values()))
            tracer.label("optimiser state", state)
            tracer.label("moving average", averages)
            tracer.label("batch", [getattr(fake_batch, f.name) for f in fields(batch)])
            _mark_phases(model, optimizer, tracer)
            tracer.start(parameters)
            take_step(run, model, optimizer, averages, fake_batch)
    return StepCost(tracer.peaks, tracer.flops)


def layers_alike(run: LMRun, text_size: int) -> bool:
    """Whether the same parameters train in every layer."""
    config, _ = config_of(run, run.backbone.text_size or text_size)
    with torch.device("meta"):
        model = Qwen2(config)
        prepare(model, run.finetune)
    trains = {
        tuple((name, p.requires_grad) for name, p in block.named_parameters())
        for block in model.layers
    }
    return len(trains) == 1


def step_cost(
    run: LMRun, text_size: int, batch: PackedBatch, processes: int = 1, bf16_products: bool = False
) -> StepCost:
    """`trace_step` of the whole model, or for deep ones whose layers are alike its extrapolation from
    `FEW_LAYERS` layers.
    """
    layers, (few, more) = run.backbone.num_layers, FEW_LAYERS

    def cost(num_layers: int) -> StepCost:
        changed = replace(run, backbone=replace(run.backbone, num_layers=num_layers))
        return trace_step(changed, text_size, batch, processes, bf16_products)

    if layers <= more or not layers_alike(run, text_size):
        return cost(layers)
    return extrapolate(cost(few), cost(more), layers - more)
