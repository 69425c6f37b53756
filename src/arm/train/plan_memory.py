"""Bytes of one GPU while a language model trains, at the moments when it is fullest.

What a backward pass needs is counted operation by operation, as `models/qwen2.py` runs them; a test
compares the sum with the storages that are alive in a real step. Three ways to compute change what is
kept: in fp32; with bf16 products between fp32 tensors (`loop.bf16`, each linear layer keeps a bf16 copy
of its input and of its weight); and sharded in bf16 (`loop.parallel.bf16`), all but the norms' inputs.

D width, F MLP width, Q query features, K key features, N heads, H features of a head.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from arm.train.lm import LMRun
from arm.train.plan_flops import kept_products
from arm.train.plan_graph import Block
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


def block_bytes(run: LMRun, sizes: Sizes, work: Work, how: Setting, block: Block) -> float:
    """Everything that one block saves for its backward pass, its input among it."""
    config, linears = sizes.config, block.linears
    D, F, N = config.hidden_size, config.intermediate_size, config.num_heads
    Q, K, H = sizes.query, sizes.key, config.head_size
    low, products = 2 if how.dtype == "bf16" else 4, how.dtype == "products"
    # A norm keeps its input in fp32, and what its scale multiplies where that trains.
    each = (4 * D + 4) * (block.into + block.middle) + low * D * sum(block.norms)
    if block.attention:
        each += low * (2 * Q + 2 * K) + 4 * N + (2 * 2 * H if how.dtype == "bf16" else 0)
    gate, up, down = (linears[name] for name in ("gate_proj", "up_proj", "down_proj"))
    each += low * F * (2 * gate.out + up.out)
    if products:  # a bf16 copy of its input for every layer
        each += sum(2 * sizes.linears[n][0] for n, linear in linears.items() if linear.keeps)
    else:
        each += low * D * any(linears[name].keeps for name in ("q_proj", "k_proj", "v_proj"))
        each += low * D * (gate.keeps or up.keeps) + low * F * down.keeps
        # Attention keeps its output already, but on a CPU that of documents is joined again.
        again = not block.attention or not (run.attention == "mask" or how.on_gpu)
        each += low * Q * (again and linears["o_proj"].keeps)
    each += 4 * run.finetune.lora_rank * sum(linear.added for linear in linears.values())
    weights = sum(2 * a * b for n, (a, b) in sizes.linears.items() if linears[n].into) * products
    # One layer's copy of the mask as numbers.
    masked = run.attention == "mask" and block.attention
    return each * work.tokens + weights + masked * low * work.rows * work.length**2


def kept_bytes(run: LMRun, sizes: Sizes, work: Work, how: Setting, block: Block) -> float:
    """What one block keeps until its backward pass."""
    what = run.loop.parallel.recompute
    if what == "nothing" or not block.out:
        return block_bytes(run, sizes, work, how, block)
    config = sizes.config
    wide = 2 if how.dtype == "bf16" else 4
    each = wide * config.hidden_size + (2 * 2 * config.head_size if how.dtype == "bf16" else 0)
    return each * work.tokens + _selected(run, sizes, work, how)


def _selected(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> float:
    """What "selective" holds of a block beside its input, from its forward pass on."""
    if run.loop.parallel.recompute != "selective":
        return 0.0
    each = (4 if how.dtype == "fp32" else 2) * sum(
        sizes.linears[name][1] for name in kept_products(sizes)
    )
    each += (2 if how.dtype == "bf16" else 4) * sizes.query + 4 * sizes.config.num_heads
    return each * work.tokens


def _network(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> float:
    """What is kept outside of the blocks: batch, embedding, rotary table, mask, last norm, heads' inputs."""
    config, graph = sizes.config, sizes.graph
    D, low = config.hidden_size, 2 if how.dtype == "bf16" else 4
    ids = (8 * (6 if config.max_side else 3) + 2) * graph.embedded
    signs = low * config.code_bits * graph.code_embedding if config.share_bits else 0
    norm = 4 * D * graph.last + low * D * graph.norm
    inside = _shared(run, sizes, work) if any(block.attention for block in graph.blocks) else 0.0
    heads = 0.0
    for positions, trains, has_gradient in (
        (work.code, graph.code_head or graph.bit_head, graph.code),
        (work.text, graph.text_head, graph.text),
    ):  # fmt: skip
        split = bool(run.loss_chunk) and positions > run.loss_chunk
        heads += positions * (low * D * (trains or split) + 2 * 8) * has_gradient
        heads += positions * 2 * D * trains * (how.dtype == "products")
    if how.dtype == "products" and not run.loss_chunk:
        heads += 2 * sizes.outside * graph.hidden
    return (ids + signs + norm) * work.tokens + inside + heads + BATCH * how.batch_tokens


def _shared(run: LMRun, sizes: Sizes, work: Work) -> float:
    """What all blocks read: rotary table and mask."""
    mask = work.rows * work.length**2 if run.attention == "mask" else 0.0
    return 2 * 4 * sizes.config.head_size * work.tokens + mask


def _state(run: LMRun, sizes: Sizes, how: Setting) -> Bytes:
    """What is there from step to step, and the gradients of earlier pieces."""
    trained, inside = sizes.trained, sizes.groups["blocks"].trained
    moving = 4 * (inside + 2 * (trained - inside)) if run.optim.muon else 8 * trained
    return Bytes(
        "", 4 * sizes.total / how.shards, 4 * trained / how.shards * how.pieces, moving / how.shards,
        4 * trained / how.shards if run.optim.ema else 0.0, 0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip


def _heads(sizes: Sizes) -> tuple[int, int]:
    """Weights of the text head and of the visual head that train."""
    config, graph = sizes.config, sizes.graph
    D = config.hidden_size
    return config.vocab_size * D * graph.text_head, config.num_codes * D * graph.code_head


def _grown(run: LMRun, how: Setting) -> int:
    """Bytes of an element of a gradient before it is reduced."""
    return 2 if run.loop.parallel.shard and how.dtype == "bf16" else 4


def moments(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> tuple[Bytes, ...]:
    """The candidates for the fullest moment of a step, without reserve."""
    config, graph, sharded = sizes.config, sizes.graph, run.loop.parallel.shard
    D, F, tokens = config.hidden_size, config.intermediate_size, work.tokens
    low = 2 if how.dtype == "bf16" else 4
    state, every = _state(run, sizes, how), 4 * sizes.trained / how.shards
    gathered = low * (sizes.outside + 2 * sizes.block) if sharded else 0.0
    inside, network = replace(state, gathered=gathered), _network(run, sizes, work, how)
    kept = sum(kept_bytes(run, sizes, work, how, block) for block in graph.blocks)
    behind = network - low * D * (1 + graph.norm) * tokens
    found = [
        replace(inside, moment="forward pass of a block",
                activations=network + _shared(run, sizes, work),
                working=low * 3 * (F + D) * tokens + _selected(run, sizes, work, how)),
        *_losses(run, sizes, work, how, replace(inside, activations=kept + network)),
        *_backward(run, sizes, work, how, replace(inside, activations=behind)),
    ]  # fmt: skip
    if graph.embedded:
        outside = sizes.trained - sizes.groups["blocks"].trained
        table = config.vocab_size * D * graph.text_table
        tables = (
            _grown(run, how) * table * (2 * config.tie_embeddings + (how.pieces and not sharded))
        )
        if sharded:
            tables += low * outside + 4 * outside
        found.append(
            replace(inside, moment="gradient of the tables", gradients=every, activations=behind,
                    working=4 * low * D * tokens + tables)
        )  # fmt: skip
    rows = BATCH * how.batch_tokens
    if how.processes > 1 and not sharded:
        found.append(
            replace(state, moment="average of the gradients", gradients=every, activations=rows,
                    working=3 * every)
        )  # fmt: skip
    working = 0.0
    if run.optim.muon:
        largest = max((a * b for a, b in sizes.matrices), default=0)
        working = max(4 * 4 * sizes.largest / how.shards, 4 * 4 * largest)
    found.append(
        replace(state, moment="optimiser's step", gradients=every, activations=rows,
                working=working)
    )  # fmt: skip
    return tuple(found)


def _losses(
    run: LMRun, sizes: Sizes, work: Work, how: Setting, everything: Bytes
) -> Iterator[Bytes]:
    """From the logits back to the hidden states. Log-probabilities are saved; their gradient and the
    logits' stand beside them.
    """
    config, graph, chunk = sizes.config, sizes.graph, run.loss_chunk
    text_split, code_split = (bool(chunk) and n > chunk for n in (work.text, work.code))
    text_once = 4.0 * (chunk if text_split else work.text) * config.vocab_size
    code_once = 4.0 * (chunk if code_split else work.code) * config.num_codes
    code_saved = 0.0 if code_split or not graph.code else code_once
    text_grads, code_grads = (_grown(run, how) * weights for weights in _heads(sizes))
    # Gradients of several chunks are added up: the sum so far, the new one, and their sum.
    split = text_grads * text_split
    hidden = (2 if how.dtype == "bf16" else 4) * config.hidden_size * work.tokens
    yield replace(everything, moment="loss of text",
                  logits=(2 + graph.text) * text_once + code_saved, working=split)  # fmt: skip
    yield replace(everything, moment="gradient of the text head", logits=text_once + code_saved,
                  working=text_grads + 2 * split)  # fmt: skip
    yield replace(everything, moment="loss of codes", logits=(2 + graph.code) * code_once,
                  working=text_grads + code_grads * code_split)  # fmt: skip
    yield replace(everything, moment="gradient of the visual head", logits=code_once,
                  working=text_grads + code_grads * (3 if code_split else 1))  # fmt: skip
    yield replace(everything, moment="back into the network",
                  working=text_grads + code_grads + 4 * hidden * graph.hidden)  # fmt: skip


def _backward(run: LMRun, sizes: Sizes, work: Work, how: Setting, behind: Bytes) -> Iterator[Bytes]:
    """Through the blocks: from all activations and no gradients to the other way round. behind: what is
    there beside them.
    """
    config, sharded = sizes.config, run.loop.parallel.shard
    D, F, low = config.hidden_size, config.intermediate_size, 2 if how.dtype == "bf16" else 4
    grown, (text_head, code_head) = _grown(run, how), _heads(sizes)
    # A tied table's gradient waits for that of the embedding, a sharded one for the others to be reduced.
    waiting = grown * text_head * (config.tie_embeddings and (how.pieces or not sharded))
    waiting += grown * (text_head + code_head) * sharded
    own = text_head * (not config.tie_embeddings) + code_head
    late = sizes.trained - sizes.groups["blocks"].trained - own * (not sharded)
    kept = behind.activations
    for number, block in enumerate(sizes.graph.blocks, 1):
        late += block.trained
        if block.out:
            down = block.linears["down_proj"]  # its gradients are the first of a block
            extra = low * (2 * F + D + F * (not down.keeps)) * work.tokens
            grads = grown * F * D * down.weight + 4 * block.trained * sharded
            yield replace(
                behind, moment=f"backward pass of block {number}",
                gradients=4 * (sizes.trained - late * (not how.pieces)) / how.shards,
                activations=kept + block_bytes(run, sizes, work, how, block),
                working=extra + grads + waiting,
            )  # fmt: skip
        kept += kept_bytes(run, sizes, work, how, block)


def fullest(run: LMRun, sizes: Sizes, work: Work, how: Setting) -> Bytes:
    """The moment with the most bytes, with the reserve where it is a GPU's."""
    found = max(moments(run, sizes, work, how), key=lambda moment: moment.total)
    return replace(found, reserve=RESERVE + FRAGMENTS * found.total) if how.on_gpu else found
