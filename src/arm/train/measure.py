"""What one optimiser step of a language model really takes: FLOPs, and memory at its fullest.

FLOPs are counted by PyTorch's FlopCounterMode: two for a multiplication and an addition, attention as
the kernel computes it (half of the square where it is causal, all of it under a mask), its backward
pass two and a half times that. Memory is CUDA's own figure on a GPU, and on a CPU the bytes of all
storages that are alive at a time: parameters, gradients, the optimiser's state, activations.
"""

import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from arm.train.plan import Mix, local_rows, shards_of, words_of
from arm.train.plan_flops import flops_of
from arm.train.plan_memory import Setting, dtype_of, fullest
from arm.train.plan_sizes import sizes_of, work_of
from arm.train.sharding import is_sharded, multiply_in_bf16
from arm.train.training import to_device, training_device, uses_bf16
from arm.vocab import Vocab


@dataclass(frozen=True)
class Measured:
    """One step of one process. flops: None where the counter does not see the attention's kernel."""

    flops: float | None
    peak_bytes: float
    seconds: float
    device: str


class LiveStorages(TorchDispatchMode):
    """Follows every storage that an operation makes, and those shown to it; `peak`: most bytes at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.peak = 0

    def see(self, values: Any) -> None:
        """Follows the storages of all tensors among `values`."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.device.type != "meta":
                part = value.to_local() if isinstance(value, DTensor) else value
                self._follow(part.untyped_storage())

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key not in self.alive:
            self.alive[key] = weakref.ref(storage)
            weakref.finalize(storage, self.alive.pop, key, None)

    @property
    def now(self) -> int:
        """Bytes alive. The storages are asked each time, since sharding empties them in place."""
        found = (reference() for reference in tuple(self.alive.values()))
        return sum(storage.nbytes() for storage in found if storage is not None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.see(made)
        self.peak = max(self.peak, self.now)
        return made


Shape = tuple[int, ...]


def _forward_flops(q: Shape, k: Shape, v: Shape, dropout: float = 0.0, causal: bool = False,
                   **_: Any) -> int:  # fmt: skip
    whole = sdpa_flop_count(q, *_of_each_head(q, k, v))
    return whole * (q[2] + 1) // (2 * q[2]) if causal else whole


def _backward_flops(grad: Shape, q: Shape, k: Shape, v: Shape, out: Any, lse: Any,
                    dropout: float = 0.0, causal: bool = False, **_: Any) -> int:  # fmt: skip
    whole = sdpa_backward_flop_count(grad, q, *_of_each_head(q, k, v))
    return whole * (q[2] + 1) // (2 * q[2]) if causal else whole


def _of_each_head(q: Shape, k: Shape, v: Shape) -> tuple[Shape, Shape]:
    """Shapes of keys and values as if each query head had its own: the multiplications are as many,
    and PyTorch 2.11 counts no grouped heads.
    """
    return (k[0], q[1], *k[2:]), (v[0], q[1], *v[2:])


def _forward_flops_on_gpu(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, *_of_each_head(q, k, v))


def _backward_flops_on_gpu(grad: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, *_of_each_head(q, k, v))


ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
    torch.ops.aten._scaled_dot_product_flash_attention: _forward_flops_on_gpu,
    torch.ops.aten._scaled_dot_product_flash_attention_backward: _backward_flops_on_gpu,
}
"""The kernel that FlopCounterMode does not know, and the one whose grouped heads it learnt in 2.12."""


def random_batch(run: LMRun, vocab: Vocab, rows: int, document: int) -> PackedBatch:
    """Full rows of drawings of random codes with random prompts, about `document` tokens each."""
    rng = np.random.default_rng(run.loop.seed)
    length = min(document or run.row_length, run.row_length)
    around = len(flatten((user(), assistant(Image(np.zeros((1, 1), np.int64)))), vocab)) - 1
    side = max(1, min(run.max_side, int((0.8 * (length - around)) ** 0.5)))

    def sample(tokens: int) -> Tokens:
        words = tuple(
            rng.integers(vocab.text_size, size=max(0, tokens - around - side * side)).tolist()
        )
        codes = rng.integers(vocab.num_codes, size=(side, side))
        return flatten((user(Text(words)), assistant(Image(codes))), vocab, run.weights)

    smallest = around + side * side
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
    """The first process's batch of the run's own data, and the size of its text tokenizer; None
    where data or tokenizer are not there.
    """
    places = [*run.shards, *(source.path for source in run.conversations), run.text_tokenizer]
    if not all(place.exists() for place in places):
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


@contextmanager
def _flops(count: bool) -> Iterator[Callable[[], float | None]]:
    if not count:
        yield lambda: None
        return
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        yield counter.get_total_flops


def take_step(
    run: LMRun,
    model: Qwen2,
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, Tensor],
    batch: PackedBatch,
) -> tuple[Tensor, Tensor]:
    """One whole step, as the training loop takes it; returns the loss and the norm of its gradient."""
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


def measure(run: LMRun, words: int, batch: PackedBatch) -> Measured:
    """Two steps of a model with random weights on `batch`; the second, which finds the optimiser's
    state there, is measured. What it writes to disk is nothing.
    """
    run = replace(run, init_from=None, pretrained=None)
    model, _ = ready(run, words)
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
    begun = time.monotonic()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        begun = time.monotonic()
        step()
        torch.cuda.synchronize()
        seconds, peak = time.monotonic() - begun, torch.cuda.max_memory_allocated()
    else:
        step()
        seconds = time.monotonic() - begun
        optimizer.zero_grad(set_to_none=True)
        with LiveStorages() as storages:
            storages.see([*model.state_dict().values(), *averages.values()])
            storages.see([tuple(state.values()) for state in optimizer.state.values()])
            storages.see([getattr(batch, f.name) for f in fields(batch)])
            step()
        peak = storages.peak
    # FlexAttention runs compiled, and a mode that looks at every operation would undo that.
    with _flops(not (on_gpu and run.attention == "documents")) as counted:
        if not (on_gpu and run.attention == "documents"):
            step()
    return Measured(counted(), peak, seconds, device.type)


COUNTED = (
    "two a multiply-add; attention as its kernel computes it, causal halves or masked squares, 2.5 times "
    "that backwards; FlexAttention on a GPU is not counted"
)


@dataclass(frozen=True)
class Comparison:
    """One process's step, predicted for the very batch that was measured."""

    batch: str
    predicted_bytes: float
    predicted_flops: float
    measured: Measured


def compare(run: LMRun, mix: Mix) -> Comparison:
    """Runs a step on the run's own data where they are there, else on random ones of its shape."""
    parallel.init_processes()
    device, own = training_device(), own_batch(run)
    if own is not None:
        (batch, words), told = own, "the run's own data"
    else:
        words, _ = words_of(run)
        _, vocab = config_of(run, run.backbone.text_size or words)
        rows = math.ceil(local_rows(run, parallel.world_size(), mix))
        batch, told = random_batch(run, vocab, rows, mix.document), "random data"
    processes, work = parallel.world_size(), work_of(batch)
    at_a_time = min(run.micro_rows or work.rows, work.rows)
    shards = shards_of(run, processes)
    dtype = dtype_of(run, uses_bf16(run.loop, device))
    pieces = at_a_time < work.rows
    how = Setting(dtype, processes, shards, pieces, work.tokens, device.type == "cuda")
    sizes, piece = sizes_of(run, words), work.of(at_a_time)
    expected = fullest(run, sizes, piece, how)
    flops = flops_of(run, sizes, piece, work.rows / at_a_time)
    measured = measure(run, words, batch)
    shape = f"{told}, {work.rows:g} rows of {work.length} tokens"
    # CUDA's figure is of what PyTorch allocated: the reserve is not in it.
    return Comparison(shape, expected.total - expected.reserve, flops.hardware, measured)
