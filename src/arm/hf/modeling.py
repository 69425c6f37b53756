"""`ArmConfig` and `ArmForCausalLM`: the backbone as transformers knows models, for `generate`, PEFT, ...

What a token means (its cell in a picture, its position) depends on the ids before it. The cache of transformers
therefore stores the ids too, as one more layer after the backbone's, so that everything that is done to a
cache (reorder for beams, repeat, select, crop) is done to the ids.

Shape suffixes: B batch, T new tokens, S cached and new tokens, D width, V text table, C codes, K key/value
heads, H head dimension.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from arm.errors import WeightsError
from arm.hf.grammar import PictureGrammar, read_ids
from arm.models.backbone import OLD_PREFIX, PREFIX
from arm.models.backbone_config import MODEL_TYPE, QWEN2_KEYS, VISUAL_KEYS, special_ids, to_config
from arm.models.kv_cache import KVCache
from arm.models.pretrained import first_line, read_config
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.vocab import Vocab

# transformers 5.17 calls the cache of an output past_key_values, 5.24 calls it cache.
CACHE_FIELD = (
    {"cache", "past_key_values"} & {f.name for f in fields(CausalLMOutputWithPast)}
).pop()


class ArmConfig(PreTrainedConfig):
    """Sizes of an `ArmForCausalLM`; the defaults are `micro`'s. See `Qwen2Config` and `Vocab`.

    `vocab_size` counts the whole id space, text table and codes; it and the special ids follow from
    the sizes and are written for readers of the file. Raises ValueError where a field contradicts
    the others.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]

    text_size: int = 180
    num_codes: int = 4096
    code_bits: int = 12
    max_side: int = 12
    image_stride: int = 128
    grid_positions: bool = True
    share_bits: bool = True
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_key_value_heads: int = 6
    head_dim: int | None = None
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    use_cache: bool = True
    vocab_size: int | None = None
    pad_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    user_token_id: int | None = None
    assistant_token_id: int | None = None
    image_token_id: int | None = None
    image_end_token_id: int | None = None

    def __post_init__(self, **kwargs: object) -> None:
        for name, value in special_ids(self.vocab).items():
            given = getattr(self, name)
            if given not in (None, value):
                raise ValueError(f"{name} is {given}, but the other sizes make it {value}")
            setattr(self, name, value)
        if self.eos_token_id is None:
            self.eos_token_id = self.vocab.end
        self.backbone()
        super().__post_init__(**kwargs)

    @property
    def vocab(self) -> Vocab:
        return Vocab(self.text_size, self.num_codes, self.max_side, self.image_stride)

    def backbone(self) -> Qwen2Config:
        """The backbone's sizes. Raises ValueError where they do not fit together."""
        values = {ours: getattr(self, theirs) for ours, theirs in QWEN2_KEYS.items()}
        values |= {name: getattr(self, name) for name in VISUAL_KEYS}
        max_side = self.max_side if self.grid_positions else 0
        return Qwen2Config(vocab_size=self.vocab.first_code, max_side=max_side, **values)

    @classmethod
    def from_backbone(cls, model: Qwen2, vocab: Vocab) -> "ArmConfig":
        """The configuration of a backbone and its id space. Raises ValueError where they differ."""
        return cls(**to_config(model.config, vocab))


class ArmForCausalLM(PreTrainedModel, GenerationMixin):
    """Text and codes in one id space, (B, T) ids -> (B, T, V + C) logits.

    Where the next token is a code (the ids so far say so), the logits of the text table are -inf,
    and those of the codes everywhere else: the two heads were trained as two softmaxes.
    """

    config_class = ArmConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ["Block"]  # noqa: RUF012 - transformers' own form
    _supports_sdpa = True

    def __init__(self, config: ArmConfig) -> None:
        super().__init__(config)
        self.model = Qwen2(config.backbone())
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        inputs_embeds: None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss of `labels` (input_ids' shape, shifted here, -100 ignored).

        attention_mask: (B, S), 0 for padding, on whichever side; <pad> is left out without it too.
        cache, or past_key_values as older transformers call it: what an earlier call returned;
        input_ids are then the new tokens alone. logits_to_keep: the last so many positions (0: all)
        or the indices wanted. The last three are there for PEFT, which names them: nothing else than
        None (or False) is taken. Raises ValueError for that, and for ids that break a picture
        (`read_ids`).
        """
        if inputs_embeds is not None or output_attentions or output_hidden_states:
            raise ValueError(
                "ids are read for their pictures: inputs_embeds, output_attentions and "
                "output_hidden_states cannot be given"
            )
        cache = cache if cache is not None else past_key_values
        if cache is None and (
            self.config.use_cache and not self.training if use_cache is None else use_cache
        ):
            cache = DynamicCache(config=self.config)
        vocab, model, T = self.config.vocab, self.model, input_ids.shape[1]

        ids_BT = input_ids.masked_fill(input_ids == vocab.pad, -1)
        if attention_mask is not None:
            ids_BT = ids_BT.masked_fill(attention_mask[:, -T:] == 0, -1)
        ids_BS = ids_BT if cache is None else cache_ids(cache, ids_BT, model.config.num_layers)
        reading = read_ids(ids_BS, vocab)
        x_BTD = model.embed(
            ids_BT.masked_fill(ids_BT < 0, vocab.pad),
            reading.codes[:, -T:] if vocab.num_codes else None,
            reading.rows[:, -T - 1 :],
            reading.cols[:, -T - 1 :],
        )
        h_BTD = model(
            x_BTD,
            reading.positions[:, -T:],
            causal_mask(ids_BS >= 0, T),
            None if cache is None else CacheAdapter(cache),
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self._logits(h_BTD[:, keep], reading.rows[:, -T:][:, keep] >= 0)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab.size)
        output: dict[str, Any] = {"loss": loss, "logits": logits, CACHE_FIELD: cache}
        return CausalLMOutputWithPast(**output)

    def _logits(self, h_BTD: Tensor, code_BT: Tensor) -> Tensor:
        """(B, T, V + C); code_BT: whether a position predicts a code."""
        table = self.config.vocab.first_code
        shape = (*code_BT.shape, self.config.vocab.size)
        logits = h_BTD.new_full(shape, -torch.inf)
        logits[~code_BT, :table] = self.model.text_logits(h_BTD[~code_BT]).to(logits)
        if self.config.num_codes:
            logits[code_BT, table:] = self.model.visual_logits(h_BTD[code_BT]).to(logits)
        return logits

    @torch.no_grad()
    def generate(  # pyright: ignore[reportIncompatibleMethodOverride] - the rest goes by keyword
        self,
        inputs: Tensor | None = None,
        generation_config: Any = None,
        logits_processor: LogitsProcessorList | None = None,
        **options: Any,
    ) -> Any:
        """transformers' `generate`, which cannot leave the grammar of pictures (`PictureGrammar`).

        To answer in words alone: suppress_tokens=[model.config.image_token_id]. For guidance:
        guidance_scale, with the prompt without its text as negative_prompt_ids.
        """
        rules = LogitsProcessorList([*(logits_processor or []), PictureGrammar(self.config.vocab)])
        parent: Any = super()  # typed by a protocol that no model fulfils
        return parent.generate(inputs, generation_config, logits_processor=rules, **options)

    def create_masks_for_generate(self, attention_mask: Tensor | None, **_: Any) -> Tensor | None:
        """The mask unchanged: `forward` builds its own from it, for static caches too."""
        return attention_mask

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, source: Any, *args: Any, output_loading_info: bool = False, **options: Any
    ) -> Any:
        """As transformers', from safetensors alone. Raises WeightsError for weights that are damaged, do not
        fit or are in a pickle that config.json names.
        """
        if source is not None and (Path(source) / "config.json").is_file():
            read_config(Path(source))
            if (Path(source) / "parts").is_dir():  # exported by an earlier release
                options.setdefault("key_mapping", {f"^{OLD_PREFIX}": PREFIX})
        options = {"use_safetensors": True, "output_loading_info": True, **options}
        try:
            loaded = super().from_pretrained(source, *args, **options)
        except (SafetensorError, RuntimeError) as error:
            raise WeightsError(f"{source} cannot be loaded: {first_line(error)}") from None
        model, info = cast(tuple["ArmForCausalLM", dict[str, Any]], loaded)
        for kind in ("missing_keys", "unexpected_keys"):
            if names := sorted(info[kind]):
                verb = "lack" if kind == "missing_keys" else "hold, unlike the model,"
                raise WeightsError(
                    f"{source}: the weights {verb} {len(names)} tensors, as {names[0]}"
                )
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module | None:
        return self.model.lm_head

    def resize_token_embeddings(self, *_: Any, **__: Any) -> Any:
        raise ValueError(
            "the codes' ids follow the text table, so it cannot grow: retrain its rows"
        )


class CacheAdapter(KVCache):
    """A transformers cache as our `KVCache`, for one forward pass whose mask the caller gives."""

    def __init__(self, cache: Cache) -> None:
        self.cache, self.length = cache, int(cache.get_seq_length())

    def append(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + k_BKTH.shape[2]
        k_BKSH, v_BKSH = self.cache.update(k_BKTH, v_BKTH, layer)
        return k_BKSH[:, :, :end], v_BKSH[:, :, :end]  # a static cache has unused space at the end

    def advance(self, n: int) -> None:
        self.length += n

    def mask(self, new_tokens: int) -> None:
        return None


def cache_ids(cache: Cache, ids_BT: Tensor, num_layers: int) -> Tensor:
    """Appends the ids of new tokens (negative: masked) to those in the cache; returns all, (B, S).

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
    """Which tokens the last `new_tokens` tokens attend to: themselves, and causally all real ones.

    real_BS: False for padding. Returns bool (B, 1, T, S), or None where plain causal (for one token: full)
    attention is the same. Three tokens, the first one padding, T = 2:

        real  0 1 1        1  . 1 .
                           1  . 1 1
    """
    tokens = real_BS.shape[1]
    if new_tokens in (1, tokens) and bool(real_BS.all()):
        return None
    key_S = torch.arange(tokens, device=real_BS.device)
    query_T1 = key_S[tokens - new_tokens :, None]
    return ((key_S <= query_T1) & real_BS[:, None, None, :]) | (key_S == query_T1)
