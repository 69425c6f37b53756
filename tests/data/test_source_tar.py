"""Tar files that someone could send: out of order, damaged, hidden members, and headers without bounds."""

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from arm.data.check import check_source
from arm.data.conversation import caption_of
from arm.data.sources import open_source
from arm.errors import DataError
from user_data import png

RED = png("red.png")


def write(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


def captions(path: Path) -> list[str | None]:
    source = open_source(path)
    return [caption_of(source.record(i).conversation) for i in range(len(source))]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        open_source(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 400
    return message


def test_members_out_of_order_are_named_as_that(tmp_path: Path):
    members = [("a.png", RED), ("b.png", RED), ("a.txt", b"a"), ("b.txt", b"b")]
    whole = [("c.png", RED), ("c.txt", b"c")]
    report = check_source(open_source(write(tmp_path / "x.tar", members + whole)))
    assert (report.records, report.num_faults, report.tasks) == (5, 4, {"drawing": 1})
    assert [fault.split(": ")[0] for fault in report.faults] == [f"x.tar:{k}" for k in "abab"]
    assert all("do not stand side by side in the tar; write them in" in f for f in report.faults)


def test_samples_of_one_name_are_samples(tmp_path: Path):
    """As a file that was appended to has them, or two shards that were joined."""
    members = [(f"{k}.{s}", RED if s == "png" else t) for k, t in (("a", b"1"), ("b", b"2"), ("a", b"3"))
               for s in ("png", "txt")]  # fmt: skip
    assert captions(write(tmp_path / "x.tar", members)) == ["1", "2", "3"]


def test_hidden_members_are_passed_over(tmp_path: Path):
    hidden = ("._a.png", "./._a.txt", "__MACOSX/._b.png", ".DS_Store", "c/.cache/x.png")
    members = [(name, b"junk") for name in hidden]
    members[2:2] = [("./a.png", RED), ("./a.txt", b"one")]
    assert captions(write(tmp_path / "x.tar", members)) == ["one"]
    (tmp_path / "._x.tar").write_bytes(b"junk of a Mac")
    assert captions(tmp_path) == ["one"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_captions_with_marks_and_line_endings(encoding: str, tmp_path: Path):
    text = "a réd star\r\nbeside a hat\r\n".encode(encoding)
    path = write(tmp_path / "x.tar", [("a.png", RED), ("a.txt", text)])
    assert captions(path) == ["a réd star\nbeside a hat"]
    record = '{"image": "png", "text": "red"}\r\n'.encode("utf-8-sig")
    assert captions(write(tmp_path / "y.tar", [("a.png", RED), ("a.json", record)])) == ["red"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_megabytes(form: int, tmp_path: Path):
    path = write(tmp_path / "x.tar", [("x" * 5_000_000 + ".png", RED)], form)
    tracemalloc.start()
    message = refused(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert "a header has 5,000,0" in message and "may have 1,048,576" in message
    long = refused(write(tmp_path / "x.tar", [("x" * 5000 + ".png", RED)], form))
    assert "a member's name has 5,004 characters, and may have 4,096" in long


def pax_header(kind: bytes, record: bytes) -> bytes:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(record)
    return info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_thousands_of_headers(kind: bytes, tmp_path: Path):
    path = write(tmp_path / "x.tar", [("a.png", RED), ("a.txt", b"one")])
    shard = path.read_bytes()
    path.write_bytes(pax_header(kind, b"7 k=v1\n") * 3 + shard)
    assert captions(path) == ["one"]
    path.write_bytes(pax_header(kind, b"7 k=v1\n") * 5000 + shard)
    assert "a member has too many headers" in refused(path)


def test_many_global_records(tmp_path: Path):
    """Every member would copy them all."""
    path = write(tmp_path / "x.tar", [("a.png", RED), ("a.txt", b"one")])
    shard = path.read_bytes()
    headers = [
        pax_header(tarfile.XGLTYPE, b"".join(b"12 k%02d%03d=a\n" % (n, k) for k in range(40)))
        for n in range(30)
    ]
    path.write_bytes(b"".join(header + shard[:1024] for header in headers) + shard)
    assert "more than 1,000 global headers" in refused(path)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_hole_of_20_gb(kind: bytes, tmp_path: Path):
    """In a picture it is a fault of the sample, in a header one of the file; neither is read."""
    info = tarfile.TarInfo("z.png")
    info.type, info.size = kind, 20 * 2**30
    path = write(tmp_path / "x.tar", [("z.txt", b"one")])
    shard = path.read_bytes()
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.seek(info.size, io.SEEK_CUR)
        file.write(shard)
    tracemalloc.start()
    if kind == tarfile.REGTYPE:
        record = open_source(path).record(0)
        for read in (record.image, record.size):
            with pytest.raises(
                DataError, match=r"^x\.tar:z: its \.png has 21,474,836,480 bytes, and"
            ):
                read(0)
    else:
        assert "a header has 21,474,836,480 bytes" in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_sparse_members(tmp_path: Path):
    """GNU tar's sparse files: here one of 4 bytes at offset 1,000."""
    info = tarfile.TarInfo("a.txt")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 4
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000001750\x0000000000004\x00"
    header[483:495] = b"00000001754\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = write(tmp_path / "x.tar", [("a.png", RED)])
    path.write_bytes(bytes(header) + b"last".ljust(512, b"\0") + path.read_bytes())
    with pytest.raises(
        DataError, match=r"^x\.tar:a: its \.txt is a sparse file; write the tar with"
    ):
        open_source(path).record(0)


def test_damage_in_the_middle_is_not_the_end(tmp_path: Path):
    path = write(
        tmp_path / "x.tar", [("a.png", RED), ("a.txt", b"1"), ("b.png", RED), ("b.txt", b"2")]
    )
    shard = path.read_bytes()
    damaged = bytearray(shard)
    damaged[shard.index(b"b.png") + 100] = 0xFF
    path.write_bytes(damaged)
    assert "its header at byte 2,048 is damaged" in refused(path)
    path.write_bytes(shard + shard)
    assert "more follows its end, as where `cat`" in refused(path)
    path.write_bytes(shard[:2600])
    assert "cut short at its member b.png" in refused(path)
    path.write_bytes(shard[:4096])  # without the blocks that end it
    assert captions(path) == ["1", "2"]


def test_long_names_are_cut_and_stay_apart(tmp_path: Path):
    members = [(f"{'x' * 2000}{k}{'y' * 100}.png", RED) for k in range(3)]
    places = [
        fault.split(": ")[0]
        for fault in check_source(open_source(write(tmp_path / "x.tar", members))).faults
    ]
    assert len(set(places)) == 3 and max(map(len, places)) < 300


def test_what_a_tar_says_is_printed_without_escapes(tmp_path: Path):
    name = "\x1b[31ma"
    path = write(tmp_path / "x.tar", [(f"{name}.png", RED), (f"{name}.json", b'{"\x1b]0;": 1}')])
    (fault,) = check_source(open_source(path)).faults
    assert fault.startswith("x.tar:\\x1b[31ma: ") and fault.isprintable()
