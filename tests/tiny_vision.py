"""Vision checkpoints of the smallest size with random weights, in the layout of the published ones."""

from pathlib import Path
from typing import Any

import torch


def text_tokenizer(directory: Path) -> None:
    """A word-level tokenizer that knows no word: every text is the same few ids, enough for its path."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "red", "blue", "cow", "photo", "object"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", eos_token="[SEP]"
    ).save_pretrained(directory)


def swin(*stages: str) -> Any:
    from transformers import SwinConfig

    config: Any = SwinConfig  # its fields of a backbone are not in its signature
    return config(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1],
        window_size=4, out_features=list(stages),
    )  # fmt: skip


def mask2former(directory: Path, num_classes: int = 80) -> Path:
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
    )

    torch.manual_seed(0)
    names = {i: str(i) for i in range(num_classes)}
    config = Mask2FormerConfig(
        backbone_config=swin("stage1", "stage2", "stage3", "stage4"), feature_size=32,
        mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1,
        decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=5, id2label=names,
        label2id={name: i for i, name in names.items()},
    )  # fmt: skip
    Mask2FormerForUniversalSegmentation(config).save_pretrained(directory)
    size = {"shortest_edge": 64, "longest_edge": 128}
    Mask2FormerImageProcessorPil(size=size, size_divisor=32).save_pretrained(directory)
    return directory


def owlv2(directory: Path) -> Path:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    torch.manual_seed(0)
    small = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2
    }  # fmt: skip
    config = Owlv2Config(
        text_config={**small, "vocab_size": 16, "max_position_embeddings": 16, "bos_token_id": 2,
                     "eos_token_id": 3, "pad_token_id": 0},
        vision_config={**small, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )  # fmt: skip
    Owlv2ForObjectDetection(config).save_pretrained(directory)
    Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(directory)
    text_tokenizer(directory)
    return directory


def grounding_dino(directory: Path) -> Path:
    from transformers import (
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
    )

    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=swin("stage2", "stage3", "stage4"),
        text_config={"model_type": "bert", "vocab_size": 16, "hidden_size": 16,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
                     "max_position_embeddings": 64},
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6,
        max_text_len=64,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(directory)
    # A smaller picture leaves a normalised group one value.
    size = {"shortest_edge": 128, "longest_edge": 256}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(directory)
    text_tokenizer(directory)
    return directory


def clip(directory: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    small = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2
    }  # fmt: skip
    config = CLIPConfig(
        text_config={**small, "vocab_size": 16, "max_position_embeddings": 16, "bos_token_id": 2,
                     "eos_token_id": 3, "pad_token_id": 0},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(directory)
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(
        directory
    )
    text_tokenizer(directory)
    return directory


def extractor(directory: Path) -> Path:
    """A ViT for FID features of 8 dimensions."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    ViTModel(config).save_pretrained(directory)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory
