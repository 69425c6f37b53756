"""What a plan of a language model counts from: the sizes of the network, and what a step reads."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arm.models.attention import document_spans
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.sequence import PackedBatch
from arm.train.finetune import prepare
from arm.train.lm import LMRun, config_of
from arm.train.plan_graph import Graph, graph_of

GROUPS = {
    "text table": ("embed_tokens.",),
    "text head": ("lm_head.",),
    "visual part": ("visual.",),
    "blocks": ("layers.",),
    "last norm": ("norm.",),
}
"""Parameters by the beginnings of their names."""


@dataclass(frozen=True)
class Count:
    """Parameters of a group, and how many of them train."""

    total: int
    trained: int


@dataclass(frozen=True)
class Sizes:
    """groups: parameters by kind; graph: what of them has a part in the backward pass; largest: of the
    trained tensors outside blocks (a table).
    """

    config: Qwen2Config
    groups: dict[str, Count]
    graph: Graph
    largest: int
    matrices: tuple[tuple[int, int], ...]

    @property
    def total(self) -> int:
        return sum(count.total for count in self.groups.values())

    @property
    def trained(self) -> int:
        return sum(count.trained for count in self.groups.values())

    @property
    def block(self) -> int:
        """Parameters of one block."""
        return self.groups["blocks"].total // self.config.num_layers

    @property
    def outside(self) -> int:
        """Parameters outside blocks, which sharding gathers as one."""
        return self.total - self.groups["blocks"].total

    @property
    def query(self) -> int:
        return self.config.num_heads * self.config.head_size

    @property
    def key(self) -> int:
        return self.config.num_kv_heads * self.config.head_size

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of a block's linear layers."""
        D, F, Q, K = self.config.hidden_size, self.config.intermediate_size, self.query, self.key
        return {
            "q_proj": (D, Q), "k_proj": (D, K), "v_proj": (D, K), "o_proj": (Q, D),
            "gate_proj": (D, F), "up_proj": (D, F), "down_proj": (F, D),
        }  # fmt: skip


def sizes_of(run: LMRun, words: int) -> Sizes:
    """Counted on the meta device: no weights are read or made. `words`: size of the text tokenizer."""
    config, _ = config_of(run, run.backbone.text_size or words)
    with torch.device("meta"):
        model = Qwen2(config)
        prepare(model, run.finetune)
    named = dict(model.named_parameters())

    def of(prefixes: tuple[str, ...]) -> Count:
        found = [p for name, p in named.items() if name.startswith(prefixes)]
        return Count(
            sum(map(Tensor.numel, found)), sum(p.numel() for p in found if p.requires_grad)
        )

    inside = [p for n, p in named.items() if "layers." in n and p.requires_grad and p.dim() == 2]
    tables = [p.numel() for n, p in named.items() if "layers." not in n and p.requires_grad]
    return Sizes(
        config,
        {name: of(prefixes) for name, prefixes in GROUPS.items()},
        graph_of(model),
        max(tables, default=0),
        tuple((p.shape[0], p.shape[1]) for p in inside),
    )


@dataclass(frozen=True)
class Work:
    """What goes through the network at a time: `rows` of `length` tokens. attended: how many tokens a
    token attends to on average, itself among them. code, text: positions whose loss is of a code, of text.
    """

    rows: float
    length: int
    attended: float
    code: float
    text: float

    @property
    def tokens(self) -> float:
        return self.rows * self.length

    def of(self, rows: float) -> "Work":
        """The same mix in another number of rows."""
        by = rows / self.rows
        return replace(self, rows=rows, code=self.code * by, text=self.text * by)


def work_of(batch: PackedBatch) -> Work:
    """What a packed batch holds."""
    rows, length = batch.ids.shape
    spans = [stop - start for _, start, stop, real in document_spans(batch.document_ids) if real]
    loss, codes = batch.weights[:, 1:] > 0, batch.codes[:, 1:] >= 0
    return Work(
        rows,
        length,
        sum(n * (n + 1) / 2 for n in spans) / (rows * length),
        int((loss & codes).sum()),
        int((loss & ~codes).sum()),
    )
