"""Files and folders: whole or not at all, with the mode that a user expects."""

import errno
import os
import stat
from pathlib import Path

import pytest
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import save_file

from arm.errors import InputError, WeightsError
from arm.files import (
    atomic_write,
    decode_text,
    disk_errors,
    fill_folder,
    read_json,
    read_json_object,
    read_text,
    usual_modes,
    write_json,
    write_picture,
    write_text,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    old = os.umask(0o027)
    yield
    os.umask(old)


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path):
    path = tmp_path / "a/x.txt"
    write_text("one", path)
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("tw")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]
    write_json({"two": 2}, path)
    assert path.read_text() == '{\n  "two": 2\n}\n'


def test_modes(tmp_path: Path, umask: None):
    path = tmp_path / "x.safetensors"
    with atomic_write(path) as temporary:
        save_file({}, temporary)
    assert mode(path) == 0o640
    save_file({}, tmp_path / "of_a_library.safetensors")
    usual_modes(tmp_path)
    assert {mode(p) for p in tmp_path.iterdir()} == {0o640}
    path.chmod(0o604)
    write_text("a user's own", path)
    assert mode(path) == 0o604


def test_links_are_followed_and_devices_written_to(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "real.txt")
    write_text("one", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real.txt").read_text() == "one"
    with atomic_write(Path("/dev/null")) as given:
        assert given == Path("/dev/null")


def test_a_folder_is_replaced_by_name_when_all_is_there(tmp_path: Path):
    out = tmp_path / "out"
    (out / "part").mkdir(parents=True)
    for name in ("part/old.txt", "card.md", "settings"):
        (out / name).write_text("old")

    def write(folder: Path) -> None:
        (folder / "part").mkdir()
        (folder / "part/new.txt").write_text("new")
        (folder / "settings").write_text("new")

    def fail(folder: Path) -> None:
        write(folder)
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fill_folder(fail, out)
    assert (out / "settings").read_text() == "old" and len(list(out.iterdir())) == 3
    fill_folder(write, out)
    assert {str(p.relative_to(out)) for p in out.rglob("*.*")} == {"part/new.txt", "card.md"}
    assert (out / "settings").read_text() == "new" and len(list(out.iterdir())) == 3


def test_what_safetensors_makes_of_a_full_disk_is_an_error_of_the_system(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(OSError, match="No space left on device") as found, disk_errors(path):
        raise SafetensorError("Error while serializing: I/O error: nothing left (os error 28)")
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(path))


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path):
    picture = Image.new("RGB", (2, 2))
    write_picture(picture, tmp_path / "a/x.png")
    assert Image.open(tmp_path / "a/x.png").size == (2, 2)
    before = (tmp_path / "a/x.png").read_bytes()
    for name in ("a/x.png/y.png", "x.psd", "x.nothing", "a"):
        with pytest.raises(InputError, match=r"cannot be written .* name a file like picture\.png"):
            write_picture(picture, tmp_path / name)
    with pytest.raises(InputError, match="cannot be written"):
        write_picture(Image.new("RGBA", (2, 2)), tmp_path / "x.jpg")
    assert (tmp_path / "a/x.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-marked", "utf-32", "utf-32-be-marked"]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_text_of_any_mark_and_line_ending(tmp_path: Path, encoding: str, newline: str):
    text = f"a réd star{newline}{newline}二{newline}"
    content = text.encode(encoding.removesuffix("-marked"))
    if encoding.endswith("-marked"):
        content = "\ufeff".encode(encoding.removesuffix("-marked")) + content
    (tmp_path / "x.txt").write_bytes(content)
    assert read_text(tmp_path / "x.txt") == decode_text(content, "x") == "a réd star\n\n二\n"


def test_text_that_cannot_be_read(tmp_path: Path):
    path = tmp_path / "x.txt"
    with pytest.raises(InputError, match=r"x\.txt cannot be read \(No such file or directory\)"):
        read_text(path)
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_text(tmp_path)
    path.write_bytes(b"abc\xff")
    with pytest.raises(InputError, match=r"is not UTF-8 text \(invalid start byte at byte 3\)"):
        read_text(path)
    path.write_bytes(b"abcd")
    assert read_text(path, max_bytes=4) == "abcd"
    with pytest.raises(InputError, match="is larger than 3 bytes; name a smaller"):
        read_text(path, max_bytes=3)
    with pytest.raises(InputError, match=r"^\\x1b\[31m\.txt cannot be read"):
        read_text(Path("\x1b[31m.txt"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('{"a":' * 100_000, "nested deeper than 64 levels"),
        ("[" + "9" * 5000 + "]", "5000 digits"),
        ("{'a': 1}", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, fault: str):
    (tmp_path / "x.json").write_text(text)
    for error in (WeightsError, InputError):
        with pytest.raises(error, match=fault) as caught:
            read_json(tmp_path / "x.json", error)
        assert "\n" not in str(caught.value) and str(tmp_path / "x.json") in str(caught.value)


def test_json_is_read_within_bounds(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + b"[" * 64 + b"]" * 64)
    assert str(read_json(path)) == "[" * 64 + "]" * 64
    path.write_text("3")
    assert read_json(path) == 3
    with pytest.raises(WeightsError, match="is not a JSON object"):
        read_json_object(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(WeightsError, match="is not valid JSON"):
        read_json(path)
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(WeightsError, match="has 67,108,865 bytes; JSON is read up to 67,108,864"):
        read_json(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="is no regular file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"^\S*gone does not exist$"):
        read_json(tmp_path / "gone", InputError)


def test_obsolete_entries_of_a_folder_are_removed(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model-1.txt", "model-2.txt", "note.txt"):
        (out / name).write_text("old")
    fill_folder(lambda folder: write_text("new", folder / "model-1.txt"), out, ("model-*.txt",))
    assert {p.name: p.read_text() for p in out.iterdir()} == {
        "model-1.txt": "new", "note.txt": "old",
    }  # fmt: skip
