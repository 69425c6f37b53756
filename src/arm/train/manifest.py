"""What shards of codes were made from, in `manifest.json` beside them: others are never mixed with them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arm.data.code_shards import MANIFEST
from arm.errors import ConfigError
from arm.models.pretrained_files import locate
from arm.models.weights import add_file, read_json, weights_hash, write_json


def tokenizer_hash(tokenizer: Path, siglip: str) -> str:
    """Of the weights that make a picture's codes: those of the tokenizer's directory and of its encoder.

    Raises WeightsError where they are missing.
    """
    digest = hashlib.sha256()
    add_file(digest, tokenizer / "tokenizer.safetensors")
    digest.update(weights_hash(locate(siglip)).encode())
    return digest.hexdigest()


def tokenizer_of(shards: Path) -> str | None:
    """The hash of the tokenizer that made the shards in a folder; None where no manifest says so."""
    path = shards / MANIFEST
    return read_json(path).get("tokenizer") if path.is_file() else None


def check_or_write_manifest(out: Path, manifest: Mapping[str, Any], instead: str) -> None:
    """Writes what the shards in `out` are made from, or checks that it is what made those that are there.

    instead: what a user can do about other ones. Raises ConfigError where there are such, or shards that
    nothing is known of.
    """
    path = out / MANIFEST
    if any(out.glob("shard_*.jsonl")):
        if not path.is_file():
            raise ConfigError(f"{out} holds shards but no {MANIFEST}; {instead}")
        found = read_json(path)
        if not isinstance(found, dict):
            raise ConfigError(f"{path} is damaged: it holds no JSON object; {instead}")
        for key, value in found.items():
            if key in manifest and value != manifest[key]:
                raise ConfigError(
                    f"{path}: the shards there were made with {key} {value}, not {manifest[key]}; "
                    f"{instead}"
                )
    try:
        write_json(manifest, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error}); {instead}") from None
