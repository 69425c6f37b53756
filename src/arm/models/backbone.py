"""A backbone on disk: a Hugging Face Qwen2 directory, its visual part, and its id space."""

from pathlib import Path

from arm.errors import WeightsError
from arm.models.qwen2 import Qwen2
from arm.models.qwen2_files import from_hf, to_hf
from arm.models.weights import read_json, write_json
from arm.vocab import Vocab


def save_backbone(model: Qwen2, vocab: Vocab, directory: Path) -> None:
    to_hf(model, directory)
    settings = {
        "text_size": vocab.text_size,
        "num_codes": vocab.num_codes,
        "max_side": vocab.max_side,
        "image_stride": vocab.image_stride,
        "code_bits": model.config.code_bits,
        "grid_positions": model.config.max_side > 0,
    }
    write_json(settings, directory / "vocab.json")


def load_backbone(directory: Path) -> tuple[Qwen2, Vocab]:
    """What `save_backbone` wrote, in fp32 and ready to run. Raises WeightsError."""
    path = directory / "vocab.json"
    data = read_json(path)
    try:
        sizes = (data["text_size"], data["num_codes"], data["max_side"])
        vocab = Vocab(*sizes, image_stride=data["image_stride"])
        code_bits, placed = data["code_bits"], data["grid_positions"]
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path} is not a model's id space: {error!r}") from None
    visual = directory / "visual.safetensors"
    if not visual.is_file():
        raise WeightsError(f"weights are missing: {visual} does not exist")
    max_side = vocab.max_side if placed else 0
    model = from_hf(directory, vocab.num_codes, code_bits, max_side=max_side)
    return model.float().eval(), vocab
