"""Model directories as the release before wrote them, made from today's by hand."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

NETWORK = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rope_theta", "rms_norm_eps", "tie_word_embeddings", "dtype",
)  # fmt: skip
SPACE = (
    "text_size", "num_codes", "max_side", "image_stride", "code_bits", "grid_positions", "share_bits",
)  # fmt: skip
PARTS = (
    "siglip", "vae", "tokenizer.safetensors", "visual_tokenizer.json", "detokenizer_flux",
    "detokenizer_sana",
)  # fmt: skip


def old_backbone(source: Path, out: Path) -> None:
    """A Qwen2 with visual.safetensors and vocab.json beside it."""
    out.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    tensors = {
        n.removeprefix("model."): t for n, t in load_file(source / "model.safetensors").items()
    }
    visual = {n.removeprefix("visual."): t for n, t in tensors.items() if n.startswith("visual.")}
    text = {
        n if n == "lm_head.weight" else f"model.{n}": t
        for n, t in tensors.items()
        if not n.startswith("visual.")
    }
    save_file(text, out / "model.safetensors", {"format": "pt"})
    save_file(visual, out / "visual.safetensors", {"format": "pt"})
    rows = len(text["model.embed_tokens.weight"])
    network = {name: config[name] for name in NETWORK}
    network |= {"model_type": "qwen2", "vocab_size": rows, "hidden_act": "silu"}
    (out / "config.json").write_text(json.dumps(network))
    (out / "vocab.json").write_text(json.dumps({name: config[name] for name in SPACE}))


def old_model(source: Path, out: Path, parts: str = "") -> Path:
    """A model whose backbone is in `backbone/`; with `parts` the rest is that of another model."""
    old_backbone(source, out / "backbone")
    settings = json.loads((source / "arm.json").read_text())
    (out / "arm.json").write_text(json.dumps({**settings, "parts": parts}))
    for name in () if parts else PARTS:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, out / name)
    return out


def old_export(source: Path, out: Path) -> Path:
    """What `arm export hf` wrote: the backbone under other names, the rest in `parts/`."""
    out.mkdir(parents=True)
    tensors = load_file(source / "model.safetensors")
    renamed = {f"backbone.{name.removeprefix('model.')}": t for name, t in tensors.items()}
    save_file(renamed, out / "model.safetensors", {"format": "pt"})
    for name in (
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "processor_config.json",
    ):  # fmt: skip
        shutil.copyfile(source / name, out / name)
    (out / "parts").mkdir()
    for name in (*PARTS, "arm.json"):
        copy = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, out / "parts" / name)
    settings = json.loads((out / "parts/arm.json").read_text())
    (out / "parts/arm.json").write_text(json.dumps({**settings, "parts": ""}))
    return out
