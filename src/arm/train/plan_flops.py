"""FLOPs of one optimiser step of a language model: what it needs, and what the hardware does.

A linear layer costs 2 FLOPs a weight and token, its backward pass twice that: for the input and for
the weight, of which a frozen layer has the first alone, and none where nothing before it trains either
(`plan_graph.py`). Attention costs 4 FLOPs a query feature and attended token. Model FLOPs are those of
the mathematics; the hardware also makes again what it forgot (`loop.parallel.recompute`, `loss_chunk`),
computes masked squares whole, attention's scores a second time in the backward pass, and Muon's products.
"""

from dataclasses import dataclass
from typing import Any

from arm.train.lm import LMRun
from arm.train.plan_graph import Block
from arm.train.plan_sizes import Sizes, Work


@dataclass(frozen=True)
class Flops:
    """Of one process and step. `extra` is what the hardware does beside the model's."""

    linears: float
    attention: float
    text_head: float
    visual: float
    extra: float

    @property
    def model(self) -> float:
        return self.linears + self.attention + self.text_head + self.visual

    @property
    def hardware(self) -> float:
        return self.model + self.extra


def kept_products(sizes: Sizes) -> tuple[str, ...]:
    """The layers whose outputs "selective" keeps: those that do not widen (`train/sharding.py`)."""
    return tuple(name for name, (inside, out) in sizes.linears.items() if out <= inside)


def flops_of(run: LMRun, sizes: Sizes, work: Work, pieces: float) -> Flops:
    """`pieces` times `work`, then the optimiser's step."""
    config, graph, tokens = sizes.config, sizes.graph, work.tokens
    width, bits = config.hidden_size, config.code_bits
    blocks = [_block(run, sizes, work, block) for block in graph.blocks]
    linears, attention, extra = (sum(kind) for kind in zip(*blocks, strict=True))

    text_once = 2.0 * config.vocab_size * width * work.text
    text = text_once * (1 + graph.hidden + graph.text_head)
    code_once = 2.0 * config.num_codes * width * work.code
    code = code_once * (1 + graph.hidden + graph.code_head)
    if config.share_bits and config.num_codes:
        scored = 2.0 * width * bits * work.code
        spread = 2.0 * bits * config.num_codes * work.code  # by signs, which need no gradient
        code_once += scored + spread
        code += scored * (1 + graph.hidden + graph.bit_head)
        code += spread * (1 + (graph.hidden or graph.bit_head))
        code += (1 + graph.code_embedding) * 2.0 * bits * width * tokens
    for positions, made, has_gradient in (
        (work.code, code_once, graph.code), (work.text, text_once, graph.text)
    ):  # fmt: skip
        if has_gradient and run.loss_chunk and positions > run.loss_chunk:
            extra += made
    optimiser = sum(map(_muon, sizes.matrices)) if run.optim.muon else 0.0
    return Flops(
        linears * pieces,
        attention * pieces,
        text * pieces,
        code * pieces,
        extra * pieces + optimiser,
    )


def _block(run: LMRun, sizes: Sizes, work: Work, block: Block) -> tuple[float, float, float]:
    """The linear layers of one block, its attention, and what the hardware does beside them."""
    tune, tokens = run.finetune, work.tokens
    once = {n: 2.0 * a * b * tokens for n, (a, b) in sizes.linears.items()}
    linears = sum(once[name] * linear.products for name, linear in block.linears.items())
    lora = [name for name in tune.lora_targets if name in once] if tune.lora_rank else []
    added = added_out = 0.0
    for name in lora:
        linear, (a, b) = block.linears[name], sizes.linears[name]
        down, up = (2.0 * tune.lora_rank * size * tokens for size in (a, b))
        added, added_out = added + down + up, added_out + up
        linears += down * (1 + linear.into + linear.added)
        linears += up * (1 + (linear.into or linear.added) + linear.added)
    attended = 4.0 * sizes.query * work.attended * tokens
    computed = (
        attended if run.attention == "documents" else 4.0 * sizes.query * work.length * tokens
    )
    attention = attended * (3 if block.attention else 1)
    # The backward pass of attention has five products, of which one makes the scores again.
    extra = computed * (3.5 if block.attention else 1) - attention
    if not block.out:
        return linears, attention, extra
    everything, wide = sum(once.values()), sum(once[name] for name in kept_products(sizes))
    # Nothing needs a block's output again, unless LoRA's input is made behind it.
    last = 0.0 if "down_proj" in lora else once["down_proj"]
    again = {
        "nothing": 0.0,
        "all": everything - last + added + computed,
        "selective": everything - wide + added_out,
    }[run.loop.parallel.recompute]
    return linears, attention, extra + again


def _muon(shape: tuple[int, int]) -> float:
    """Five steps of Newton-Schulz iteration (`train/optim.py`)."""
    small, large = sorted(shape)
    return 5.0 * (4 * small * small * large + 2 * small**3)


def by_kind(flops: Flops) -> dict[str, Any]:
    return {
        "blocks' linear layers": flops.linears,
        "attention": flops.attention,
        "text head": flops.text_head,
        "visual part": flops.visual,
    }
