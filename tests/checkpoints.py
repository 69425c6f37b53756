"""Tiny random checkpoints, written by transformers and diffusers in the layout of the published ones."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

WIDTH, PATCH = 16, 4
SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _text(vocab_size: int) -> dict[str, Any]:
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    return {**SHAPE, "vocab_size": vocab_size, "projection_size": WIDTH, **ids}


def _alive(model: Any) -> Any:
    """Nonzero biases and scales, so that a part that is left out shows."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() < 2:
                p.add_(torch.randn_like(p) * 0.1)
    return model


def fixed_size_towers(image_size: int = 16) -> Any:
    """SiglipModel: the class of the fixed-size SigLIP2 checkpoints."""
    torch.manual_seed(0)
    vision = {**SHAPE, "patch_size": PATCH, "image_size": image_size}
    config = SiglipConfig(vision_config=vision, text_config=_text(32))
    return _alive(SiglipModel(config)).eval()


def naflex_towers(num_patches: int = 16) -> Any:
    """Siglip2Model: the class of the NaFlex checkpoints."""
    torch.manual_seed(1)
    vision = {**SHAPE, "patch_size": PATCH, "num_patches": num_patches}
    config = Siglip2Config(vision_config=vision, text_config=_text(32))
    return _alive(Siglip2Model(config)).eval()


def caption_lm() -> Any:
    torch.manual_seed(2)
    config = Qwen2Config(
        vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def gemma_like() -> Any:
    """As SigLIP2's: pad 0, eos 1 at the end of every text, letters of both cases."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *LETTERS, "▁"]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", model_max_length=64,
    )  # fmt: skip


def qwen_like() -> Any:
    """As Qwen2.5's base models: byte-level, one special token, no bos; here without a pad token."""
    signs = [*LETTERS, *LETTERS.upper(), "Ġ"]
    vocabulary = {"<|endoftext|>": 0, **{sign: i for i, sign in enumerate(signs, 1)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def flux_vae() -> Any:
    """AutoencoderKL as in FLUX.1 (factor 8, 16 channels, scale and shift), at a factor of 4."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(3)
    kind: Any = AutoencoderKL
    return kind(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611,
        shift_factor=0.1159,
    ).eval()  # fmt: skip


def dc_ae() -> Any:
    """AutoencoderDC as in SANA (factor 32, 32 channels, a scale and no shift), at a factor of 8."""
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

    torch.manual_seed(4)
    kinds = ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock")
    kind: Any = AutoencoderDC
    return kind(
        latent_channels=8, attention_head_dim=4, encoder_block_types=kinds,
        decoder_block_types=kinds, encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1), encoder_qkv_multiscales=((), (), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (5,), (5,)), downsample_block_type="Conv",
        upsample_block_type="interpolate", scaling_factor=0.41407,
    ).eval()  # fmt: skip


def flux(channels: int = 4) -> Any:
    """FluxTransformer2DModel as FLUX.1-dev: with the embedding of distilled guidance."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    torch.manual_seed(5)
    return FluxTransformer2DModel(
        in_channels=4 * channels, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=20, pooled_projection_dim=12,
        guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


def sana(channels: int = 8, **changes: Any) -> Any:
    """SanaTransformer2DModel as SANA-1.5: patch 1, normed queries and keys, no position table."""
    from diffusers.models.transformers.sana_transformer import SanaTransformer2DModel

    torch.manual_seed(6)
    return SanaTransformer2DModel(
        in_channels=channels, out_channels=channels, num_attention_heads=2, attention_head_dim=8,
        num_layers=2, num_cross_attention_heads=2, cross_attention_head_dim=8,
        cross_attention_dim=16, caption_channels=20, sample_size=4, patch_size=1,
        qk_norm="rms_norm_across_heads", **changes,
    )  # fmt: skip


def save(directory: Path, *parts: Any) -> str:
    """Writes the parts into one directory and names it."""
    for part in parts:
        part.save_pretrained(directory)
    return str(directory)
