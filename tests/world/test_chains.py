"""Code shards: what is written is read, and damage is named by file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from arm.errors import DataError
from arm.world.chains import Chain, read_shards, write_shard
from worlds import GRID, chains


def assert_same(read: Chain, written: Chain) -> None:
    assert read.scenes == written.scenes
    assert read.edits == written.edits
    assert read.codes.dtype == np.uint16 and np.array_equal(read.codes, written.codes)
    assert read.grid == written.grid


def test_round_trip_in_order(tmp_path: Path):
    written = chains(9)
    assert {len(chain.edits) for chain in written} >= {2}
    path = write_shard(tmp_path / "codes", 1, written[5:])
    assert path == tmp_path / "codes" / "shard_00001.jsonl"
    write_shard(tmp_path / "codes", 0, written[:5])
    found = list(read_shards(tmp_path / "codes"))
    assert len(found) == 9
    for read, original in zip(found, written, strict=True):
        assert_same(read, original)
        assert read.grid == GRID
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "shard_00000.jsonl",
        "shard_00000.safetensors",
        "shard_00001.jsonl",
        "shard_00001.safetensors",
    ]
    assert len({file.stat().st_mode for file in path.parent.iterdir()}) == 1


def test_chains_of_one_picture_and_of_other_grids(tmp_path: Path):
    scene = chains(1)[0].scenes[0]
    large = np.arange(2 * 3, dtype=np.uint16).reshape(1, 2, 3) + 65_530  # up to the last uint16
    written = [Chain((scene,), (), large), chains(2)[1]]
    write_shard(tmp_path, 0, written)
    for read, original in zip(read_shards(tmp_path), written, strict=True):
        assert_same(read, original)


def test_writing_again_replaces(tmp_path: Path):
    write_shard(tmp_path, 0, chains(9))
    write_shard(tmp_path, 0, chains(9)[:2])
    assert len(list(read_shards(tmp_path))) == 2


# Damage


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """The lines of a good shard of three chains."""
    return write_shard(tmp_path, 0, chains(3))


def refused(shard: Path) -> str:
    with pytest.raises(DataError) as error:
        list(read_shards(shard.parent))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("make", [True, False])
def test_a_directory_without_shards(tmp_path: Path, make: bool):
    directory = tmp_path / "none"
    if make:
        directory.mkdir()
    with pytest.raises(DataError, match=r"none holds no code shards .*arm train encode"):
        list(read_shards(directory))


def test_codes_that_are_missing(shard: Path):
    shard.with_suffix(".safetensors").unlink()
    assert f"{shard.with_suffix('.safetensors')}: damaged or missing" in refused(shard)


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_codes_that_are_cut(shard: Path, kept: int):
    file = shard.with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[:kept])
    assert f"{file}: damaged or missing" in refused(shard)


def test_codes_under_another_name(shard: Path):
    file = shard.with_suffix(".safetensors")
    save_file({"ids": load_file(file)["codes"]}, file)
    assert f"{file}: damaged or missing" in refused(shard)


def test_lines_that_need_more_codes_than_there_are(shard: Path):
    file = shard.with_suffix(".safetensors")
    save_file({"codes": load_file(file)["codes"][:-1]}, file)
    assert refused(shard) == f"{shard}:3: not a chain (its codes are not all in the file)"


def rewrite(shard: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the second line's JSON."""
    lines = shard.read_text().splitlines()
    data = json.loads(lines[1])
    change(data)
    lines[1] = json.dumps(data)
    shard.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("broken", ["{", "", "[]", "null", "7", '{"grid": [3, 4]}'])
def test_a_line_that_is_no_chain(shard: Path, broken: str):
    lines = shard.read_text().splitlines()
    lines[1] = broken
    shard.write_text("\n".join(lines) + "\n")
    assert refused(shard).startswith(f"{shard}:2: not a chain (")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("offset"),
        lambda data: data.update(offset=-12),
        lambda data: data.update(offset=-40),
        lambda data: data.update(offset=10**6),
        lambda data: data.update(grid=[3]),
        lambda data: data.update(grid="3x4"),
        lambda data: data["scenes"].pop(),
        lambda data: data["scenes"][0].pop("background"),
        lambda data: data["scenes"][0]["things"][0].update(weight=3),
        lambda data: data["edits"][0].pop("place"),
        lambda data: data["edits"].append(data["edits"][0]),
    ],
)
def test_a_line_of_another_form(shard: Path, change: Callable[[dict[str, Any]], Any]):
    rewrite(shard, change)
    assert refused(shard).startswith(f"{shard}:2: not a chain (")


def test_lines_that_are_no_text(shard: Path):
    shard.write_bytes(b"\xff\xfe\x00" + shard.read_bytes())
    assert refused(shard).startswith(f"{shard}: damaged")


def test_chains_before_the_damage_are_read(shard: Path):
    rewrite(shard, lambda data: data.pop("grid"))
    reader = read_shards(shard.parent)
    assert_same(next(reader), chains(3)[0])
    with pytest.raises(DataError):
        next(reader)
