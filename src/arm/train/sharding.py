"""A model shared out over processes, applied from outside: PyTorch's FSDP2, HSDP, activation checkpointing.

Every process holds a part of each parameter, of its gradient and of its optimiser state. A block's
parameters are gathered when it runs and let go afterwards; gradients are averaged to where their part
lives. Networks know nothing of it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from arm.errors import ConfigError
from arm.train import parallel

T = TypeVar("T")
Recompute = Literal["nothing", "selective", "all"]


@dataclass(frozen=True)
class Parallel:
    """How processes train one model.

    shard: each holds a part of it (FSDP2); otherwise each holds all and takes a share of the batch.
    replicas: groups of processes that each hold the whole model between them (HSDP), one a node, say.
    bf16: sharded parameters are gathered and multiplied in bf16; gradients are reduced in fp32.
    recompute: what a block does not keep for its backward pass. "selective" keeps the attention and
    every product that does not widen, and makes the MLP's wide ones again.
    """

    shard: bool = False
    replicas: int = 1
    bf16: bool = False
    recompute: Recompute = "nothing"

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError("replicas must be at least 1")
        if not self.shard and (self.replicas > 1 or self.bf16):
            raise ValueError("replicas and bf16 are of sharded models: set shard too")


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network, the members of its module lists, inner ones first."""
    found = [
        child
        for parent in module.modules()
        if isinstance(parent, nn.ModuleList)
        for child in parent
        if any(True for _ in child.parameters())
    ]
    return found[::-1]


def _mesh(how: Parallel, device: torch.device) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    size = parallel.world_size()
    if size % how.replicas:
        raise ConfigError(
            f"{size} processes do not make {how.replicas} equal replicas; change loop.parallel.replicas"
        )
    if how.replicas == 1:
        return init_device_mesh(device.type, (size,))
    shape = (how.replicas, size // how.replicas)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))


def apply_parallelism(module: nn.Module, how: Parallel, device: torch.device) -> None:
    """Applies `how` to a module, in place; its parameters may be on the meta device still.

    What uses its parameters outside of its `forward` must do so inside `call_as_forward`. Raises ConfigError
    for processes that do not make the replicas asked for.
    """
    recompute(module, how.recompute)
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
    """A `Materialize` (`models/qwen2_files.py`): shares a model on the meta device out and gives each process
    storage for its part alone.
    """

    def materialize(module: nn.Module) -> None:
        apply_parallelism(module, how, device)
        module.to_empty(device=device)

    return materialize


CALL = "_as_one_call"


class _Inside:
    """A sharded module during `call_as_forward`: a call of it is its plain `forward`, since FSDP's hooks,
    run once more, would let its parameters go before the rest of the backward pass has used them.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = [module]  # in a list, or nn.Module would be a child of itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module[0], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module[0].forward(*args, **kwargs)


def call_as_forward(module: nn.Module, function: Callable[..., T], *args: Any) -> T:
    """function(module, *args), which may use the module's parameters in any way: those of a sharded one
    are gathered once for the whole of it and once for its backward pass, however often they are used,
    so that processes whose batches differ send the same.
    """
    call = getattr(module, CALL, None)
    return function(module, *args) if call is None else call(function, *args)


def is_sharded(module: nn.Module) -> bool:
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) for p in module.parameters())


@contextmanager
def unsharded(*modules: nn.Module) -> Iterator[None]:
    """Inside, every process holds the whole of these models, and their forward passes send nothing,
    so that each process may run them as often as it needs: generation. For models that are not sharded, nothing.
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


# What a block keeps for its backward pass

_ATTENTION = ("scaled_dot_product", "flex_attention")


def _keep(context: Any, op: Any, *args: Any, **kwargs: Any) -> Any:
    """The selective policy: attention and products that do not widen stay."""
    from torch.utils.checkpoint import CheckpointPolicy

    name = str(op)
    product = name in ("aten.mm.default", "aten.addmm.default")
    keep = any(part in name for part in _ATTENTION)
    if product:
        left, right = args[-2:]
        keep = right.shape[-1] <= left.shape[-1]
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def recompute(module: nn.Module, what: Recompute) -> None:
    """Makes the blocks of a module forget activations that they can make again."""
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
        def again(
            *args: Any, **kwargs: Any
        ) -> Any:  # torch.compile passes over a bare `checkpoint`
            return checkpoint(forward, *args, **kwargs, **options)

        return again

    for block in blocks(module):
        block.forward = recomputed(block.forward)


# The average of the weights

Averages = Mapping[str, Tensor]


@torch.no_grad()
def init_ema(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies to begin an exponential moving average from; of sharded parameters, of the parts."""
    return {name: p.detach().clone() for name, p in parameters.items()}


@torch.no_grad()
def update_ema(averages: Averages, parameters: Mapping[str, Tensor], decay: float) -> None:
    """average = decay * average + (1 - decay) * parameter, in place."""
    for name, average in averages.items():
        average.lerp_(parameters[name].detach(), 1 - decay)
