"""What a run depends on: hashes of the tokenizer behind codes, manifests of code shards, sizes of initial weights."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.data.code_shards import MANIFEST, shards_digest
from arm.errors import ConfigError, WeightsError
from arm.files import read_json, write_json
from arm.model_directory import model_files
from arm.models.pretrained import locate
from arm.models.weights import add_file, weights_hash


def tokenizer_hash(tokenizer: Path, siglip: str) -> str:
    """SHA-256 of the weights that determine a picture's codes: the tokenizer's and its vision encoder's.

    Raises WeightsError where they are missing.
    """
    digest = hashlib.sha256()
    add_file(digest, tokenizer / "tokenizer.safetensors")
    digest.update(weights_hash(locate(siglip)).encode())
    return digest.hexdigest()


def tokenizer_of(shards: Path) -> str | None:
    """The hash of the tokenizer that encoded a folder of shards, by its manifest; None where there is none."""
    path = shards / MANIFEST
    return read_json(path).get("tokenizer") if path.is_file() else None


def shards_origin(folders: Sequence[Path]) -> dict[str, str]:
    """What a run on folders of code shards depends on: hashes of their content and, where their manifests state
    it, of the tokenizers that encoded them, by names for the checkpoints.
    """
    origin = {f"content of {path}": shards_digest(path) for path in folders}
    tokenizers = {f"tokenizer of {path}": tokenizer_of(path) for path in folders}
    return origin | {name: value for name, value in tokenizers.items() if value}


def check_parts(parts: str, conversations: Iterable[Path]) -> None:
    """Checks that folders of code shards were encoded by the tokenizer of the model `parts`, a shipped name or
    path, whose decoder would be given codes of another one otherwise. Raises ConfigError where they were not.
    """
    directory = model_files(parts).parts
    for path in conversations:
        encoded_by = tokenizer_of(path)
        if encoded_by and encoded_by != tokenizer_hash(directory, str(directory / "siglip")):
            raise ConfigError(
                f"{path} holds codes of another tokenizer than that of parts={parts}, which would decode "
                f"them; encode the data again with `arm encode ... --model {parts}`"
            )


def check_or_write_manifest(out: Path, manifest: Mapping[str, Any], instead: str) -> None:
    """Writes `manifest` into a folder of code shards. Where the folder holds shards already, first checks that
    they were made with the same settings, so that shards of different origin are never mixed.

    instead: what the user can do otherwise, for the message. Raises ConfigError where a setting differs, and
    for shards without a manifest.
    """
    path = out / MANIFEST
    if any(out.glob("shard_*.jsonl")):
        if not path.is_file():
            raise ConfigError(f"{out} holds shards but no {MANIFEST}; {instead}")
        existing = read_json(path)
        if not isinstance(existing, dict):
            raise ConfigError(f"{path} is damaged: it holds no JSON object; {instead}")
        for key, value in existing.items():
            if key in manifest and value != manifest[key]:
                raise ConfigError(
                    f"{path}: the shards there were made with {key} {value}, not {manifest[key]}; "
                    f"{instead}"
                )
    try:
        write_json(manifest, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error}); {instead}") from None


def check_sizes(
    source: Path,
    sizes: Mapping[str, Any],
    expected: Mapping[str, Any],
    key_of: Callable[[str], str],
    instead: str = "other weights",
) -> None:
    """Checks that the weights a run starts from have the sizes that the run states.

    sizes: those of the weights at `source`, by name; expected: the run's. key_of: maps a size's name to the
    run's configuration key. instead: what else the user may name. Raises WeightsError for the first difference.
    """
    for name, value in sizes.items():
        if value != expected[name]:
            key = key_of(name)
            raise WeightsError(
                f"{source} has {name} {value}, the run has {key}={expected[name]}; set {key}={value}, or "
                f"name {instead}"
            )
