"""`ArmConfig`: every size of the model and of its id space, as Hugging Face's config.json."""

from typing import ClassVar

from transformers import PreTrainedConfig

from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.vocab import Vocab

OURS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "rope_theta": "rope_theta",
    "rms_norm_eps": "rms_norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "num_codes": "num_codes",
    "code_bits": "code_bits",
    "share_bits": "share_bits",
}
"""Hugging Face's name of a field and the backbone's, where the meaning is the same."""


class ArmConfig(PreTrainedConfig):
    """Sizes of an `ArmForCausalLM`; the defaults are `micro`'s. See `Qwen2Config` and `Vocab`.

    `vocab_size` counts the whole id space, text table and codes; it and the special ids follow from
    the sizes and are written for readers of the file. Raises ValueError where a field contradicts
    the others.
    """

    model_type = "arm"
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
        vocab = self.vocab
        follows = {
            "vocab_size": vocab.size,
            "pad_token_id": vocab.pad,
            "user_token_id": vocab.user,
            "assistant_token_id": vocab.assistant,
            "image_token_id": vocab.image,
            "image_end_token_id": vocab.image_end,
        }
        for name, value in follows.items():
            given = getattr(self, name)
            if given not in (None, value):
                raise ValueError(f"{name} is {given}, but the other sizes make it {value}")
            setattr(self, name, value)
        if self.eos_token_id is None:
            self.eos_token_id = vocab.end
        self.backbone()
        super().__post_init__(**kwargs)

    @property
    def vocab(self) -> Vocab:
        return Vocab(self.text_size, self.num_codes, self.max_side, self.image_stride)

    def backbone(self) -> Qwen2Config:
        """The backbone's sizes. Raises ValueError where they do not fit together."""
        fields = {ours: getattr(self, theirs) for theirs, ours in OURS.items()}
        max_side = self.max_side if self.grid_positions else 0
        return Qwen2Config(vocab_size=self.vocab.first_code, max_side=max_side, **fields)

    @classmethod
    def of(cls, model: Qwen2, vocab: Vocab) -> "ArmConfig":
        """The configuration of a backbone and its id space. Raises ValueError where they differ."""
        own = model.config
        if own.vocab_size != vocab.first_code or own.num_codes != vocab.num_codes:
            raise ValueError(f"the backbone {own} does not have the ids of {vocab}")
        return cls(
            text_size=vocab.text_size,
            max_side=vocab.max_side,
            image_stride=vocab.image_stride,
            grid_positions=own.max_side > 0,
            **{theirs: getattr(own, ours) for theirs, ours in OURS.items()},
        )
