"""Frames of videos become interleaved records, in order; damage ends one video and no run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from arm.data.check import check_source
from arm.data.conversation import task_of
from arm.data.sources import open_source
from arm.data.video import CONTAINERS, convert_videos, read_frames, video_files
from arm.errors import DataError
from user_data import write_video


def greys(source: Path, index: int) -> list[int]:
    """The number of each frame of a record, by its grey."""
    record = open_source(source).record(index)
    images = [record.image(k) for k in range(len(record.conversation.images))]
    return [round(float(np.asarray(image).mean()) / 8) for image in images]


def test_every_nth_frame_in_records_of_some_frames(tmp_path: Path):
    write_video(tmp_path / "set/a.mp4", frames=20)
    write_video(tmp_path / "set/deep/b.avi", frames=5)
    (tmp_path / "set/deep/b.txt").write_bytes("a réd star\r\n".encode("utf-8-sig"))
    (tmp_path / "set/._a.mp4").write_bytes(b"junk of a Mac")
    out = tmp_path / "out"
    assert convert_videos(tmp_path / "set", out, every=3, frames=3) == (4, 0)
    assert [greys(out, k) for k in range(4)] == [[0, 3, 6], [9, 12, 15], [18], [0, 3]]
    records = [open_source(out).record(k).conversation for k in range(4)]
    assert [r.id for r in records] == ["a.mp4:0", "a.mp4:9", "a.mp4:18", "deep/b.avi:0"]
    assert {task_of(record) for record in records} == {"interleaved"}
    assert records[0].messages[0].parts == (0, 1, 2)
    assert records[3].messages[0].parts == ("a réd star", 0, 1)
    assert check_source(open_source(out)).num_faults == 0
    with pytest.raises(DataError, match=r"train\.jsonl is there already"):
        convert_videos(tmp_path / "set", out)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".avi", ".mpg", ".ts"])
def test_containers(suffix: str, tmp_path: Path):
    write_video(tmp_path / f"x{suffix}", frames=7)
    numbers = [n for n, image in read_frames(tmp_path / f"x{suffix}", "x", 2)]
    assert numbers == [0, 2, 4, 6] and suffix in {s for each in CONTAINERS.values() for s in each}


def test_damaged_videos_are_skipped_and_named(tmp_path: Path):
    write_video(tmp_path / "a.mp4", frames=6)
    (tmp_path / "b.mp4").write_bytes(b"junk" * 100)
    (tmp_path / "c.mp4").write_bytes(b"")
    (tmp_path / "d.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:600])
    assert convert_videos(tmp_path, tmp_path / "out", every=2) == (1, 3)
    lines = [json.loads(x) for x in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert [line["where"] for line in lines] == ["b.mp4", "c.mp4", "d.mp4"]
    assert all(line["reason"].isprintable() for line in lines)


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat"])
def test_playlists_open_no_other_files(name: str, tmp_path: Path):
    write_video(tmp_path / "a.ts", frames=6)
    text = f"ffconcat version 1.0\nfile '{tmp_path}/a.ts'\n"
    if name != "list.ffconcat":
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/a.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"^x cannot be read after frame 0"):
        list(read_frames(tmp_path / name, "x", 1))


def test_what_holds_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.txt").write_text("x")
    for path in (tmp_path, tmp_path / "none.mp4"):
        with pytest.raises(DataError, match=r"is no video and no folder with any \(\.3gp"):
            video_files(path)
    with pytest.raises(DataError, match=r"x\.txt holds no video that can be read; see"):
        convert_videos(tmp_path / "x.txt", tmp_path / "out")
    assert not (tmp_path / "out/train.jsonl").exists()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"videos need PyAV, .* pip install 'arm-lmm\[video\]'"):
        convert_videos(tmp_path / "x.txt", tmp_path / "b")
