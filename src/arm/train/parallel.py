"""Processes that train one model together: each takes a part of every batch, and gradients are averaged.

Started with `torchrun --nproc-per-node N -m arm train RUN`. In a single process every function here is a no-op,
so that a training loop is written once. A loss that is the mean over a batch of unequal items must divide by
the mean of its denominator over the processes (`all_reduce_mean`): the average of the processes' losses is then
the loss of the whole batch, and training equals that of one process up to rounding. Models that are too large
for one process are sharded, see `sharding.py`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from arm.errors import ConfigError

T = TypeVar("T")
# The process group is global in torch.distributed too; these are the groups beside its default one.
_SINGLE = [False]
_CHECKPOINT_GROUP: list[Any] = []
_CPU_GROUP: list[Any] = []

MESSAGE = timedelta(minutes=30)
"""Timeout of a collective between GPUs. It ends all processes when one has died, on another machine perhaps,
so that they do not hold their GPUs."""
WAIT = timedelta(days=1)
"""Timeout of a collective between CPUs, by which processes wait for one that evaluates or queries a judge. A
process that dies is noticed at once there."""


@contextmanager
def single_process() -> Iterator[None]:
    """Within this context the process acts as if it were the only one."""
    _SINGLE[0] = True
    try:
        yield
    finally:
        _SINGLE[0] = False


def world_size() -> int:
    """The number of processes."""
    if _SINGLE[0]:
        return 1
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """The number of this process, from 0."""
    if _SINGLE[0]:
        return 0
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def is_main() -> bool:
    """Whether this is the process that prints and writes files."""
    return rank() == 0


def init_processes(alone_too: bool = False) -> None:
    """Joins the process group that torchrun's environment describes: NCCL on GPUs with gloo beside it for
    checkpoints and for waiting, gloo on CPUs. Does nothing where the group exists already, and for a single
    process unless `alone_too`, which creates a group of one.
    """
    if dist.is_initialized() or (world_size() == 1 and not alone_too):
        return
    on_gpu = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    if world_size() == 1:
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        return
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(backend, timeout=MESSAGE)
    _CPU_GROUP.append(dist.new_group(backend="gloo", timeout=WAIT))


def destroy_processes() -> None:
    """Leaves the process group, for an orderly exit of a process whose work is done."""
    if dist.is_initialized():
        _CHECKPOINT_GROUP.clear()
        _CPU_GROUP.clear()
        dist.destroy_process_group()


def checkpoint_group() -> Any:
    """The group for checkpoints that are written in a second thread while training goes on: collectives of two
    threads must not share a group. All processes must call this together.
    """
    if not _CHECKPOINT_GROUP:
        _CHECKPOINT_GROUP.append(dist.new_group(backend="gloo", timeout=WAIT))
    return _CHECKPOINT_GROUP[0]


def shard_batch(batch: Any) -> Any:
    """This process's rows of a batch: every N-th along the first axis of a tensor, or of each tensor of a
    dataclass.

    Raises ConfigError for a batch with fewer rows than processes.
    """
    size = world_size()
    if size == 1:
        return batch

    def part(tensor: Tensor) -> Tensor:
        if len(tensor) < size:
            raise ConfigError(
                f"a batch of {len(tensor)} rows for {size} processes; raise `samples`"
            )
        return tensor[rank() :: size]

    if isinstance(batch, Tensor):
        return part(batch)
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{k: part(v) for k, v in tensors.items() if isinstance(v, Tensor)})


def _cpu_group() -> Any:
    """The group for collectives that may take long; None, the default group, before `init_processes`."""
    return _CPU_GROUP[0] if _CPU_GROUP else None


def _all_reduce(value: Tensor, operation: Any) -> Tensor:
    total = value.detach().clone()
    dist.all_reduce(total, operation, group=_cpu_group() if total.device.type == "cpu" else None)
    return total


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes, without gradient."""
    if world_size() == 1:
        return value
    return _all_reduce(value, dist.ReduceOp.SUM) / world_size()


def all_reduce_max(value: float) -> float:
    """The largest of a number over the processes, for decisions that they must take alike."""
    if world_size() == 1:
        return value
    return float(_all_reduce(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX))


def broadcast_from_main(make: Callable[[], T]) -> T:
    """What `make` returns in the main process, in all processes. It is called in the main process alone."""
    if world_size() == 1:
        return make()
    values: list[Any] = [make() if is_main() else None]
    dist.broadcast_object_list(values, src=0, group=_cpu_group())
    return values[0]


def first_available(value: T | None) -> T | None:
    """The value of the first process whose value is not None; None where there is none."""
    if world_size() == 1:
        return value
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_cpu_group())
    return next((each for each in values if each is not None), None)


def all_gather_rows(value: Tensor) -> Tensor:
    """The tensors of all processes, concatenated along the first axis; all have the same number of rows."""
    if world_size() == 1:
        return value
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_cpu_group())
    return torch.cat(values)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces every gradient by its mean over the processes, in one collective."""
    if world_size() == 1:
        return
    trained = list(parameters)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = all_reduce_mean(torch.cat([g.flatten() for g in grads]))
    for p, g in zip(trained, flat.split([g.numel() for g in grads]), strict=True):
        p.grad = g.view_as(p)


def barrier() -> None:
    """Returns when every process has called it."""
    if world_size() > 1:
        dist.barrier(group=_cpu_group())
