"""How a network is executed, applied to it from outside: FSDP2 and HSDP, activation checkpointing, bf16 products.

In a sharded model every process holds a shard of each parameter, of its gradient and of its optimizer
state. A block's parameters are all-gathered when it runs and freed afterwards; gradients are reduce-scattered.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arm.errors import ConfigError
from arm.train import parallel

T = TypeVar("T")
Recompute = Literal["nothing", "selective", "all"]


@dataclass(frozen=True)
class Parallel:
    """How processes train one model together.

    shard: each process holds a shard of the model (FSDP2); otherwise each holds all of it and trains on a
    part of the batch. replicas: number of groups of processes that each hold one sharded copy of the model
    (HSDP), for example one per node. bf16: sharded parameters are gathered and multiplied in bf16; gradients
    are reduced in fp32. recompute: activation checkpointing of the blocks. "selective" keeps attention and
    the matrix products whose output is no wider than their input, and recomputes the MLP's wide ones.
    """

    shard: bool = False
    replicas: int = 1
    bf16: bool = False
    recompute: Recompute = "nothing"

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError("replicas must be at least 1")
        if not self.shard and (self.replicas > 1 or self.bf16):
            raise ValueError("replicas and bf16 apply to sharded models only: set shard too")


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a network: the members with parameters of its module lists. Lists inside of a block
    are parts of it.
    """
    members: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            members += [block for block in child if any(True for _ in block.parameters())]
        else:
            members += blocks(child)
    return members


def _mesh(how: Parallel, device: torch.device) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    size = parallel.world_size()
    if size % how.replicas:
        raise ConfigError(
            f"{size} processes cannot form {how.replicas} equal replicas; change loop.parallel.replicas"
        )
    if how.replicas == 1:
        return init_device_mesh(device.type, (size,))
    shape = (how.replicas, size // how.replicas)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))


def apply_parallelism(module: nn.Module, how: Parallel, device: torch.device) -> None:
    """Shards a module and checkpoints its activations as `how` says, in place; its parameters may still be on
    the meta device.

    Code that uses a sharded module's parameters outside of its `forward` must do so inside `call_as_forward`.
    Raises ConfigError where the number of processes is no multiple of the replicas.
    """
    checkpoint_activations(module, how.recompute)
    if not how.shard:
        return
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    parallel.init_processes(alone_too=True)
    mesh = _mesh(how, device)
    low = torch.bfloat16 if how.bf16 else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    for part in (*blocks(module), module):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    inside = _Inside(module)
    setattr(module, CALL, lambda function, *args: function(inside, *args))
    register_fsdp_forward_method(module, CALL)


def materializer(how: Parallel, device: torch.device) -> Callable[[nn.Module], None]:
    """Returns a `Materialize` (`models/backbone.py`): it shards a model that is on the meta device and gives
    each process storage for its own shard alone.
    """

    def materialize(module: nn.Module) -> None:
        apply_parallelism(module, how, device)
        module.to_empty(device=device)

    return materialize


CALL = "_call_as_forward"


class _Inside:
    """A sharded module during `call_as_forward`. Calling it runs the plain `forward`: FSDP's hooks, run a
    second time, would free its parameters before the rest of the backward pass has used them.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = [module]  # in a list, or nn.Module would be a child of itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module[0], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module[0].forward(*args, **kwargs)


def call_as_forward(module: nn.Module, function: Callable[..., T], *args: Any) -> T:
    """Returns function(module, *args), run as one forward pass of the module. The function may use the
    module's parameters in any way: those of a sharded module are gathered once for the whole call and once
    for its backward pass, however often they are used, so that processes whose batches differ issue the same
    collectives.
    """
    call = getattr(module, CALL, None)
    return function(module, *args) if call is None else call(function, *args)


def is_sharded(module: nn.Module) -> bool:
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) for p in module.parameters())


@contextmanager
def unsharded(*modules: nn.Module) -> Iterator[None]:
    """Gathers sharded models for the duration of the context: every process holds all parameters, and forward
    passes communicate nothing, so that each process may run as many as it needs (generation, evaluation). Does
    nothing for models that are not sharded.
    """
    from torch.distributed.fsdp import FSDPModule

    parts = [m for module in modules for m in module.modules() if isinstance(m, FSDPModule)]
    roots = {id(module) for module in modules}
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(id(part) not in roots, recurse=False)
            part.reshard()


# Activation checkpointing

_ATTENTION = ("scaled_dot_product", "flex_attention")


def _keep(context: Any, op: Any, *args: Any, **kwargs: Any) -> Any:
    """The selective policy: save the outputs of attention and of products no wider than their input."""
    from torch.utils.checkpoint import CheckpointPolicy

    name = str(op)
    product = name in ("aten.mm.default", "aten.addmm.default")
    keep = any(part in name for part in _ATTENTION)
    if product:
        left, right = args[-2:]
        keep = right.shape[-1] <= left.shape[-1]
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def checkpoint_activations(module: nn.Module, what: Recompute) -> None:
    """Makes the blocks of a module recompute activations in the backward pass, in place."""
    if what == "nothing":
        return
    from torch.utils.checkpoint import (
        checkpoint,
        create_selective_checkpoint_contexts,
    )

    options: dict[str, Any] = {"use_reentrant": False}
    if what == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _keep)

    def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
        def again(*args: Any, **kwargs: Any) -> Any:  # torch.compile skips a bare `checkpoint`
            return checkpoint(forward, *args, **kwargs, **options)

        return again

    for block in blocks(module):
        block.forward = recomputed(block.forward)


# Matrix products in bf16


def has_bf16_units() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AVX512-BF16 or AMX). Elsewhere bf16 is
    emulated, many times slower than fp32.
    """
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class _Bf16Linear(nn.Linear):
    """An nn.Linear that multiplies in bf16. Existing layers are converted to this class."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.bfloat16()
        return F.linear(input.bfloat16(), self.weight.bfloat16(), bias).to(input.dtype)


def multiply_in_bf16(module: nn.Module) -> nn.Module:
    """Converts the linear layers of `module`, in place, to multiply in bf16 and return their input's dtype;
    returns the module. Parameters, norms, attention, losses and the optimizer stay in fp32, and names and
    checkpoints do not change. Subclasses of nn.Linear are not converted.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Bf16Linear
    return module
