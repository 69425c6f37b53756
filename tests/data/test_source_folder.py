"""A folder of pictures: what is read, and what is left out, by name and number."""

import os
from pathlib import Path

import pytest

from arm.data.image_files import PICTURE_SUFFIXES
from arm.data.source_folder import LeftOut, list_folder, open_folder
from arm.data.sources import left_out, open_source
from arm.errors import DataError
from user_data import png, write_jsonl


def place(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png("red.png"))


def lines(path: Path) -> list[str]:
    return [str(group) for group in left_out(open_source(path))]


def test_links_to_folders_and_files_are_followed(tmp_path: Path):
    place(tmp_path, "elsewhere/deep/1.png", "elsewhere/2.png", "3.png", "set/a.png")
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/b.png").symlink_to(tmp_path / "3.png")
    source = open_source(tmp_path / "set")
    assert [source.where(i) for i in range(len(source))] == [
        "a.png", "b.png", "linked/2.png", "linked/deep/1.png",
    ]  # fmt: skip
    assert [source.record(i).image(0).size for i in range(4)] == [(8, 8)] * 4
    assert source.record(2).conversation.messages[0].parts == ("linked",)
    assert left_out(source) == ()


def test_circles_of_links_end(tmp_path: Path):
    place(tmp_path, "set/a/1.png", "set/b/2.png")
    for link, target in (
        ("set/a/up", "set"),
        ("set/a/over", "set/b"),
        ("set/out", ""),
        ("set/b/to_a", "set/a"),
    ):
        (tmp_path / link).symlink_to(tmp_path / target)
    source = open_source(tmp_path / "set")
    assert [source.where(i) for i in range(len(source))] == ["a/1.png", "b/2.png"]
    assert lines(tmp_path / "set") == [
        "links to folders that are read under another name: 4 (a/over, a/up, b/to_a, ...)"
    ]


def test_every_suffix_counts_and_others_are_named(tmp_path: Path):
    for k, suffix in enumerate(sorted(PICTURE_SUFFIXES)):
        place(tmp_path, f"{k:02d}{suffix.upper() if k % 2 else suffix}")
    place(tmp_path, "notes.txt", "a/b.TXT", "c.txt", "d.txt", "README", "x.heic", "\x1b[31m.csv")
    source = open_source(tmp_path)
    assert len(source) == len(PICTURE_SUFFIXES)
    assert lines(tmp_path) == [
        "files ending in .csv, which are not read here: 1 (\\x1b[31m.csv)",
        "files ending in .heic, which are not read here: 1 (x.heic)",
        "files ending in .txt, which are not read here: 4 (a/b.TXT, c.txt, d.txt, ...)",
        "files without a suffix, which are not read here: 1 (README)",
    ]


def test_hidden_files_are_passed_over(tmp_path: Path):
    place(tmp_path, "a.png", "._a.png", ".DS_Store", "__MACOSX/a.png", "b/.cache/c.png", "b/d.png")
    assert list_folder(tmp_path).files == ("a.png", "b/d.png")
    assert open_folder(tmp_path).left_out == ()
    hidden = tmp_path / ".hidden"  # the folder that is named may be hidden itself
    place(hidden, "a.png")
    assert len(open_folder(hidden)) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_that_may_not_be_read(tmp_path: Path):
    place(tmp_path, "a.png", "b/c.png")
    (tmp_path / "b").chmod(0)
    assert lines(tmp_path) == ["folders that may not be read: 1 (b)"]
    (tmp_path / "b").chmod(0o755)


def test_a_folder_without_pictures_says_what_it_has(tmp_path: Path):
    place(tmp_path, "a.heic", "b.heic")
    with pytest.raises(
        DataError, match=r"no pictures; left out: files ending in \.heic, .* 2 \(a\.h"
    ):
        open_source(tmp_path)


def test_files_beside_data_files(tmp_path: Path):
    """Pictures beside JSONL may be named by it; a table or a shard in a folder below is left out."""
    write_jsonl(tmp_path / "train.JSONL")
    place(tmp_path, "more/a.tar", "more/b.jsonl", "x.json", "._y.jsonl")
    (tmp_path / "skipped.jsonl").write_text("{}")
    source = open_source(tmp_path)
    assert len(source) == 6 and lines(tmp_path) == [
        "files ending in .json, which are not read here: 1 (x.json)",
        "files ending in .jsonl, which are not read here: 1 (more/b.jsonl)",
        "files ending in .tar, which are not read here: 1 (more/a.tar)",
    ]
    assert left_out(open_source(tmp_path / "train.JSONL")) == ()


def test_in_words():
    assert str(LeftOut("reason", 2, ("a", "b"))) == "reason: 2 (a, b)"
    assert str(LeftOut("reason", 1200, ("a", "b"))) == "reason: 1,200 (a, b, ...)"
