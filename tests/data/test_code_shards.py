"""Code shards of conversations: what is written is read by index, and damage is named by line."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from arm.data.code_shards import Encoded, open_code_shards, write_code_shard
from arm.data.conversation import parse_conversation
from arm.errors import DataError
from user_data import DRAWING, RECORDS, TEXT


def encoded(count: int = 6) -> list[Encoded]:
    """Each record with pictures of 2 x 3 codes, all different, the first ones the largest."""
    items: list[Encoded] = []
    value = 65_536
    for i in range(count):
        conversation = parse_conversation(RECORDS[i % len(RECORDS)], f"x:{i}")
        grids = []
        for _ in conversation.images:
            value -= 6
            grids.append(np.arange(value, value + 6, dtype=np.int64).reshape(2, 3))
        items.append((conversation, grids))
    return items


def test_round_trip_at_random(tmp_path: Path):
    items = encoded()
    path = write_code_shard(tmp_path, 1, items[4:])
    assert path == tmp_path / "shard_00001.jsonl"
    write_code_shard(tmp_path, 0, items[:4])
    found = open_code_shards(tmp_path)
    assert len(found) == 6 and found.where(4) == "shard_00001.jsonl:1"
    for reader in (found, pickle.loads(pickle.dumps(found))):
        for i in (5, 0, 3, 3, 1, 4, 2):
            conversation, grids = reader[i]
            original, codes = items[i]
            assert (conversation.id, conversation.messages) == (original.id, original.messages)
            assert conversation.image_loss == original.image_loss
            assert len(grids) == len(codes)
            for grid, expected in zip(grids, codes, strict=True):
                assert grid.dtype == np.uint16 and np.array_equal(grid, expected)
    assert found[-1][0] == found[5][0]
    with pytest.raises(IndexError):
        found[6]
    assert len(list(found)) == 6
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"shard_0000{i}.{e}" for i in (0, 1) for e in ("jsonl", "safetensors")]
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_a_line_by_hand(tmp_path: Path):
    path = write_code_shard(tmp_path, 0, encoded()[3:4])
    assert json.loads(path.read_text()) == {
        "id": "edit-1",
        "messages": [
            {"role": "user", "content": "<image>make it blue"},
            {"role": "assistant", "content": "<image>", "weight": 0.5},
        ],
        "images": [
            {"offset": 0, "height": 2, "width": 3},
            {"offset": 6, "height": 2, "width": 3},
        ],
        "image_loss": [True, None],
    }


def test_shards_without_pictures_or_records(tmp_path: Path):
    write_code_shard(tmp_path, 0, [])
    write_code_shard(tmp_path, 1, [(parse_conversation(TEXT, "x:1"), [])])
    found = open_code_shards(tmp_path)
    assert len(found) == 1 and found[0][1] == []


def test_codes_of_more_than_16_bits(tmp_path: Path):
    conversation = encoded(2)[1][0]
    with pytest.raises(DataError, match="16-bit codes"):
        write_code_shard(tmp_path, 0, [(conversation, [np.array([[65_536]])])])
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"shard_00000\.jsonl cannot be written .*make room"):
        write_code_shard(tmp_path / "file", 0, [])


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_code_shard(tmp_path, 0, encoded())


def refused(shard: Path, index: int | None = None) -> str:
    with pytest.raises(DataError) as error:
        reader = open_code_shards(shard.parent)
        assert index is not None, "opening must already find it"
        reader[index]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_directories_without_whole_shards(shard: Path, tmp_path: Path):
    assert "holds no code shards" in refused(tmp_path / "none" / "x")
    tensors = shard.with_suffix(".safetensors")
    data = tensors.read_bytes()
    tensors.write_bytes(data[:-1])
    assert f"{tensors}: damaged or missing" in refused(shard)
    tensors.unlink()
    assert f"{tensors}: damaged or missing" in refused(shard)
    save_file({"codes": np.zeros(3, np.int64)}, tensors)
    assert "not 16-bit codes" in refused(shard)
    tensors.write_bytes(data)
    (shard.parent / "shard_00001.safetensors").write_bytes(data)
    assert "shard_00001.safetensors is half a shard; finish it" in refused(shard)


def test_fewer_shards_than_the_manifest_says(shard: Path):
    manifest = shard.parent / "manifest.json"
    manifest.write_text('{"num_shards": 3}')
    assert "holds 1 of 3 shards" in refused(shard)
    manifest.write_text("{}")
    assert f"{manifest} is damaged" in refused(shard)
    manifest.write_text('{"num_shards": 1}')
    assert len(open_code_shards(shard.parent)) == 6


def rewrite(shard: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the fourth line's JSON."""
    lines = shard.read_text().splitlines()
    data = json.loads(lines[3])
    change(data)
    lines[3] = json.dumps(data)
    shard.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: data["images"][1].pop("offset"), "need offset, height and width"),
        (lambda data: data["images"][0].update(offset=-1), "its codes are not all in the file"),
        (lambda data: data["images"][0].update(height=10**6), "its codes are not all in the file"),
        (lambda data: data["images"][0].update(width=0), "its codes are not all in the file"),
        (lambda data: data.update(images=["a.png", "b.png"]), "need offset, height and width"),
        (lambda data: data["images"].pop(), "2 <image> in messages but 1 in images"),
        (lambda data: data.pop("messages"), "a record needs messages"),
    ],
)
def test_damaged_lines_are_named(shard: Path, change: Callable[[Any], Any], fault: str):
    rewrite(shard, change)
    message = refused(shard, 3)
    assert message.startswith(f"{shard}:4: ") and fault in message


def test_lines_that_need_more_codes_than_there_are(shard: Path):
    tensors = shard.with_suffix(".safetensors")
    save_file({"codes": load_file(tensors)["codes"][:-1]}, tensors)
    assert refused(shard, 5) == f"{shard}:6: its codes are not all in the file; encode it again"


@pytest.mark.parametrize("line", ["{", "[]", "7"])
def test_lines_that_are_no_records(shard: Path, line: str):
    shard.write_text(line + "\n")
    assert refused(shard, 0).startswith(f"{shard}:1: ")


def test_codes_are_counted_over_all_shards(tmp_path: Path):
    """Code 3 stands twice in one shard and once in another; 9 is none of five codes."""
    for index, codes in enumerate(([[3, 3], [1, 0]], [[3, 9]])):
        items = [(parse_conversation(DRAWING, "x"), [np.array(codes)])]
        write_code_shard(tmp_path, index, items)
    assert open_code_shards(tmp_path).code_counts(5).tolist() == [1, 1, 0, 3, 0]


def test_shards_without_a_conversation(tmp_path: Path):
    write_code_shard(tmp_path, 0, [])
    with pytest.raises(DataError, match=r"without a conversation; its skipped\.jsonl says why"):
        open_code_shards(tmp_path)
