"""Performs real optimiser steps of a language model and measures their FLOPs, memory and time.

Memory on a GPU is the largest number of bytes that PyTorch had allocated; on a CPU it is the largest sum
of all storages alive at the same time: parameters, gradients, optimiser state and activations.

PyTorch's FlopCounterMode counts FLOPs, two per multiply-add. It has no formula for the fused attention
kernel of CPUs, and before PyTorch 2.12 its formula for CUDA's kernel did not support grouped heads. The
formulas here count attention as the kernels compute it: half of the score matrix (its diagonal included)
where attention is causal, all of it where a mask is passed.

Shapes: q (B, N, T, H), k and v (B, K, S, H), where N is a multiple of K.
"""

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from arm.data.packing import RowPacker, packed_batch
from arm.errors import DataError
from arm.models.pretrained import load_text_tokenizer
from arm.models.qwen2 import Qwen2
from arm.models.text import TextTokenizer
from arm.models.weights import full_tensor, trained
from arm.sequence import Image, PackedBatch, Text, Tokens, assistant, flatten, pack, user
from arm.train import parallel
from arm.train.lm import LMRun, config_of, read_chains, ready, samples_of, step_losses
from arm.train.optim import block_matrices, init_ema, make_optimizer, update_ema
from arm.train.sharding import is_sharded, multiply_in_bf16
from arm.train.training import to_device, uses_bf16
from arm.vocab import Vocab

COUNTED = (
    "two FLOPs per multiply-add; attention as its kernel computes it (half of the scores if causal, all "
    "of them under a mask), 2.5 times as much in the backward pass; FlexAttention on a GPU is not counted"
)


Shape = tuple[int, ...]


def _one_head_per_query(q: Shape, k: Shape, v: Shape) -> tuple[Shape, Shape]:
    """Shapes of k and v repeated for every query head, which needs the same number of FLOPs."""
    return (k[0], q[1], *k[2:]), (v[0], q[1], *v[2:])


def _causal_half(flops: int, tokens: int) -> int:
    return flops * (tokens + 1) // (2 * tokens)


def _forward_cpu(
    q: Shape, k: Shape, v: Shape, dropout: float = 0.0, causal: bool = False, **_: Any
) -> int:
    flops = sdpa_flop_count(q, *_one_head_per_query(q, k, v))
    return _causal_half(flops, q[2]) if causal else flops


def _backward_cpu(
    grad: Shape, q: Shape, k: Shape, v: Shape, out: Any, logsumexp: Any,
    dropout: float = 0.0, causal: bool = False, **_: Any,
) -> int:  # fmt: skip
    flops = sdpa_backward_flop_count(grad, q, *_one_head_per_query(q, k, v))
    return _causal_half(flops, q[2]) if causal else flops


def _forward_cuda(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, *_one_head_per_query(q, k, v))


def _backward_cuda(grad: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, *_one_head_per_query(q, k, v))


FORWARD_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward_cpu,
    torch.ops.aten._scaled_dot_product_flash_attention: _forward_cuda,
}
BACKWARD_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_cpu,
    torch.ops.aten._scaled_dot_product_flash_attention_backward: _backward_cuda,
}
"""The backward kernels compute five products per score, the forward kernels two."""


def flop_counter() -> FlopCounterMode:
    """A FlopCounterMode that also knows the attention kernels above; `get_total_flops()` returns its sum."""
    return FlopCounterMode(display=False, custom_mapping=FORWARD_ATTENTION | BACKWARD_ATTENTION)


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class LiveStorages(TorchDispatchMode):
    """Tracks the storages that operations create, and those given to `track`, until they are freed.

    `peak` is the largest number of bytes that were alive at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.peak = 0

    def track(self, values: Any) -> list[int]:
        """Tracks the storages of all tensors in a nested structure; returns the keys of new ones."""
        keys = []
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.device.type != "meta":
                storage = local_part(value).untyped_storage()
                key = id(storage)
                if key not in self.alive:
                    self.alive[key] = weakref.ref(storage)
                    weakref.finalize(storage, self.alive.pop, key, None)
                    keys.append(key)
        return keys

    @property
    def live_bytes(self) -> int:
        """Sizes are read each time, since sharding empties storages in place."""
        storages = [reference() for reference in tuple(self.alive.values())]
        return sum(storage.nbytes() for storage in storages if storage is not None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.track(result)
        self.peak = max(self.peak, self.live_bytes)
        return result


def take_step(
    run: LMRun,
    model: Qwen2,
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, Tensor],
    batch: PackedBatch,
) -> tuple[Tensor, Tensor]:
    """Performs one optimiser step as the training loop does; returns the loss and the gradient norm."""
    optimizer.zero_grad(set_to_none=True)
    loss = step_losses(run, model, to_device(batch, model.embed_tokens.weight.device))["loss"]
    if loss.requires_grad:
        loss.backward()
    if not is_sharded(model):
        parallel.average_gradients(trained(model).values())
    norm = nn.utils.clip_grad_norm_(trained(model).values(), run.optim.clip)
    optimizer.step()
    update_ema(averages, trained(model), run.optim.ema)
    return loss.detach(), full_tensor(norm)


def random_batch(run: LMRun, vocab: Vocab, rows: int, document: int) -> PackedBatch:
    """Full rows of random text-to-image samples of about `document` tokens each (0: one per row)."""
    rng = np.random.default_rng(run.loop.seed)
    length = min(document or run.row_length, run.row_length)
    overhead = len(flatten((user(), assistant(Image(np.zeros((1, 1), np.int64)))), vocab)) - 1
    side = max(1, min(run.max_side, int((0.8 * (length - overhead)) ** 0.5)))

    def sample(tokens: int) -> Tokens:
        text = tuple(
            rng.integers(vocab.text_size, size=max(0, tokens - overhead - side * side)).tolist()
        )
        codes = rng.integers(vocab.num_codes, size=(side, side))
        return flatten((user(Text(text)), assistant(Image(codes))), vocab, run.weights)

    smallest = overhead + side * side
    packed = []
    for _ in range(rows):
        sizes = [length] * (run.row_length // length)
        if run.row_length - sum(sizes) >= smallest:
            sizes.append(run.row_length - sum(sizes))
        packed.append(pack([sample(size) for size in sizes], run.row_length, vocab))
    return PackedBatch(
        *(torch.cat([getattr(b, f.name) for b in packed]) for f in fields(PackedBatch))
    )


def own_batch(run: LMRun) -> tuple[PackedBatch, int] | None:
    """This process's first batch of the run's own data, and the size of the run's text tokenizer.

    Returns None if the data or the tokenizer do not exist. Raises DataError if the data do not fit the run.
    """
    sources = [*run.shards, *(source.path for source in run.conversations), run.text_tokenizer]
    if not all(source.exists() for source in sources):
        return None
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    _, vocab = config_of(run, run.backbone.text_size or text_tokenizer.size)
    chains = read_chains(run)
    mix, seed = samples_of(run, chains, text_tokenizer, vocab), run.loop.seed
    mine = range(parallel.rank(), run.rows, parallel.world_size())
    try:
        if run.rows:
            packer = RowPacker(seed, run.row_length, mix, run.weights, vocab)
            return packer.batch(0, mine), text_tokenizer.size
        batch = packed_batch(seed, 0, run.samples, run.row_length, mix, run.weights, vocab)
    except ValueError as error:
        raise DataError(f"the run's own data do not fit it: {error}") from None
    return parallel.shard_batch(batch), text_tokenizer.size


@dataclass(frozen=True)
class Measured:
    """One step of one process."""

    flops: float | None
    """None if the attention kernel cannot be counted."""
    peak_bytes: float
    seconds: float
    device: str


def measure(run: LMRun, text_size: int, batch: PackedBatch) -> Measured:
    """Takes steps of a model with random weights on `batch` and measures one in which the optimiser has
    its state already. text_size: size of the text tokenizer. Writes nothing to disk.
    """
    run = replace(run, init_from=None, pretrained=None)
    model, _ = ready(run, text_size)
    device = next(model.parameters()).device
    if uses_bf16(run.loop, device):
        multiply_in_bf16(model)
    optimizer = make_optimizer(model, run.optim, block_matrices(model), uses_bf16(run.loop, device))
    averages = init_ema(trained(model)) if run.optim.ema else {}
    model.train()

    def step() -> None:
        take_step(run, model, optimizer, averages, batch)

    step()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    step()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.monotonic() - start
    if on_gpu:
        peak = torch.cuda.max_memory_allocated()
    else:
        optimizer.zero_grad(set_to_none=True)
        with LiveStorages() as storages:
            storages.track([*model.state_dict().values(), *averages.values()])
            storages.track([tuple(state.values()) for state in optimizer.state.values()])
            storages.track([getattr(batch, f.name) for f in fields(batch)])
            step()
        peak = storages.peak
    # FlexAttention runs compiled on a GPU, where a dispatch mode would undo the compilation.
    if on_gpu and run.attention == "documents":
        return Measured(None, peak, seconds, device.type)
    with flop_counter() as counter:
        step()
    return Measured(counter.get_total_flops(), peak, seconds, device.type)
