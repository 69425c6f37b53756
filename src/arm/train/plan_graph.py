"""What of a language model takes part in its backward pass, from what of it trains.

A value needs a gradient where anything that it was made from trains, or needs one: above a frozen
table and frozen blocks there is none until the first parameter that trains. It is followed through a
block as `models/qwen2.py` runs it.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from arm.models.qwen2 import Qwen2


@dataclass(frozen=True)
class Linear:
    """A linear layer. into, out: whether its input and its output need a gradient; weight: whether its
    weight trains; added: whether LoRA's matrices beside it do.
    """

    into: bool
    weight: bool
    out: bool
    added: bool

    @property
    def products(self) -> int:
        """Matrix products with the weight, forward and backward: 1 to 3."""
        return 1 + self.into + self.weight

    @property
    def keeps(self) -> bool:
        """Whether its input is needed again."""
        return self.weight or self.added


@dataclass(frozen=True)
class Block:
    """trained: parameters that train. into, middle, out: whether what enters needs a gradient, what the
    MLP gets, and what leaves; norms: whether the scales of the two norms train; linears: by name.
    """

    trained: int
    into: bool
    middle: bool
    out: bool
    norms: tuple[bool, bool]
    linears: dict[str, Linear]

    @property
    def attention(self) -> bool:
        """Whether attention has a backward pass."""
        return any(self.linears[name].out for name in ("q_proj", "k_proj", "v_proj"))


@dataclass(frozen=True)
class Graph:
    """embedded, last, hidden: whether the blocks' first input, their last output and that after its norm
    need a gradient; the others: which weights outside of the blocks train.
    """

    embedded: bool
    blocks: tuple[Block, ...]
    last: bool
    hidden: bool
    text_table: bool
    norm: bool
    text_head: bool
    code_embedding: bool
    code_head: bool
    bit_head: bool

    @property
    def text(self) -> bool:
        """Whether the loss of text has a backward pass."""
        return self.hidden or self.text_head

    @property
    def code(self) -> bool:
        """Whether the loss of codes has one."""
        return self.hidden or self.code_head or self.bit_head


def _trains(*parts: nn.Module | None) -> bool:
    return any(p.requires_grad for part in parts if part is not None for p in part.parameters())


def _weight(layer: Any) -> bool:
    """Whether the weight itself trains, of a layer with LoRA too."""
    return layer is not None and getattr(layer, "base_layer", layer).weight.requires_grad


def _linear(layer: Any, into: bool) -> Linear:
    added = any(p.requires_grad for name, p in layer.named_parameters() if "lora_" in name)
    return Linear(into, _weight(layer), into or _trains(layer), added)


def _block(block: Any, into: bool) -> Block:
    attention, mlp = block.self_attn, block.mlp
    norms = (_trains(block.input_layernorm), _trains(block.post_attention_layernorm))
    linears = {
        name: _linear(getattr(attention, name), into or norms[0])
        for name in ("q_proj", "k_proj", "v_proj")
    }
    seen = any(linear.out for linear in linears.values())
    linears["o_proj"] = _linear(attention.o_proj, seen)
    middle = into or linears["o_proj"].out
    for name in ("gate_proj", "up_proj"):
        linears[name] = _linear(getattr(mlp, name), middle or norms[1])
    wide = linears["gate_proj"].out or linears["up_proj"].out
    linears["down_proj"] = _linear(mlp.down_proj, wide)
    trained = sum(p.numel() for p in block.parameters() if p.requires_grad)
    return Block(trained, into, middle, middle or linears["down_proj"].out, norms, linears)


def graph_of(model: Qwen2) -> Graph:
    """Of a model whose parameters require gradients as they do in the run (`train/finetune.py`)."""
    visual: Any = model.visual
    heads = () if visual is None else (visual.head, visual.bit_head)
    inner = [] if visual is None else [part for part in visual.children() if part not in heads]
    embedded = _trains(model.embed_tokens, *inner)
    blocks, into = [], embedded
    for block in model.layers:
        blocks.append(_block(block, into))
        into = blocks[-1].out
    return Graph(
        embedded, tuple(blocks), into, into or _trains(model.norm),
        text_table=_weight(model.embed_tokens),
        norm=_trains(model.norm),
        text_head=_weight(model.embed_tokens if model.lm_head is None else model.lm_head),
        code_embedding=visual is not None and _weight(visual.code_embedding),
        code_head=visual is not None and _weight(visual.head),
        bit_head=visual is not None and _weight(visual.bit_head),
    )  # fmt: skip
