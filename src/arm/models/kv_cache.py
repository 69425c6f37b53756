"""Keys and values of tokens that a backbone has read: for decoding, and for prompts shared by a group.

`KVCache` serves decoding one token after another, without gradients. `SharedPrefix` serves the update of
reinforcement learning, which draws a group of pictures for each prompt: the prompt goes through the network
once, its pictures attend to the keys and values that it left, and their gradients add up over the group.

Shape suffixes: B batch, T new tokens, S room for tokens, K key/value heads, H head dimension, L layers; in
`SharedPrefix` P prompts, S continuations, L tokens of the longest prompt, T tokens of a continuation.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from arm.models.qwen2 import Qwen2Config


def causal_mask(
    length: int, new_tokens: int, valid_BS: Tensor | None, device: torch.device | str
) -> Tensor:
    """The attention mask of `new_tokens` tokens after `length` cached ones, bool (B or 1, 1, T, S).

    They attend to the cached tokens that are valid (None: all are), and causally to each other. Hidden tokens
    attend to themselves, so that no row is empty.
    """
    key_S = torch.arange(length + new_tokens, device=device)
    query_T1 = key_S[length:, None]
    if valid_BS is None:
        return (key_S <= query_T1)[None, None]
    return ((key_S <= query_T1) & valid_BS[:, None, None, : len(key_S)]) | (key_S == query_T1)


def after_padding(padding_B: Tensor, tokens: int) -> Tensor:
    """The positions of each row that are not left padding, of the first `tokens`; bool (B, S)."""
    return torch.arange(tokens, device=padding_B.device) >= padding_B[:, None]


class KVCache:
    """A preallocated cache for inference, without gradients.

    Positions `[0, length)` are filled. New tokens may attend to the positions where `valid_BS` is true (None:
    to all); `hide_left` sets it for a left-padded batch.
    """

    def __init__(
        self, k_LBKSH: Tensor, v_LBKSH: Tensor, length: int = 0, valid_BS: Tensor | None = None
    ) -> None:
        self.k_LBKSH, self.v_LBKSH, self.length, self.valid_BS = k_LBKSH, v_LBKSH, length, valid_BS

    @classmethod
    def empty(
        cls, config: "Qwen2Config", batch: int, max_tokens: int,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> "KVCache":  # fmt: skip
        shape = (config.num_layers, batch, config.num_kv_heads, max_tokens, config.head_size)
        k_LBKSH, v_LBKSH = torch.zeros((2, *shape), dtype=dtype, device=device)
        return cls(k_LBKSH, v_LBKSH)

    @property
    def max_tokens(self) -> int:
        return self.k_LBKSH.shape[3]

    def append(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        """Stores new keys and values of a layer after the old ones; returns views of all, (B, K, S, H).

        `length` changes by `advance` alone, once per forward pass. Raises ValueError for a cache with too little
        room or another batch size.
        """
        batch, end = k_BKTH.shape[0], self.length + k_BKTH.shape[2]
        if batch != self.k_LBKSH.shape[1]:
            raise ValueError(f"got {batch} rows for a KV cache of {self.k_LBKSH.shape[1]} rows")
        self._check_room(end)
        self.k_LBKSH[layer, :, :, self.length : end] = k_BKTH
        self.v_LBKSH[layer, :, :, self.length : end] = v_BKTH
        return self.k_LBKSH[layer, :, :, :end], self.v_LBKSH[layer, :, :, :end]

    def advance(self, n: int) -> None:
        """Counts n appended tokens as filled. Raises ValueError when there is no room for them."""
        self._check_room(self.length + n)
        self.length += n

    def hide_left(self, padding_B: Tensor) -> None:
        """Hides the first `padding_B[b]` positions of each row b (left padding)."""
        self.valid_BS = after_padding(padding_B, self.max_tokens)

    def mask(self, new_tokens: int) -> Tensor | None:
        """The mask of the next `new_tokens` tokens (`causal_mask`), or None where it equals plain causal attention
        (for a single token: attention to everything).
        """
        if self.valid_BS is None and (new_tokens == 1 or self.length == 0):
            return None
        return causal_mask(self.length, new_tokens, self.valid_BS, self.k_LBKSH.device)

    def repeat(self, n: int) -> "KVCache":
        """A new cache in which every row stands n times: one prefill shared by n samples."""
        batch, device = self.k_LBKSH.shape[1], self.k_LBKSH.device
        return self.select(torch.arange(batch, device=device).repeat_interleave(n))

    def select(self, rows: Tensor) -> "KVCache":
        """A new cache of the rows with these indices (int64, repeats allowed)."""
        valid_BS = None if self.valid_BS is None else self.valid_BS[rows]
        return KVCache(self.k_LBKSH[:, rows], self.v_LBKSH[:, rows], self.length, valid_BS)

    def _check_room(self, tokens: int) -> None:
        if tokens > self.max_tokens:
            raise ValueError(f"{tokens} tokens do not fit a KV cache of {self.max_tokens}")


class SharedPrefix:
    """Stands in for a KV cache in two forward passes: the first reads the prompts, left-padded to one length;
    the second, with the object that `continued` returns, reads their continuations.

    padding_P: the number of padding tokens before each prompt. owner_S: the index of the prompt that each
    continuation follows; None while the prompts are read.
    """

    def __init__(self, padding_P: Tensor, owner_S: Tensor | None = None) -> None:
        self.padding_P, self.owner_S = padding_P, owner_S
        self.length = 0
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def continued(self, owner_S: Tensor) -> "SharedPrefix":
        """The prefix for continuations of the prompts with these indices, which may repeat."""
        prefix = SharedPrefix(self.padding_P, owner_S)
        prefix.length, prefix.kept = self.length, dict(self.kept)
        return prefix

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Of prompts, keeps the keys and values of a layer, (P, K, L, H), and returns them. Of continuations,
        returns theirs, (S, K, T, H), after those of their prompts: (S, K, L + T, H).
        """
        if self.owner_S is None:
            self.kept[layer] = (k, v)
            return k, v
        before_k, before_v = (x.index_select(0, self.owner_S) for x in self.kept[layer])
        return torch.cat([before_k, k], 2), torch.cat([before_v, v], 2)

    def advance(self, n: int) -> None:
        """Counts the tokens of the prompts; continuations are read in one forward pass."""
        if self.owner_S is None:
            self.length = n

    def mask(self, new_tokens: int) -> Tensor:
        """The causal mask, bool (P or S, 1, T, L + T). Padding attends to itself alone and is hidden from the rest."""
        padding = self.padding_P if self.owner_S is None else self.padding_P[self.owner_S]
        valid = after_padding(padding, self.length + new_tokens)
        return causal_mask(self.length, new_tokens, valid, padding.device)
