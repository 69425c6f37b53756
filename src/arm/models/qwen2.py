"""Qwen2 with a visual part: one decoder that reads and predicts text tokens and visual codes.

Source: ARM (arXiv 2606.11188), section 3: a Qwen2.5 language model plus one linear layer that
predicts visual tokens. The text part follows Qwen2 (arXiv 2407.10671): pre-norm RMSNorm, rotary
positions, grouped-query attention with a bias on q, k and v, SwiGLU. Its parameters carry the
names of Hugging Face's checkpoints, less the leading `model.`.

Shape suffixes: B batch, T tokens, S cached and new tokens together (of a KV cache: room for them),
D width, N heads, K key/value heads, H head dimension, L layers, V text vocabulary, C visual codes,
X any leading dimensions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arm.models.attention import Documents, attend
from arm.models.kv_cache import KVCache, SharedPrefix
from arm.models.visual import Visual
from arm.models.weights import assign


@dataclass(frozen=True)
class Qwen2Config:
    """Sizes of the model. Raises ValueError where they do not fit together."""

    vocab_size: int  # rows of the text table: text ids, then special and shape ids
    num_codes: int  # visual codes; 0 = no visual part
    code_bits: int  # 2**code_bits == num_codes when num_codes > 0
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int | None = None  # None: hidden_size // num_heads
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6
    tie_embeddings: bool = False  # the text head shares the text table
    max_side: int = 0  # > 0: codes get learned row and column embeddings, for grids up to this side
    share_bits: bool = True  # codes are embedded and scored by their bits too; False: by tables

    def __post_init__(self) -> None:
        heads, kv_heads, bits = self.num_heads, self.num_kv_heads, self.code_bits
        sizes = (self.vocab_size, self.hidden_size, self.intermediate_size, self.num_layers)
        if min(*sizes, kv_heads) < 1 or min(self.num_codes, bits, self.max_side) < 0:
            raise ValueError(f"sizes must be positive and visual sizes not negative: {self}")
        if heads < 1 or heads % kv_heads:
            raise ValueError(f"num_heads {heads} is no multiple of num_kv_heads {kv_heads}")
        if self.head_dim is None and self.hidden_size % heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of num_heads {heads}")
        if self.head_size < 1 or self.head_size % 2:
            raise ValueError(f"the head dimension must be positive and even, got {self.head_size}")
        if self.num_codes and 2**bits != self.num_codes:
            raise ValueError(f"num_codes {self.num_codes} is not 2**code_bits = {2**bits}")

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads if self.head_dim is None else self.head_dim


def document_mask(document_ids_BT: Tensor) -> Tensor:
    """Causal attention within documents that are packed into one row; bool (B, 1, T, T).

    Token i attends to token j where j <= i, both have the same document id, and the id is not
    negative. A negative id is padding, which attends to itself only. Documents of one row need
    distinct ids. Two documents of 2 and 3 tokens and a pad, rows i, columns j:

        ids  0 0 1 1 1 -1        0  1 . . . . .
                                 0  1 1 . . . .
                                 1  . . 1 . . .
                                 1  . . 1 1 . .
                                 1  . . 1 1 1 .
                                -1  . . . . . 1
    """
    same_BTT = document_ids_BT[:, :, None] == document_ids_BT[:, None, :]
    real_BT1 = document_ids_BT[:, :, None] >= 0
    itself_TT = torch.eye(document_ids_BT.shape[1], dtype=torch.bool, device=document_ids_BT.device)
    return ((same_BTT & real_BT1).tril() | itself_TT)[:, None]


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_XD: Tensor) -> Tensor:
        wide_XD = x_XD.float()
        wide_XD = wide_XD * torch.rsqrt(wide_XD.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide_XD.to(x_XD.dtype)


Rope = tuple[Tensor, Tensor]
Mask = Tensor | Documents | None
"""Who attends to whom: bool (B or 1, 1, T, S), the documents of packed rows, or None for all before."""
Cache = KVCache | SharedPrefix | None


def rope_table(positions_BT: Tensor, head_dim: int, theta: float) -> Rope:
    """cos and sin of the rotary angles, float32 (B, 1, T, H), the frequencies twice in a row."""
    even = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions_BT.device)
    angles_BTh = positions_BT[..., None].float() * (1.0 / theta ** (even / head_dim))
    angles_B1TH = torch.cat((angles_BTh, angles_BTh), dim=-1)[:, None]
    return angles_B1TH.cos(), angles_B1TH.sin()


def apply_rope(x_BNTH: Tensor, cos_B1TH: Tensor, sin_B1TH: Tensor) -> Tensor:
    """Rotates dimension i together with i + H / 2 (Hugging Face's half rotation)."""
    first, second = x_BNTH.chunk(2, dim=-1)
    turned_BNTH = torch.cat((-second, first), dim=-1)
    return x_BNTH * cos_B1TH.to(x_BNTH.dtype) + turned_BNTH * sin_B1TH.to(x_BNTH.dtype)


class Attention(nn.Module):
    def __init__(self, config: Qwen2Config, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_size
        query, key = config.num_heads * self.head_dim, config.num_kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query)
        self.k_proj = nn.Linear(config.hidden_size, key)
        self.v_proj = nn.Linear(config.hidden_size, key)
        self.o_proj = nn.Linear(query, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, rope: Rope, mask_B1TS: Mask, kv_cache: Cache) -> Tensor:
        q_BNTH, k_BKSH, v_BKSH = (
            project(x_BTD).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q_BNTH, k_BKSH = apply_rope(q_BNTH, *rope), apply_rope(k_BKSH, *rope)
        if kv_cache is not None:
            k_BKSH, v_BKSH = kv_cache.append(self.layer, k_BKSH, v_BKSH)
        out_BNTH = attend(q_BNTH, k_BKSH, v_BKSH, mask_B1TS)
        return self.o_proj(out_BNTH.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_XD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_XD)) * self.up_proj(x_XD))


class Block(nn.Module):
    def __init__(self, config: Qwen2Config, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x_BTD: Tensor, rope: Rope, mask_B1TS: Mask, kv_cache: Cache) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope, mask_B1TS, kv_cache)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Qwen2(nn.Module):
    """The decoder: `embed`, then `forward`, then the head of each position's kind.

    Weights are arbitrary until `init_weights`; `arm.models.backbone` loads and saves them.
    """

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = None
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.visual = None
        if config.num_codes:
            sizes = (config.hidden_size, config.num_codes, config.code_bits, config.max_side)
            self.visual = Visual(*sizes, share_bits=config.share_bits)

    def embed(
        self, ids_BT: Tensor, codes_BT: Tensor | None = None,
        rows_BT: Tensor | None = None, cols_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Input vectors (B, T, D) of a sequence that mixes text and codes.

        Where codes_BT is in [0, C) (not checked above), the position is that code in its grid row
        and column, both in [0, max_side), and its id is ignored. Where codes_BT is negative, it is
        the id in [0, V). Rows and columns are negative there; when max_side is 0, all are ignored.
        They may have one more token, the place of the code that is to follow the last (negative for
        none). Raises ValueError for codes without a visual part, or without rows and columns that it
        needs.
        """
        if codes_BT is None:
            return self.embed_tokens(ids_BT)
        visual = self._visual_part()
        code_BT = codes_BT >= 0
        T = codes_BT.shape[1]
        own = (
            None if at is None else at[:, :T].masked_fill(~code_BT, 0) for at in (rows_BT, cols_BT)
        )
        visual_BTD = visual.embed(codes_BT.clamp(min=0), *own)
        text_BTD = self.embed_tokens(ids_BT.masked_fill(code_BT, 0))
        x_BTD = torch.where(code_BT[..., None], visual_BTD, text_BTD)
        if not self.config.max_side or rows_BT is None or cols_BT is None:
            return x_BTD
        after = (F.pad(at, (0, 1), value=-1)[:, 1 : T + 1] for at in (rows_BT, cols_BT))
        return x_BTD + visual.embed_next(*after)

    def forward(
        self, x_BTD: Tensor, positions_BT: Tensor,
        mask_B1TS: Mask = None, kv_cache: Cache = None,
    ) -> Tensor:  # fmt: skip
        """Final hidden states (B, T, D), normed, of vectors x_BTD at positions >= 0.

        A tensor mask_B1TS is true where token t may attend to token s; every token needs at least one,
        and what the cache hides is not applied to it. `Documents` say the same of packed rows, without
        a cache. None is causal attention to all tokens, cached
        ones included, that the cache does not hide. kv_cache takes the new keys and values in.
        Raises ValueError for a mask of other than T by S tokens and for a full cache.
        """
        T = x_BTD.shape[1]
        S = T if kv_cache is None else kv_cache.length + T
        if isinstance(mask_B1TS, Tensor) and mask_B1TS.shape[-2:] != (T, S):
            raise ValueError(f"mask of {tuple(mask_B1TS.shape)} for {T} new of {S} tokens")
        if mask_B1TS is None and kv_cache is not None:
            mask_B1TS = kv_cache.mask(T)
        rope = rope_table(positions_BT, self.config.head_size, self.config.rope_theta)
        for block in self.layers:
            x_BTD = block(x_BTD, rope, mask_B1TS, kv_cache)
        if kv_cache is not None:
            kv_cache.advance(T)
        return self.norm(x_BTD)

    def text_logits(self, h_XD: Tensor) -> Tensor:
        """(..., V) next-text-token logits; call it on the positions that predict text."""
        if self.lm_head is None:
            return F.linear(h_XD, self.embed_tokens.weight)
        return self.lm_head(h_XD)

    def visual_logits(self, h_XD: Tensor) -> Tensor:
        """(..., C) next-code logits; call it on the positions that predict codes.

        Raises ValueError when the model has no visual part.
        """
        return self._visual_part().logits(h_XD)

    def _visual_part(self) -> Visual:
        if self.visual is None:
            raise ValueError("codes need a model with a visual part, but num_codes is 0")
        return self.visual

    @torch.no_grad()
    def init_weights(
        self, generator: torch.Generator | None = None, std: float = 0.02, prefix: str = ""
    ) -> None:
        """Normal weights, zero biases, unit norms, for the parameters whose names begin with prefix.

        Projections into the residual stream are scaled by 1 / sqrt(2 L), and the map of a code's
        bits by 1 / sqrt(bits), which gives the embedding of a code the std of a table's row. Values are
        drawn on the CPU, a parameter at a time, so they do not depend on how the model is shared out.
        """
        residual = ("o_proj.weight", "down_proj.weight")
        scales: dict[str, int] = {name: 2 * self.config.num_layers for name in residual}
        if self.config.share_bits:
            scales["code_embedding.weight"] = self.config.code_bits
        chosen = {name: p for name, p in self.named_parameters() if name.startswith(prefix)}
        for name, parameter in chosen.items():
            value = torch.zeros(parameter.shape, dtype=parameter.dtype)
            if name.endswith("norm.weight"):
                value.fill_(1.0)
            elif not name.endswith(".bias"):
                scale = scales.get(".".join(name.split(".")[-2:]), 1)
                value.normal_(0.0, std / scale**0.5, generator=generator)
            assign(parameter, value)
