"""FLOPs of one optimiser step of a language model: what it needs, and what the hardware does.

A linear layer costs 2 FLOPs a weight and token, its backward pass twice that: for the input and for
the weight, of which a frozen layer has the first alone. Attention costs 4 FLOPs a query feature and
attended token. Model FLOPs are those of the mathematics; the hardware also makes again what it forgot
(`loop.parallel.recompute`, `loss_chunk`), computes masked squares whole, attention's scores a second
time in the backward pass, and Muon's products.
"""

from dataclasses import dataclass
from typing import Any

from arm.train.lm import LMRun
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
    config, tune, tokens = sizes.config, run.finetune, work.tokens
    layers, width, bits = config.num_layers, config.hidden_size, config.code_bits
    products = {n: 2.0 * a * b * tokens for n, (a, b) in sizes.linears.items()}
    once = sum(products.values())
    added = added_out = 0.0
    if tune.lora_rank:
        shapes = [sizes.linears[target] for target in tune.lora_targets]
        added = 2.0 * tune.lora_rank * tokens * sum(a + b for a, b in shapes)
        added_out = 2.0 * tune.lora_rank * tokens * sum(b for _, b in shapes)
    linears = once * (2 if tune.lora_rank else 3) + 3 * added
    attended = 4.0 * sizes.query * work.attended * tokens
    computed = (
        attended if run.attention == "documents" else 4.0 * sizes.query * work.length * tokens
    )

    head_trains = sizes.groups["text table" if config.tie_embeddings else "text head"].trained > 0
    text_once = 2.0 * config.vocab_size * width * work.text
    text = text_once * (3 if head_trains else 2)
    sees_trains = sizes.groups["visual part"].trained > 0
    code_once = 2.0 * config.num_codes * width * work.code
    code = code_once * (3 if sees_trains else 2)
    if config.share_bits and config.num_codes:
        scored = 2.0 * width * bits * work.code
        spread = 2.0 * bits * config.num_codes * work.code  # by signs, which need no gradient
        code_once += scored + spread
        code += 3 * scored + 2 * spread + (2 if sees_trains else 1) * 2.0 * bits * width * tokens

    last = 0.0 if tune.lora_rank else products["down_proj"]  # nothing needs a block's output again
    again = (
        layers
        * {
            "nothing": 0.0,
            "all": once - last + added + computed,
            "selective": once - sum(products[n] for n in kept_products(sizes)) + added_out,
        }[run.loop.parallel.recompute]
    )
    for positions, made in ((work.code, code_once), (work.text, text_once)):
        if run.loss_chunk and positions > run.loss_chunk:
            again += made
    # The backward pass of attention has five products, of which one makes the scores again.
    attention_extra = layers * (3.5 * computed - 3 * attended)
    optimiser = sum(map(_muon, sizes.matrices)) if run.optim.muon else 0.0
    return Flops(
        layers * linears * pieces,
        layers * 3 * attended * pieces,
        text * pieces,
        code * pieces,
        (again + attention_extra) * pieces + optimiser,
    )


def _muon(shape: tuple[int, int]) -> float:
    """Five steps of Newton-Schulz iteration (`train/muon.py`)."""
    small, large = sorted(shape)
    return 5.0 * (4 * small * small * large + 2 * small**3)


def by_kind(flops: Flops) -> dict[str, Any]:
    return {
        "blocks' linear layers": flops.linears,
        "attention": flops.attention,
        "text head": flops.text_head,
        "visual part": flops.visual,
    }
