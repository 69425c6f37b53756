"""The published models at full size, on the meta device: parameters counted to the last one.

Configurations as their config.json on the hub has them. Counts: Qwen2.5, SigLIP2 and the VAE of
FLUX.1 as the hub's safetensors headers sum up, FLUX.1-dev and DC-AE likewise. Nobody publishes the
exact count of SANA-1.5 1.6B's transformer, so only its billions are compared.
"""

from typing import Any

import pytest
import torch
from torch import nn

from arm.models.latent import FluxPainter, SanaPainter, latent_shape
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.models.tokenizer import vision_encoder

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
TEXT = {**SO400M, "vocab_size": 256_000, "projection_size": 1152}
QWEN = {
    # hidden, intermediate, layers, heads, key/value heads, vocabulary, tied, parameters
    "0.5B": (896, 4864, 24, 14, 2, 151_936, True, 494_032_768),
    "1.5B": (1536, 8960, 28, 12, 2, 151_936, True, 1_543_714_304),
    "7B": (3584, 18944, 28, 28, 4, 152_064, False, 7_615_616_512),
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(autouse=True)
def _meta():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", QWEN)
def test_qwen(name: str):
    from transformers import Qwen2Config as HFConfig
    from transformers import Qwen2ForCausalLM

    hidden, mlp, layers, heads, kv_heads, vocab, tied, parameters = QWEN[name]
    ours = Qwen2(
        Qwen2Config(
            vocab_size=vocab, num_codes=0, code_bits=0, hidden_size=hidden, intermediate_size=mlp,
            num_layers=layers, num_heads=heads, num_kv_heads=kv_heads, tie_embeddings=tied,
        )
    )  # fmt: skip
    theirs = Qwen2ForCausalLM(
        HFConfig(
            vocab_size=vocab, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
        )
    )  # fmt: skip
    assert count(ours) == count(theirs) == parameters
    shapes = {k.removeprefix("model."): v.shape for k, v in theirs.named_parameters()}
    assert {k: v.shape for k, v in ours.named_parameters()} == shapes


def test_siglip2_so400m():
    from transformers import Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel

    vision = {**SO400M, "patch_size": 16, "image_size": 512}
    fixed = SiglipModel(SiglipConfig(vision_config=vision, text_config=TEXT))
    assert count(fixed) == 1_136_555_698
    # with a position table of 16 x 16 in place of 32 x 32: siglip2-so400m-patch16-256, and NaFlex
    naflex = Siglip2Config(
        vision_config={**SO400M, "patch_size": 16, "num_patches": 256}, text_config=TEXT
    )
    flexible = Siglip2Model(naflex)
    assert count(flexible) == 1_135_670_962
    assert count(fixed) - count(flexible) == (32 * 32 - 16 * 16) * 1152
    for model in (fixed, flexible):
        encoder = vision_encoder(model.vision_model)
        assert (encoder.patch, encoder.width) == (16, 1152)


def test_flux_dev():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(guidance_embeds=True)  # its defaults are FLUX.1's
    assert count(transformer) == 11_901_408_320
    painter = FluxPainter(transformer, 1152)
    # what is new: z_q -> 4096 (in T5's place) and -> 768 (in CLIP's)
    assert count(painter) - count(transformer) == 1153 * (4096 + 768)
    kind: Any = AutoencoderKL
    vae = kind(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611,
        shift_factor=0.1159,
    )  # fmt: skip
    assert count(vae) == 83_819_683
    # 512 px: 64 x 64 latents, packed 2 x 2, so that a code of 16 px and its latents are one place
    assert latent_shape(vae, 512, 512) == (16, 64, 64)
    images = torch.empty(1, 16, 4, 6)
    velocity = painter(images, torch.empty(1), torch.empty(1, 6, 1152), (2, 3))
    assert velocity.shape == images.shape


def test_sana_1_5():
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
    from diffusers.models.transformers.sana_transformer import SanaTransformer2DModel

    # SANA 1.0's sizes, which are the defaults, with normed queries and keys
    transformer = SanaTransformer2DModel(qk_norm="rms_norm_across_heads")
    assert round(count(transformer) / 1e9, 1) == 1.6
    per_layer = 4 * 2240  # queries and keys of self-attention and of cross-attention
    assert count(transformer) - count(SanaTransformer2DModel()) == 20 * per_layer
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    kind: Any = AutoencoderDC
    vae = kind(
        encoder_block_types=blocks, decoder_block_types=blocks, downsample_block_type="Conv",
        upsample_block_type="interpolate", scaling_factor=0.41407,
    )  # fmt: skip
    assert count(vae) == 312_250_275
    # 512 px: 32 x 32 codes paint 16 x 16 latents
    assert latent_shape(vae, 512, 512) == (32, 16, 16)
    painter = SanaPainter(transformer, 1152)
    latents = torch.empty(1, 32, 2, 3)
    assert painter(latents, torch.empty(1), torch.empty(1, 24, 1152), (4, 6)).shape == latents.shape
