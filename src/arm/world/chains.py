"""Chains of pictures, each an edit of the one before: their code shards, and the stage that makes them.

Pictures are encoded once (`EncodeRun`, stage 2) and training reads codes. A shard is two files.
`shard_00000.safetensors` holds one flat uint16 tensor `codes`; `shard_00000.jsonl` holds one chain a line: its
grid, its scenes (each a picture that was encoded), and the edits that lead from one to the next. The codes of
picture k of a chain start at `offset + k * height * width`.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from arm.config import to_json
from arm.data.code_shards import CONTENT, content_hash, shard_path
from arm.data.images import GridWeight, pick_grid, to_float
from arm.errors import ConfigError, DataError
from arm.files import atomic_write, disk_errors, write_text
from arm.models.pretrained import Pretrained, load_siglip
from arm.models.tokenizer import VisualTokenizer
from arm.train.provenance import check_or_write_manifest, tokenizer_hash
from arm.train.training import training_device
from arm.world.edits import Edit, sample_edit
from arm.world.sampling import Kind, held_out_shapes, pick, sample_scene
from arm.world.scene import MAX_THINGS, SHAPES, Scene, render


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


@dataclass(frozen=True)
class EncodeRun:
    """Chains of `edits` + 1 pictures from the training combinations, `chains_per_shard` a shard.

    repeats: share of chains that begin with several things of one shape, which are rare by chance and
    which prompts like "three stars" need.
    """

    out: Path
    pretrained: Pretrained
    tokenizer: Path
    grids: tuple[GridWeight, ...]
    scale: int
    num_shards: int
    chains_per_shard: int = 960
    edits: int = 2
    batch: int = 48
    max_things: int = 4
    seed: int = 10
    repeats: float = 0.0

    def __post_init__(self) -> None:
        if min(self.num_shards, self.chains_per_shard, self.batch, self.scale) < 1:
            raise ValueError("num_shards, chains_per_shard, batch and scale must be at least 1")
        if min(self.edits, self.seed) < 0:
            raise ValueError("edits and seed must not be negative")
        if not 0 <= self.repeats <= 1:
            raise ValueError("repeats must be from 0 to 1")
        fewest, beside = (2, " beside repeats") if self.repeats else (1, "")
        if not fewest <= self.max_things <= MAX_THINGS:
            raise ValueError(f"max_things must be from {fewest} to {MAX_THINGS}{beside}")
        if not any(grid.weight for grid in self.grids):
            raise ValueError("one of grids must have a weight")


def sample_chain(
    rng: np.random.Generator,
    height: int,
    width: int,
    edits: int,
    max_things: int,
    repeats: float = 0.0,
) -> tuple[list[Scene], list[Edit]]:
    """A scene and a walk of edits from it, all of training combinations. Raises ConfigError for a size, in
    units, where none is found.
    """
    for _ in range(1000):
        kinds: Sequence[Kind] | None = None
        if repeats and rng.random() < repeats:
            n, shape = int(rng.integers(2, max_things + 1)), pick(rng, SHAPES)
            if held_out_shapes([shape] * n):
                continue
            kinds = [(shape, None, None, None)] * n
        try:
            scenes = [sample_scene(rng, height, width, kinds=kinds, max_things=max_things)]
        except ValueError:  # so many things of one shape find no room in a small picture
            continue
        steps: list[Edit] = []
        while len(steps) < edits:
            edit = sample_edit(rng, scenes[-1])
            if edit is None:
                break
            steps.append(edit)
            scenes.append(edit.target)
        if len(steps) == edits:
            return scenes, steps
    raise ConfigError(
        f"no scene and {edits} edits of it are found for pictures of {height}x{width} units; give "
        "larger grids or fewer edits"
    )


def manifest_of(run: EncodeRun) -> dict[str, Any]:
    """What decides what is in a shard, in JSON types: how many there are and where things lie does not."""
    settings = to_json(run)
    for name in ("out", "pretrained", "tokenizer", "num_shards"):
        del settings[name]
    return settings | {"tokenizer": tokenizer_hash(run.tokenizer, run.pretrained.siglip)}


def main(run: EncodeRun) -> None:
    """Writes the shards that are not there yet; shard i is a pure function of i and the manifest.

    Raises ConfigError where `out` holds shards of another tokenizer or other settings, DataError for
    codes of more than 16 bits.
    """
    check_or_write_manifest(
        run.out, manifest_of(run), f"delete the shards in {run.out}, or name another out=FOLDER"
    )
    device = training_device()
    tokenizer = VisualTokenizer.load(
        run.tokenizer, load_siglip(run.pretrained.siglip, device.type == "cuda").vision_model
    ).to(device)
    if tokenizer.fsq.num_codes > np.iinfo(np.uint16).max + 1:
        raise DataError("code shards hold 16-bit codes; this tokenizer has more than 65,536")
    for index in range(run.num_shards):
        if shard_path(run.out, index).is_file():
            continue
        begun = time.monotonic()
        rng = np.random.default_rng([run.seed, index])
        chains: list[Chain] = []
        while len(chains) < run.chains_per_shard:
            grid = pick_grid(rng, run.grids)
            size = (
                grid.height * tokenizer.patch // run.scale,
                grid.width * tokenizer.patch // run.scale,
            )
            wanted = min(run.batch, run.chains_per_shard - len(chains))
            walks = [
                sample_chain(rng, *size, run.edits, run.max_things, run.repeats)
                for _ in range(wanted)
            ]
            images = np.stack([render(s, run.scale) for scenes, _ in walks for s in scenes])
            codes = tokenizer.encode(to_float(images).to(device)).cpu().numpy().astype(np.uint16)
            codes = codes.reshape(wanted, run.edits + 1, grid.height, grid.width)
            chains += [
                Chain(tuple(scenes), tuple(edits), c)
                for (scenes, edits), c in zip(walks, codes, strict=True)
            ]
        write_shard(run.out, index, chains)
        rate = run.chains_per_shard * (run.edits + 1) / (time.monotonic() - begun)
        print(f"encode {index + 1}/{run.num_shards} {rate:.0f} pictures/s", flush=True)
