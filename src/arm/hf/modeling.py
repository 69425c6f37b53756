"""`ArmForCausalLM`: the backbone as transformers knows models, for `generate`, `Trainer`, PEFT, ...

Shape suffixes: B batch, T new tokens, S cached and new tokens, D width, V text table, C codes.
"""

from dataclasses import fields
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, LogitsProcessorList, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from arm.errors import WeightsError
from arm.hf.caching import CacheAdapter, causal_mask, remember
from arm.hf.configuration import ArmConfig
from arm.hf.grammar import PictureGrammar
from arm.hf.reading import read_ids
from arm.models.qwen2 import Qwen2

# transformers 5.17 calls the cache of an output past_key_values, 5.24 calls it cache.
CACHE_FIELD = (
    {"cache", "past_key_values"} & {f.name for f in fields(CausalLMOutputWithPast)}
).pop()


class ArmForCausalLM(PreTrainedModel, GenerationMixin):
    """Text and codes in one id space, (B, T) ids -> (B, T, V + C) logits.

    Where the next token is a code (the ids so far say so), the logits of the text table are -inf,
    and those of the codes everywhere else: the two heads were trained as two softmaxes.
    """

    config_class = ArmConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _no_split_modules = ["Block"]  # noqa: RUF012 - transformers' own form
    _supports_sdpa = True

    def __init__(self, config: ArmConfig) -> None:
        super().__init__(config)
        self.backbone = Qwen2(config.backbone())
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
        vocab, model, T = self.config.vocab, self.backbone, input_ids.shape[1]

        ids_BT = input_ids.masked_fill(input_ids == vocab.pad, -1)
        if attention_mask is not None:
            ids_BT = ids_BT.masked_fill(attention_mask[:, -T:] == 0, -1)
        ids_BS = ids_BT if cache is None else remember(cache, ids_BT, model.config.num_layers)
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
        found: dict[str, Any] = {"loss": loss, "logits": logits, CACHE_FIELD: cache}
        return CausalLMOutputWithPast(**found)

    def _logits(self, h_BTD: Tensor, code_BT: Tensor) -> Tensor:
        """(B, T, V + C); code_BT: whether a position predicts a code."""
        table = self.config.vocab.first_code
        shape = (*code_BT.shape, self.config.vocab.size)
        logits = h_BTD.new_full(shape, -torch.inf)
        logits[~code_BT, :table] = self.backbone.text_logits(h_BTD[~code_BT]).to(logits)
        if self.config.num_codes:
            logits[code_BT, table:] = self.backbone.visual_logits(h_BTD[code_BT]).to(logits)
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
        """The mask as it is: `forward` makes its own of it, for static caches too."""
        return attention_mask

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, source: Any, *args: Any, output_loading_info: bool = False, **options: Any
    ) -> Any:
        """As transformers', but weights that are damaged or do not fit raise WeightsError."""
        try:
            loaded = super().from_pretrained(source, *args, output_loading_info=True, **options)
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise WeightsError(f"{source} cannot be loaded: {reason}") from None
        model, info = cast(tuple["ArmForCausalLM", dict[str, Any]], loaded)
        for kind in ("missing_keys", "unexpected_keys"):
            if found := sorted(info[kind]):
                what = "lack" if kind == "missing_keys" else "hold, unlike the model,"
                raise WeightsError(
                    f"{source}: the weights {what} {len(found)} tensors, as {found[0]}"
                )
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.embed_tokens

    def get_output_embeddings(self) -> nn.Module | None:
        return self.backbone.lm_head

    def resize_token_embeddings(self, *_: Any, **__: Any) -> Any:
        raise ValueError(
            "the codes' ids follow the text table, so it cannot grow: retrain its rows"
        )
