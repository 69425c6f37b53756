"""Several processes that train one model: each takes a share of every batch, gradients are averaged.
A model too large for one process is shared out too, see `sharding.py`.

Started with `torchrun --nproc-per-node N -m arm train RUN`. With one process every function here does
nothing, so a training loop is written once. A loss that is the mean over a batch of unequal items must
divide by `all_reduce_mean` of its denominator over the processes; the average of the shares' losses is then the
loss of the whole batch, and the run equals one process up to rounding.
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
_ALONE = [False]
_CHECKPOINTS: list[Any] = []
_WAITING: list[Any] = []

MESSAGE = timedelta(minutes=30)
"""How long a message between GPUs may take; then a process has died, on another machine perhaps, and
the others end too, rather than hold their GPUs."""
WAIT = timedelta(days=1)
"""How long processes wait for one that evaluates, or asks a judge. They do so on CPUs, where they learn
at once of one that has died."""


@contextmanager
def single_process() -> Iterator[None]:
    """What runs inside is one process, whatever it was started with."""
    _ALONE[0] = True
    try:
        yield
    finally:
        _ALONE[0] = False


def world_size() -> int:
    if _ALONE[0]:
        return 1
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    if _ALONE[0]:
        return 0
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def init_processes(alone_too: bool = False) -> None:
    """Joins the group that torchrun's environment names: NCCL on GPUs, gloo on CPUs (and beside NCCL,
    for checkpoints and for waiting). alone_too: a process without torchrun makes a group of its own.
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
    _WAITING.append(dist.new_group(backend="gloo", timeout=WAIT))


def destroy_processes() -> None:
    """Leaves the group, so that a process whose work is done ends in good order."""
    if dist.is_initialized():
        _CHECKPOINTS.clear()
        _WAITING.clear()
        dist.destroy_process_group()


def checkpoint_group() -> Any:
    """A group of all processes for checkpoints that are written while training goes on: messages of
    two threads in one group would be taken for each other's. All processes must ask for it together.
    """
    if not _CHECKPOINTS:
        _CHECKPOINTS.append(dist.new_group(backend="gloo", timeout=WAIT))
    return _CHECKPOINTS[0]


def shard_batch(batch: Any) -> Any:
    """This process's rows of a batch: every N-th along the first axis of each tensor.

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


def _waiting() -> Any:
    """The group in which processes may wait long; None (the only one) where `init_processes` made none."""
    return _WAITING[0] if _WAITING else None


def _reduced(value: Tensor, how: Any) -> Tensor:
    total = value.detach().clone()
    dist.all_reduce(total, how, group=_waiting() if total.device.type == "cpu" else None)
    return total


def all_reduce_mean(value: Tensor) -> Tensor:
    """The average of a tensor over the processes; carries no gradient."""
    if world_size() == 1:
        return value
    return _reduced(value, dist.ReduceOp.SUM) / world_size()


def all_reduce_max(value: float) -> float:
    """The largest of a number over the processes: what one of them must not decide alone."""
    if world_size() == 1:
        return value
    return float(_reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX))


def broadcast_from_main(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them."""
    if world_size() == 1:
        return make()
    found: list[Any] = [make() if is_main() else None]
    dist.broadcast_object_list(found, src=0, group=_waiting())
    return found[0]


def first_available(value: T | None) -> T | None:
    """The value of the first process that has one: what all must agree on, though some cannot know it."""
    if world_size() == 1:
        return value
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value, group=_waiting())
    return next((each for each in found if each is not None), None)


def all_gather_rows(value: Tensor) -> Tensor:
    """The tensors of all processes behind one another along the first axis; all have as many rows."""
    if world_size() == 1:
        return value
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value, group=_waiting())
    return torch.cat(found)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Every gradient becomes its average over the processes, in one message."""
    if world_size() == 1:
        return
    trained = list(parameters)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = all_reduce_mean(torch.cat([g.flatten() for g in grads]))
    for p, g in zip(trained, flat.split([g.numel() for g in grads]), strict=True):
        p.grad = g.view_as(p)


def barrier() -> None:
    """Returns when every process has come here."""
    if world_size() > 1:
        dist.barrier(group=_waiting())
