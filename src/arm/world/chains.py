"""Code shards: pictures are encoded once and training reads codes (see `world/encode.py`).

A shard is two files. `shard_00000.safetensors` holds one flat uint16 tensor `codes`;
`shard_00000.jsonl` holds one chain a line: its grid, its scenes (each a picture that was encoded),
and the edits that lead from one to the next. The codes of picture k of a chain start at
`offset + k * height * width`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from arm.data.code_shards import CONTENT, content_hash
from arm.errors import DataError
from arm.files import atomic_write, disk_errors, write_text
from arm.world.edits import Edit
from arm.world.scene import Scene


@dataclass(frozen=True, eq=False)
class Chain:
    """K pictures of one world, each an edit of the one before: K scenes, K codes, K - 1 edits."""

    scenes: tuple[Scene, ...]
    edits: tuple[Edit, ...]
    codes: NDArray[np.uint16]
    """(K, height, width)"""

    @property
    def grid(self) -> tuple[int, int]:
        return self.codes.shape[1], self.codes.shape[2]


def _line(chain: Chain, offset: int) -> str:
    edits = [
        {k: v for k, v in asdict(e).items() if k not in ("source", "target")} for e in chain.edits
    ]
    scenes = [scene.to_dict() for scene in chain.scenes]
    return json.dumps({"grid": chain.grid, "offset": offset, "scenes": scenes, "edits": edits})


def write_shard(directory: Path, index: int, chains: Sequence[Chain]) -> Path:
    """Writes shard `index`; the JSON lines last, so that a shard with both files is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / f"shard_{index:05d}"
    offsets = np.cumsum([0, *(chain.codes.size for chain in chains)])
    if max(int(chain.codes.max()) for chain in chains) > np.iinfo(np.uint16).max:
        raise DataError("code shards hold 16-bit codes; this tokenizer has more than 65,536")
    flat = np.concatenate([chain.codes.ravel() for chain in chains]).astype(np.uint16)
    file = stem.with_suffix(".safetensors")
    lines = [_line(c, int(o)) + "\n" for c, o in zip(chains, offsets[:-1], strict=True)]
    with atomic_write(file) as temporary, disk_errors(file):
        save_file({"codes": flat}, temporary, {CONTENT: content_hash(lines, flat)})
    write_text("".join(lines), stem.with_suffix(".jsonl"))
    return stem.with_suffix(".jsonl")


def _chain(line: dict[str, Any], flat: NDArray[np.uint16]) -> Chain:
    scenes = tuple(Scene.from_dict(s) for s in line["scenes"])
    edits = tuple(
        Edit(
            kind=e["kind"],
            instruction=e["instruction"],
            source=scenes[i],
            target=scenes[i + 1],
            changed=tuple(e["changed"]),
            place=e["place"],
        )
        for i, e in enumerate(line["edits"])
    )
    height, width = line["grid"]
    end = line["offset"] + len(scenes) * height * width
    if line["offset"] < 0 or end > flat.size:
        raise DataError("its codes are not all in the file")
    codes = flat[line["offset"] : end].reshape(len(scenes), height, width)
    return Chain(scenes, edits, codes)


def read_shards(directory: Path) -> Iterator[Chain]:
    """Every chain of a directory in order. Raises DataError that names a missing or damaged shard."""
    paths = sorted(directory.glob("shard_*.jsonl"))
    if not paths:
        raise DataError(
            f"{directory} holds no code shards (shard_*.jsonl); make them with `arm train encode:...`"
        )
    for path in paths:
        try:
            flat = load_file(path.with_suffix(".safetensors"))["codes"]
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    yield _chain(json.loads(line), flat)
                except (ValueError, LookupError, TypeError, DataError) as error:
                    raise DataError(f"{path}:{number}: not a chain ({error})") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: damaged ({error})") from None
        except (FileNotFoundError, SafetensorError, KeyError) as error:
            raise DataError(
                f"{path.with_suffix('.safetensors')}: damaged or missing ({error})"
            ) from None
