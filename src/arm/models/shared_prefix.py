"""Prompts that are read once for all their continuations, with gradients.

Reinforcement learning draws a group of pictures for each prompt. In its update the prompt's tokens would go
through the network once a picture; here they go through once a prompt, and the pictures' tokens attend to
the keys and values that the prompt left, whose gradients add up over the group.

Shape suffixes: P prompts, S continuations, L tokens of the longest prompt, T tokens of a continuation, K
key/value heads, H head dimension.
"""

import torch
from torch import Tensor

from arm.models.kv_cache import after_padding, visible


class SharedPrefix:
    """Takes a KV cache's place in two forwards: of the prompts, left-padded to one length, and of what
    `continued` gives for their continuations.

    padding_P: how many tokens of padding stand before each prompt. owner_S: whose prompt each
    continuation goes on from; None while the prompts are read.
    """

    def __init__(self, padding_P: Tensor, owner_S: Tensor | None = None) -> None:
        self.padding_P, self.owner_S = padding_P, owner_S
        self.length = 0
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def continued(self, owner_S: Tensor) -> "SharedPrefix":
        """For continuations of the prompts with these indices (repeats allowed)."""
        found = SharedPrefix(self.padding_P, owner_S)
        found.length, found.kept = self.length, dict(self.kept)
        return found

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts: keeps a layer's keys and values (P, K, L, H) and returns them. Continuations: theirs
        (S, K, T, H) behind those of their prompts, (S, K, L + T, H).
        """
        if self.owner_S is None:
            self.kept[layer] = (k, v)
            return k, v
        before_k, before_v = (x.index_select(0, self.owner_S) for x in self.kept[layer])
        return torch.cat([before_k, k], 2), torch.cat([before_v, v], 2)

    def advance(self, n: int) -> None:
        """Counts the prompts' tokens; continuations end with their forward."""
        if self.owner_S is None:
            self.length = n

    def mask(self, new_tokens: int) -> Tensor:
        """Causal, without the padding, which attends to itself alone: bool (P or S, 1, T, L + T)."""
        padding = self.padding_P if self.owner_S is None else self.padding_P[self.owner_S]
        valid = after_padding(padding, self.length + new_tokens)
        return visible(self.length, new_tokens, valid, padding.device)
