"""Keys and values of the tokens that a backbone has read, for decoding one token after the other.

Shape suffixes: B batch, T new tokens, S room for tokens, K key/value heads, H head dimension, L layers.


Prompts that are read once for all their continuations, with gradients.

Reinforcement learning draws a group of pictures for each prompt. In its update the prompt's tokens would go
through the network once a picture; here they go through once a prompt, and the pictures' tokens attend to
the keys and values that the prompt left, whose gradients add up over the group.

Shape suffixes: P prompts, S continuations, L tokens of the longest prompt, T tokens of a continuation, K
key/value heads, H head dimension."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from arm.models.qwen2 import Qwen2Config


def causal_mask(
    length: int, new_tokens: int, valid_BS: Tensor | None, device: torch.device | str
) -> Tensor:
    """What `new_tokens` tokens behind `length` cached ones attend to: valid cached ones (None: all), themselves
    causally. Bool (B or 1, 1, T, S). A hidden token attends to itself too, so no row is empty.
    """
    key_S = torch.arange(length + new_tokens, device=device)
    query_T1 = key_S[length:, None]
    if valid_BS is None:
        return (key_S <= query_T1)[None, None]
    return ((key_S <= query_T1) & valid_BS[:, None, None, : len(key_S)]) | (key_S == query_T1)


def after_padding(padding_B: Tensor, tokens: int) -> Tensor:
    """Which of the first `tokens` positions of each row are none of its left padding, bool (B, S)."""
    return torch.arange(tokens, device=padding_B.device) >= padding_B[:, None]


class KVCache:
    """Keys and values of the tokens read so far, preallocated. For inference, without gradients.

    Positions `[0, length)` are filled. `valid_BS` (bool, or None: all valid) tells which positions
    new tokens may attend to; `hide_left` sets it for a left-padded batch.
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
        """Stores a layer's new keys and values behind the old; returns views of all, (B, K, S, H).

        `length` stays until `advance`, once per forward. Raises ValueError when the cache has too
        little room or another batch size.
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
        """What the next `new_tokens` tokens attend to (`causal_mask`), or None where plain causal (or, for
        one token, full) attention says the same.
        """
        if self.valid_BS is None and (new_tokens == 1 or self.length == 0):
            return None
        return causal_mask(self.length, new_tokens, self.valid_BS, self.k_LBKSH.device)

    def repeat(self, n: int) -> "KVCache":
        """A new cache with each row n times in a row: one prefill shared by n samples."""
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
        return causal_mask(self.length, new_tokens, valid, padding.device)
