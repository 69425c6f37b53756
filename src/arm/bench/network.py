"""The network that all rows of a training table share: random weights, and treatments that are undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from arm.models.qwen2 import Qwen2
from arm.models.weights import trained
from arm.train.finetune import prepare
from arm.train.lm import LMRun, config_of
from arm.train.muon import Muon
from arm.train.optim import optimizer_for
from arm.train.precision import multiply_in_bf16
from arm.train.sharding import averages_of, blocks, is_sharded, recompute, share_out


@dataclass(frozen=True)
class How:
    """One row: what differs from the first, the run with it, and how the network is treated."""

    name: str
    run: LMRun
    bf16: bool
    compiled: bool = False


@dataclass(frozen=True, eq=False)
class Shared:
    """A model, its optimiser and its average, made when they are first asked for: a table whose rows
    all lack memory needs none. words: the size of the text tokenizer.
    """

    run: LMRun
    words: int
    device: torch.device

    @cached_property
    def model(self) -> Qwen2:
        return random_model(self.run, self.words, self.device)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return optimizer_for(self.model, self.run.optim)

    @cached_property
    def averages(self) -> dict[str, Tensor]:
        return averages_of(trained(self.model)) if self.run.optim.ema else {}

    @contextmanager
    def treated(self, how: How) -> Iterator[None]:
        """Inside, the network recomputes, multiplies and is compiled as the row says; then as before."""
        model, optimizer = self.model, self.optimizer
        classes = [(module, type(module)) for module in model.modules()]
        if how.bf16:
            multiply_in_bf16(model)
        if isinstance(optimizer, Muon):
            optimizer.bf16 = how.bf16
        recompute(model, how.run.loop.parallel.recompute)
        parts: list[Any] = blocks(model) if is_sharded(model) else [model]
        if how.compiled:
            for part in parts:
                part.compile(dynamic=True)
        try:
            yield
        finally:
            for part in parts:
                part._compiled_call_impl = None
            for block in blocks(model):
                vars(block).pop("forward", None)
            for module, its in classes:
                module.__class__ = its

    def alive(self) -> list[Any]:
        """Whose bytes are taken before a step begins; the gradients of the last one are let go."""
        self.optimizer.zero_grad(set_to_none=True)
        state = [tuple(values.values()) for values in self.optimizer.state.values()]
        return [*self.model.state_dict().values(), *self.averages.values(), *state]


def random_model(run: LMRun, words: int, device: torch.device) -> Qwen2:
    """The run's network with random weights that are made where they are used; nothing is read."""
    torch.manual_seed(run.loop.seed)
    config, _ = config_of(run, run.backbone.text_size or words)
    with torch.device("meta"):
        model = Qwen2(config)
    how = replace(run.loop.parallel, recompute="nothing")
    adds = run.finetune.partial  # LoRA's layers stand on weights that are there
    if not adds:
        share_out(model, how, device)
    _fill(model.to_empty(device=device))
    if adds:
        prepare(model, run.finetune)
        share_out(model, how, device)
    return model.train()


@torch.no_grad()
def _fill(model: Qwen2) -> None:
    for name, parameter in model.named_parameters():
        own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        if name.endswith("norm.weight"):
            own.fill_(1.0)
        elif name.endswith(".bias"):
            own.zero_()
        else:
            own.normal_(0.0, 0.02)
