"""Data changed in place are noticed by what was derived from them, and touched files are not changed ones."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.data.captioned import open_buckets
from arm.data.code_shards import open_code_shards, shards_digest
from arm.data.contents import container_stamps, content_digest, contents_of, read_contents
from arm.data.images import GridWeight
from arm.data.records import SKIPPED, Skipped
from arm.data.sources import open_source
from arm.train.encode_data import EncodeDataRun, main, run_for_model
from conftest import TinyChain
from user_data import turn, write_jsonl


def save(path: Path, shade: int, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 60, 90)).save(path)


def record(name: str, caption: str) -> dict:
    return {
        "messages": [turn("user", caption), turn("assistant", "<image>")],
        "images": [name],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four drawings, in a file of lines with the pictures beside it."""
    folder = tmp_path / "data"
    for k in range(4):
        save(folder / f"{k}.png", 50 * k)
    write(folder, ["a red star", "a blue ring", "a star", "a ring"])
    return folder


def write(folder: Path, captions: list[str]) -> None:
    write_jsonl(
        folder / "data.jsonl", [record(f"{k}.png", words) for k, words in enumerate(captions)]
    )


@pytest.fixture
def run(chain: TinyChain, data: Path, tmp_path: Path) -> EncodeDataRun:
    return replace(run_for_model(str(chain.model), data, tmp_path / "codes", shard_size=2), batch=4)


def words(out: Path) -> list[str]:
    return [conversation.messages[0].content for conversation, _ in open_code_shards(out)]


def test_a_corrected_caption_is_encoded_again(run: EncodeDataRun, data: Path, capsys):
    main(run)
    before = shards_digest(run.out)
    write(data, ["a red star", "a green ring", "a star", "a ring"])
    summary = main(run)
    assert (summary.shards, summary.changed) == (1, 1)
    assert words(run.out) == ["a red star", "a green ring", "a star", "a ring"]
    assert f"{data}: records of 1 shards have changed" in capsys.readouterr().out
    assert shards_digest(run.out) != before
    assert (main(run).shards, main(run).changed) == (0, 0)


def test_a_replaced_picture_is_encoded_again(run: EncodeDataRun, data: Path):
    main(run)
    before = [codes[0] for _, codes in open_code_shards(run.out)]
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(
        data / "3.png"
    )
    assert main(run).changed == 1
    after = [codes[0] for _, codes in open_code_shards(run.out)]
    assert [bool((a == b).all()) for a, b in zip(before, after, strict=True)] == [True] * 3 + [
        False
    ]


def test_a_repaired_picture_is_no_longer_skipped(run: EncodeDataRun, data: Path):
    (data / "2.png").write_bytes(b"broken")
    assert main(run).skipped == 1 and len(words(run.out)) == 3
    save(data / "2.png", 90)
    summary = main(run)
    assert (summary.changed, summary.skipped) == (1, 0) and len(words(run.out)) == 4
    assert (run.out / SKIPPED).read_text() == ""


def test_touched_files_are_not_changed_ones(run: EncodeDataRun, data: Path):
    main(run)
    for path in data.iterdir():
        os.utime(path, (1, 1))
    summary = main(run)
    assert (summary.shards, summary.changed) == (0, 0)
    contents = read_contents(run.out, 0)
    assert contents is not None and contents.pictures[0].stamp[1] == 10**9  # seen, and kept


def test_shards_of_unknown_origin_stay_and_are_reported(run: EncodeDataRun, capsys):
    main(run)
    (run.out / "shard_00001.contents.json").write_text('{"containers"')
    assert main(run).shards == 0
    assert "1 shards do not record the data they were made from" in capsys.readouterr().out


def test_a_folder_of_pictures_and_tars_are_noticed_alike(tmp_path: Path):
    import tarfile

    save(tmp_path / "folder/star/0.png", 10)
    (tmp_path / "x.txt").write_text("a star")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "folder/star/0.png", "0.png")
        tar.add(tmp_path / "x.txt", "0.txt")
    for place in (tmp_path / "folder", tmp_path / "x.tar"):
        source = open_source(place)
        first = contents_of(source, range(1), container_stamps(place))
        assert len(first.pictures) == 1 and len(first.pictures[0].sha256) == 64
        again = contents_of(source, range(1), container_stamps(place), first)
        assert again == first


def test_hashes_are_not_taken_again_while_times_stay(data: Path, monkeypatch: pytest.MonkeyPatch):
    source, stamps = open_source(data), container_stamps(data)
    first = contents_of(source, range(4), stamps)
    monkeypatch.setattr(Path, "read_bytes", None)  # no picture may be read
    assert contents_of(source, range(4), stamps, first) == first


GRIDS = [GridWeight(6, 6), GridWeight(4, 8)]


def members(data: Path, folder: Path) -> dict:
    buckets = open_buckets(open_source(data), GRIDS, folder, Skipped(folder / SKIPPED))
    return {ratio: found.tolist() for ratio, found in buckets.members.items()}


def test_a_picture_of_another_shape_changes_its_bucket(data: Path, tmp_path: Path):
    assert members(data, tmp_path / "kept") == {(1, 1): [0, 1, 2, 3], (1, 2): []}
    save(data / "1.png", 50, (80, 40))
    assert members(data, tmp_path / "kept") == {(1, 1): [0, 2, 3], (1, 2): [1]}


def test_buckets_are_kept_while_files_stay(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = members(data, tmp_path / "kept")
    monkeypatch.setattr("arm.data.captioned._sort", None)
    assert members(data, tmp_path / "kept") == first


def change_words(data: Path) -> None:
    write(data, ["a red star", "a blue ring", "a star", "two rings"])


def change_picture(data: Path) -> None:
    save(data / "0.png", 1)


@pytest.mark.parametrize("change", [change_words, change_picture])
def test_the_digest_of_a_source(data: Path, change: Callable[[Path], None]):
    before = content_digest(open_source(data))
    os.utime(data / "0.png", (1, 1))
    assert content_digest(open_source(data)) == before
    change(data)
    assert content_digest(open_source(data)) != before


def test_headers_tell_shards_apart(run: EncodeDataRun, data: Path, tmp_path: Path):
    main(run)
    main(replace(run, out=tmp_path / "again"))
    assert shards_digest(run.out) == shards_digest(tmp_path / "again")
    lines = run.out / "shard_00000.jsonl"
    kept = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(kept) == 2
