"""Transformers' cache in the place of our `KVCache`, so that `generate` and loops by hand can use it.

What a token means (its place in a picture, its position) depends on the ids before it, so the cache
remembers them: as one more layer, behind the backbone's, so that everything transformers does to a
cache (reorder for beams, repeat, select, crop) is done to the ids too.

Shape suffixes: B batch, T new tokens, S cached and new tokens, K key/value heads, H head dimension.
"""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer

from arm.models.kv_cache import KVCache


class CacheAdapter(KVCache):
    """One forward pass's view of a transformers cache. The mask is the caller's (`causal_mask`)."""

    def __init__(self, cache: Cache) -> None:
        self.cache, self.length = cache, int(cache.get_seq_length())

    def append(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + k_BKTH.shape[2]
        k_BKSH, v_BKSH = self.cache.update(k_BKTH, v_BKTH, layer)
        return k_BKSH[:, :, :end], v_BKSH[:, :, :end]  # a static cache has room behind

    def advance(self, n: int) -> None:
        self.length += n

    def mask(self, new_tokens: int) -> None:
        return None


def remember(cache: Cache, ids_BT: Tensor, num_layers: int) -> Tensor:
    """Adds the ids of new tokens (negative: masked) to those of the cache; returns all, (B, S).

    To be called before the backbone fills its `num_layers` layers. Raises ValueError for a cache
    that another model filled, or whose layers are neither dynamic nor static.
    """
    length = int(cache.get_seq_length())
    if length and int(cache.get_seq_length(num_layers)) != length:
        raise ValueError(
            f"this cache holds {length} tokens without their ids; start from an empty one"
        )
    if not length and len(cache.layers) == num_layers:
        first = cache.layers[0]
        if type(first) is StaticLayer:
            cache.layers.append(StaticLayer(max_cache_len=first.max_cache_len))
        elif type(first) is DynamicLayer:
            cache.layers.append(DynamicLayer())
        else:
            raise ValueError(
                f"a cache of {type(first).__name__} is not supported; take a DynamicCache"
            )
    ids_B1T1 = ids_BT[:, None, :, None]
    ids_B1S1, _ = cache.update(ids_B1T1, ids_B1T1[..., :0], num_layers)
    return ids_B1S1[:, 0, : length + ids_BT.shape[1], 0]


def causal_mask(real_BS: Tensor, new_tokens: int) -> Tensor | None:
    """What the last `new_tokens` tokens attend to: themselves, and causally all that take part.

    real_BS: whether a token takes part. Returns bool (B, 1, T, S), or None where plain causal (or,
    for one token, full) attention says the same. Three tokens after a masked one, T = 2:

        real  0 1 1        1  . 1 .
                           1  . 1 1
    """
    tokens = real_BS.shape[1]
    if new_tokens in (1, tokens) and bool(real_BS.all()):
        return None
    key_S = torch.arange(tokens, device=real_BS.device)
    query_T1 = key_S[tokens - new_tokens :, None]
    return ((key_S <= query_T1) & real_BS[:, None, None, :]) | (key_S == query_T1)
