"""Bytes of one GPU while a language model trains, at the moments when it is fullest.

What a backward pass needs is counted operation by operation, as `models/qwen2.py` runs them; a test
compares the sum with the storages that are alive in a real step. Three ways to compute change what is
kept: in fp32; with bf16 products between fp32 tensors (`loop.bf16`, each linear layer keeps a bf16 copy
of its input and of its weight); and sharded in bf16 (`loop.parallel.bf16`), all but the norms' inputs.

D width, F MLP width, Q query features, K key features, N heads, H features of a head.
"""

from dataclasses import dataclass, replace
from typing import Literal

from arm.train.lm import LMRun
from arm.train.plan_flops import kept_products
from arm.train.plan_sizes import Sizes, Work

Dtype = Literal["fp32", "products", "bf16"]
RESERVE = 2e9
"""CUDA's context, cuBLAS's and NCCL's buffers."""
FRAGMENTS = 0.05
"""Of all that is allocated: what the caching allocator holds in pieces that nothing fits."""
BATCH = 7 * 8
"""Bytes of a token in a packed batch."""


@dataclass(frozen=True)
class Bytes:
    """Of one process at one moment. working: what an operation needs beside its inputs, gathered
    parameters not among it.
    """

    moment: str
    parameters: float
    gradients: float
    optimizer: float
    average: float
    gathered: float
    activations: float
    logits: float
    working: float
    reserve: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.by_kind().values())

    def by_kind(self) -> dict[str, float]:
        return {
            "parameters": self.parameters, "gradients": self.gradients,
            "optimiser": self.optimizer, "moving average": self.average,
            "gathered parameters": self.gathered, "activations": self.activations,
            "logits": self.logits, "working space": self.working, "reserve": self.reserve,
        }  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """How a process computes. processes: all of them; shards: those that hold a model between them;
    pieces: whether gradients of earlier pieces are there already; batch_tokens: of the local batch.
    """

    dtype: Dtype
    processes: int
    shards: int
    pieces: bool
    batch_tokens: float
    on_gpu: bool = True


def dtype_of(run: LMRun, products: bool) -> Dtype:
    """products: whether the device has units for `loop.bf16`."""
    if run.loop.parallel.bf16:
        return "bf16"
    return "products" if run.loop.bf16 and products else "fp32"


def _mask(run: LMRun, work: Work, wide: int) -> float:
    """One layer's copy of the mask as numbers."""
    return wide * work.rows * work.length**2 if run.attention == "mask" else 0.0


def block_bytes(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> float:
    """Everything that one block saves for its backward pass, its input among it."""
    config = sizes.config
    D, F, N = config.hidden_size, config.intermediate_size, config.num_heads
    Q, K, H = sizes.query, sizes.key, config.head_size
    norms, softmax = 2 * 4, 4 * N
    lora = run.finetune.lora_rank > 0
    copies = 0 if run.attention == "mask" or how.on_gpu else Q  # documents joined again on a CPU
    if how.dtype == "bf16":
        wide = 4 * 2 * D + 2 * 2 * D * (2 - lora)
        each = wide + 2 * (2 * Q + 2 * K + copies) + 2 * 4 * F + 2 * 2 * H
    elif how.dtype == "products":
        wide = 4 * 2 * D * (2 - lora) + 2 * 5 * D
        each = wide + 4 * (2 * Q + 2 * K) + 2 * Q + 4 * 3 * F + 2 * F
    else:
        each = 4 * (2 * D * (3 - lora) + 2 * Q + 2 * K + copies + 4 * F)
    if lora:
        each += 4 * run.finetune.lora_rank * len(run.finetune.lora_targets)
    weights = 2 * sum(a * b for a, b in sizes.linears.values()) if how.dtype == "products" else 0
    mask = _mask(run, work, 2 if how.dtype == "bf16" else 4)
    return (each + norms + softmax) * work.tokens + weights + mask


def kept_bytes(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> float:
    """What one block keeps until its backward pass."""
    what = run.loop.parallel.recompute
    if what == "nothing":
        return block_bytes(run, sizes, work, how)
    config = sizes.config
    low = 4 if how.dtype == "fp32" else 2
    wide = 2 if how.dtype == "bf16" else 4
    each = wide * config.hidden_size + (2 * 2 * config.head_size if how.dtype == "bf16" else 0)
    if what == "selective":
        each += low * sum(sizes.linears[name][1] for name in kept_products(sizes))
        each += wide * sizes.query + 4 * config.num_heads
    return each * work.tokens


def _network(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> float:
    """What is kept outside of the blocks: batch, embedding, rotary table, mask, last norm, heads' inputs."""
    config = sizes.config
    D, low, wide = config.hidden_size, 2 if how.dtype == "bf16" else 4, 4
    ids = 8 * (6 if config.max_side else 3) + 2
    signs = low * config.code_bits if config.share_bits else 0
    rope = 2 * 4 * config.head_size
    norm = (wide + low) * D
    mask = work.rows * work.length**2 if run.attention == "mask" else 0.0
    heads = (low * D + 2 * 8) * (work.code + work.text)
    if how.dtype == "products":
        heads += 2 * D * (work.code + work.text) + 2 * sizes.outside * (not run.loss_chunk)
    return (ids + signs + rope + norm) * work.tokens + mask + heads + BATCH * how.batch_tokens


def moments(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> tuple[Bytes, ...]:
    """The candidates for the fullest moment of a step, without reserve."""
    config, optim, shards = sizes.config, run.optim, how.shards
    D, F, V, C = (
        config.hidden_size, config.intermediate_size, config.vocab_size, config.num_codes
    )  # fmt: skip
    sharded = run.loop.parallel.shard
    low, tokens, layers = 2 if how.dtype == "bf16" else 4, work.tokens, config.num_layers
    trained = sizes.trained / shards
    inside = sizes.groups["blocks"].trained
    outside = sizes.trained - inside
    moving = 4 * (inside + 2 * outside) if optim.muon else 8 * sizes.trained
    state = Bytes(
        "", 4 * sizes.total / shards, 4 * trained if how.pieces else 0.0, moving / shards,
        4 * trained if optim.ema else 0.0, 0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip
    kept = kept_bytes(run, sizes, work, how)
    block = block_bytes(run, sizes, work, how)
    network = _network(run, sizes, work, how)
    hidden = low * D * tokens
    table = V * D if sizes.groups["text table"].trained else 0
    text_head = (
        table if config.tie_embeddings else (V * D if sizes.groups["text head"].trained else 0)
    )
    code_head = C * D if sizes.groups["visual part"].trained else 0
    gathered = low * (sizes.outside + 2 * sizes.block) if sharded else 0.0

    # Logits: log-probabilities are saved; their gradient and the logits' stand beside them.
    chunk = run.loss_chunk
    text_split, code_split = (bool(chunk) and n > chunk for n in (work.text, work.code))
    text_rows = chunk if text_split else work.text
    code_rows = chunk if code_split else work.code
    code_saved = 0.0 if code_split else 4 * work.code * C
    text_once, code_once = 4.0 * text_rows * V, 4.0 * code_rows * C
    grown = low if sharded else 4  # bytes of an element of a gradient before it is reduced
    head_grads = grown * text_head
    everything = replace(state, activations=layers * kept + network, gathered=gathered)
    # Gradients of several chunks are added up: the sum so far, the new one, and their sum.
    split = grown * text_head if text_split else 0.0
    code_grads = grown * code_head * (3 if code_split else 1)
    found = [
        replace(everything, moment="loss of text", logits=3 * text_once + code_saved,
                working=split),
        replace(everything, moment="gradient of the text head", logits=text_once + code_saved,
                working=head_grads + 2 * split),
        replace(everything, moment="loss of codes", logits=3 * code_once,
                working=head_grads + (grown * code_head if code_split else 0.0)),
        replace(everything, moment="gradient of the visual head", logits=code_once,
                working=head_grads + code_grads),
        replace(everything, moment="back into the network",
                working=head_grads + grown * code_head + 4 * hidden),
    ]  # fmt: skip

    # Backward through the blocks: from all activations and no gradients to the other way round.
    extra = low * (2 * F + D) * tokens
    down = grown * F * D  # the first gradient of a block
    heads = head_grads + grown * code_head
    found.append(
        replace(everything, moment="backward pass of the last block",
                activations=(layers - 1) * kept + block + network - hidden * 2,
                working=extra + heads + down)
    )  # fmt: skip
    every = 4 * trained
    pending = grown * text_head if how.pieces and config.tie_embeddings else 0.0
    late = 0.0 if how.pieces else 4 * (inside / layers + table) / shards  # not made yet
    first = replace(state, gradients=every - late, gathered=gathered)
    found.append(
        replace(first, moment="backward pass of the first block",
                activations=block + network - hidden * 2,
                working=extra + down + pending + (heads + 4 * sizes.block if sharded else 0.0))
    )  # fmt: skip
    tables = grown * table * (2 * config.tie_embeddings + (how.pieces and not sharded))
    if sharded:
        tables += low * outside + 4 * outside
    found.append(
        replace(first, moment="gradient of the tables", gradients=every, activations=network - hidden * 2,
                working=4 * hidden + tables)
    )  # fmt: skip
    rows = BATCH * how.batch_tokens
    if how.processes > 1 and not sharded:
        found.append(
            replace(state, moment="average of the gradients", gradients=every, activations=rows,
                    working=3 * every)
        )  # fmt: skip
    working = 0.0
    if optim.muon:
        largest = max((a * b for a, b in sizes.matrices), default=0)
        working = max(4 * 4 * sizes.largest / shards, 4 * 4 * largest)
    found.append(
        replace(state, moment="optimiser's step", gradients=every, activations=rows,
                working=working)
    )  # fmt: skip
    return tuple(found)


def fullest(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> Bytes:
    """The moment with the most bytes, with the reserve where it is a GPU's."""
    found = max(moments(run, sizes, work, how), key=lambda moment: moment.total)
    return replace(found, reserve=RESERVE + FRAGMENTS * found.total) if how.on_gpu else found
