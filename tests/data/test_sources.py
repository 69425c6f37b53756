"""Every container gives the same conversations and pictures, by index, in any process."""

import json
import multiprocessing
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from arm.data import source_table
from arm.data.conversation import caption_of, task_of, to_record
from arm.data.records import Source
from arm.data.sources import open_source
from arm.errors import DataError
from user_data import COLORS, DRAWING, EDITING, RECORDS, SHORT, TASKS, png, write_jsonl

Write = Callable[[Path], Path]


def jsonl(folder: Path) -> Path:
    return write_jsonl(folder / "train.jsonl")


def several_jsonl(folder: Path) -> Path:
    write_jsonl(folder / "b.jsonl", RECORDS[2:])
    write_jsonl(folder / "a.jsonl", RECORDS[:2])
    return folder


def tar(folder: Path) -> Path:
    """Shards of four keys as the webdataset package writes them."""
    from webdataset.writer import ShardWriter

    with ShardWriter(str(folder / "shard-%d.tar"), maxcount=4, encoder=False, verbose=0) as shards:
        for i, record in enumerate(RECORDS):
            record = dict(record)
            names = record.pop("images", None) or [record.pop("image", None)]
            members = {"__key__": f"{i:06d}"} | {
                ("png" if len(names) == 1 else f"{k}.png"): png(name)
                for k, name in enumerate(names)
                if name
            }
            if "text" in record:
                members["txt"] = record["text"].encode()
            else:
                members["json"] = json.dumps(record).encode()
            shards.write(members)
    return folder


def rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with their pictures inside, as the Image feature stores them."""

    def held(name: str) -> dict[str, Any]:
        return {"bytes": png(name), "path": name}

    keys = ("messages", "image_loss", "id")  # the first row tells Arrow the columns
    return [
        {key: record.get(key) for key in keys}
        | {"images": [held(name) for name in record.get("images", [])]}
        for record in records
    ]


LONG = [record for record in RECORDS if record is not SHORT] + [DRAWING]


def parquet(folder: Path) -> Path:
    """Two files in the folder that the hub's layout has, several row groups each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir()
    table = pa.Table.from_pylist(rows(LONG))
    pq.write_table(table.slice(0, 4), folder / "data/train-0.parquet", row_group_size=3)
    pq.write_table(table.slice(4), folder / "data/train-1.parquet", row_group_size=1)
    return folder


def saved_dataset(folder: Path) -> Path:
    import datasets

    feature = datasets.Features(
        {
            "messages": datasets.List(
                {
                    "role": datasets.Value("string"),
                    "content": datasets.Value("string"),
                    "weight": datasets.Value("float32"),
                }
            ),
            "images": datasets.List(datasets.Image()),
            "image_loss": datasets.List(datasets.Value("bool")),
            "id": datasets.Value("string"),
        }
    )
    datasets.disable_progress_bars()
    table = {
        key: [row.get(key) if key != "images" else row[key] for row in rows(LONG)]
        for key in feature
    }
    datasets.Dataset.from_dict(table, features=feature).save_to_disk(folder / "saved")
    return folder / "saved"


CONTAINERS = [jsonl, several_jsonl, tar, parquet, saved_dataset]
PLACES: dict[Write, str] = {
    jsonl: "train.jsonl:4",
    several_jsonl: "b.jsonl:2",
    tar: "shard-0.tar:000003",
    parquet: "train-0.parquet:row 3",
    saved_dataset: "saved:row 3",
}


def color(source: Source, index: int) -> list[str]:
    record = source.record(index)
    names = {value: name for name, value in COLORS.items()}
    images = [record.image(k) for k in range(len(record.conversation.images))]
    assert all(image.mode == "RGB" and image.size == (8, 8) for image in images)
    assert all(record.size(k) == (8, 8) for k in range(len(images)))
    return [names[tuple(np.array(image)[0, 0])] for image in images]


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda write: write.__name__)
def test_every_container_gives_the_same(write: Write, tmp_path: Path):
    path = write(tmp_path)
    source = open_source(path)
    assert source.name == str(path) and len(source) == 6
    assert source.where(3) == source.record(3).where == PLACES[write]
    expected = RECORDS if SHORT in RECORDS and write not in (parquet, saved_dataset) else LONG
    copy = pickle.loads(pickle.dumps(source))
    for i in (5, 0, 3, 1, 4, 2):  # any order
        conversation = source.record(i).conversation
        assert task_of(conversation) == TASKS[i]
        names = expected[i].get("images") or [
            expected[i][k] for k in ("image",) if k in expected[i]
        ]
        assert color(source, i) == color(copy, i) == names
        assert copy.record(i).conversation == conversation
        if "messages" in expected[i]:
            record = to_record(conversation)
            for key in ("messages", "image_loss"):
                assert record.get(key) == _stripped(expected[i]).get(key)
    assert source.record(3).conversation.id == "edit-1"
    assert source.record(1).conversation.id == source.where(1)


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda write: write.__name__)
def test_forked_processes_read_on(write: Write, tmp_path: Path):
    """A source that was read before the fork is read by the child at once, with threads too."""
    source = open_source(write(tmp_path))
    source.record(0)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as child:
        found = child.submit(_colors_by_threads, source).result(timeout=30)
    assert found == _colors_by_threads(source) and found[4] == ["green.png", "red.png"]


def _colors_by_threads(source: Source) -> list[list[str]]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda i: color(source, i), range(len(source))))


def _stripped(record: dict[str, Any]) -> dict[str, Any]:
    """Blanks beside a placeholder are not kept."""
    text = json.dumps(record).replace("<image>\\n", "<image>")
    for blank in ("<image> ", " <image>"):
        text = text.replace(blank, "<image>")
    return json.loads(text)


def test_a_folder_of_pictures(tmp_path: Path):
    for name, folder in (("red.png", "long_dress"), ("green.png", "hat"), ("blue.png", ".cache")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(png(name))
    (tmp_path / "hat" / "notes.txt").write_text("no picture")
    source = open_source(tmp_path)
    assert [source.where(i) for i in range(len(source))] == ["hat/green.png", "long_dress/red.png"]
    captions = [caption_of(source.record(i).conversation) for i in range(2)]
    assert captions == ["hat", "long dress"]
    assert color(source, 1) == ["red.png"]
    assert [open_source(tmp_path / "hat").record(0).conversation.messages[0].parts] == [("hat",)]


def test_blank_lines_do_not_shift_numbers(tmp_path: Path):
    path = write_jsonl(tmp_path / "x.jsonl", [SHORT])
    path.write_text("\n\n" + path.read_text() + "\n" + json.dumps(EDITING))
    source = open_source(path)
    assert [source.where(i) for i in range(len(source))] == ["x.jsonl:3", "x.jsonl:5"]
    assert source.record(1).conversation.id == "edit-1"


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_upright_size_of_a_turned_picture(kind: str, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / f"turned.{kind}", exif=exif)
    record = open_source(tmp_path).record(0)
    assert record.size(0) == record.image(0).size == (4, 8)


def test_a_turned_picture_with_damaged_exif(tmp_path: Path):
    """A resolution's unit below 0 cannot be written again, and need not be."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0128] = 6, 2
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    content = (tmp_path / "turned.jpg").read_bytes()
    unit = struct.pack(">HHIHH", 0x0128, 3, 1, 2, 0)
    assert unit in content
    worse = struct.pack(">HHIhH", 0x0128, 8, 1, -2, 0)
    (tmp_path / "turned.jpg").write_bytes(content.replace(unit, worse))
    with Image.open(tmp_path / "turned.jpg") as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    record = open_source(tmp_path).record(0)
    assert record.size(0) == record.image(0).size == (4, 8)


def test_a_picture_whose_exif_is_cut_off(tmp_path: Path):
    Image.new("RGB", (8, 4)).save(tmp_path / "cut.png", exif=b"Exif\0\0MM\0*")
    record = open_source(tmp_path).record(0)
    assert record.size(0) == record.image(0).size == (8, 4)


# Tar


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    import tarfile

    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, BytesIO(data))
    return path


def test_pictures_of_a_key_are_ordered_by_number(tmp_path: Path):
    colors = [list(COLORS)[k % 3] for k in range(12)]
    members = {f"a/x.{k}.png": png(colors[k]) for k in (10, 2, 0, 1, 11, 3, 4, 5, 6, 7, 8, 9)}
    record = {"messages": [{"role": "assistant", "content": "<image>" * 12}]}
    path = write_tar(tmp_path / "x.tar", {"a/x.json": json.dumps(record).encode(), **members})
    source = open_source(path)
    assert source.where(0) == "x.tar:a/x" and color(source, 0) == colors


def test_named_pictures_of_a_key(tmp_path: Path):
    record = json.dumps({**EDITING, "images": ["before.png", "k.after.png"]}).encode()
    members = {"k.after.png": png("blue.png"), "k.before.png": png("red.png"), "k.json": record}
    assert color(open_source(write_tar(tmp_path / "x.tar", members)), 0) == ["red.png", "blue.png"]
    del members["k.after.png"]
    with pytest.raises(DataError, match=r"^x\.tar:k: there is no picture k\.after\.png; .* before"):
        open_source(write_tar(tmp_path / "x.tar", members)).record(0)


def test_a_caption_beside_metadata(tmp_path: Path):
    metadata = json.dumps({"url": "http://...", "width": 8}).encode()
    members = {"7.png": png("red.png"), "7.json": metadata, "7.txt": b"a red square\n"}
    conversation = open_source(write_tar(tmp_path / "x.tar", members)).record(0).conversation
    assert caption_of(conversation) == "a red square"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"a.png": b""}, "x.tar:a: neither .json nor .txt for png"),
        ({"a.txt": b"hello"}, "x.tar:a: a caption needs one picture, not 0"),
        ({"a.txt": b"\xff\x80", "a.png": b""}, "x.tar:a: its .txt is not UTF-8 text"),
        ({"a.json": b"{", "a.png": b""}, "x.tar:a: not JSON"),
        ({"a.json": b"[]", "a.png": b""}, "x.tar:a: its .json is no object"),
        ({"a.json": b'{"label": 3}', "a.png": b""}, "x.tar:a: its keys are label, image; a record"),
    ],
)
def test_faults_in_a_tar(tmp_path: Path, members: dict[str, bytes], fault: str):
    source = open_source(write_tar(tmp_path / "x.tar", members))
    with pytest.raises(DataError) as error:
        source.record(0)
    assert str(error.value).startswith(fault)


def test_tars_that_are_none(tmp_path: Path):
    path = write_tar(tmp_path / "x.tar", {"a.txt": b"x" * 2000, "a.png": png("red.png")})
    whole = path.read_bytes()
    for data, fault in (
        (b"no tar at all" * 100, "no whole, uncompressed tar"),
        (whole[:1000], "no whole, uncompressed tar|cut short"),
        (write_tar(path, {"README": b"x"}).read_bytes(), "holds no members named KEY"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=fault):
            open_source(path)


# Faults of paths, pictures and tables


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (
            None,
            r"^train\.jsonl:6: blue\.png does not exist or may not be read; it was looked for at .*blue\.png$",
        ),
        (b"", r"^train\.jsonl:6: blue\.png is no readable picture \(its format is not known\)"),
        (png("blue.png", (64, 64))[:-30], r"^train\.jsonl:6: blue\.png is no readable picture"),
    ],
)
def test_broken_pictures_are_named(tmp_path: Path, data: bytes | None, fault: str):
    source = open_source(jsonl(tmp_path))
    (tmp_path / "blue.png").unlink()
    if data is not None:
        (tmp_path / "blue.png").write_bytes(data)
    record = source.record(5)
    with pytest.raises(DataError, match=fault):
        record.image(0)


def test_broken_pictures_in_containers(tmp_path: Path):
    members = {"a.txt": b"x", "a.png": b"broken"}
    record = open_source(write_tar(tmp_path / "x.tar", members)).record(0)
    for read in (record.image, record.size):
        with pytest.raises(DataError, match=r"^x\.tar:a: png is no "):
            read(0)


def test_json_that_is_none(tmp_path: Path):
    path = write_jsonl(tmp_path / "x.jsonl")
    path.write_bytes(path.read_bytes() + b'{"messages": \n\xff\n' + b'{"id": %s}\n' % (b"1" * 5000))
    source = open_source(path)
    for index, fault in (
        (6, r"^x\.jsonl:7: not JSON \(.* at column 13\)"), (7, "UTF-8"), (8, "x.jsonl:9: not JSON")
    ):  # fmt: skip
        with pytest.raises(DataError, match=fault):
            source.record(index)


def test_paths_that_hold_nothing(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "x.jsonl").write_text("\n\n")
    (tmp_path / "both").mkdir()
    write_jsonl(tmp_path / "both/x.jsonl")
    write_tar(tmp_path / "both/x.tar", {"a.txt": b""})
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes/shard_00000.safetensors").write_bytes(b"")
    for name, fault in (
        ("none", "does not exist"),
        ("empty", "holds no data"),
        ("x.csv", "is no data file; name a folder"),
        ("x.jsonl", "holds no records"),
        ("both", "holds both .jsonl and .tar files"),
        ("codes", "holds code shards"),
    ):
        with pytest.raises(DataError, match=fault):
            open_source(tmp_path / name)


def test_jsonl_of_another_format_is_refused_at_once(tmp_path: Path):
    write_jsonl(tmp_path / "labels.jsonl", [{"file": "red.png", "label": "square"}])
    with pytest.raises(DataError) as error:
        open_source(tmp_path)
    message = str(error.value)
    assert f"{tmp_path / 'labels.jsonl'}:1: its keys are file, label; a record needs" in message
    assert "name a folder that holds no .jsonl" in message


def test_tables_of_other_columns(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for columns, fault in (
        ({"url": ["x"], "label": [1]}, "its columns are url, label; a record needs messages"),
        ({"image": ["x"], "text": ["y"], "score": [1]}, "no key 'score'. Its columns may be image"),
        ({"messages": [[]], "imagess": [[]]}, "no key 'imagess'. Did you mean 'images'?"),
        ({"image": pa.array([], pa.string()), "text": pa.array([], pa.string())}, "holds no rows"),
    ):
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=fault.replace("?", r"\?")):
            open_source(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(DataError, match="no whole Parquet file"):
        open_source(tmp_path / "x.parquet")


def test_captioned_tables(tmp_path: Path):
    """Pictures as bytes, as paths and as structs without bytes; a row without any is named."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_jsonl(tmp_path / "ignored" / "x.jsonl")
    columns = [
        [png("red.png")],
        ["ignored/red.png"],
        [{"bytes": None, "path": "ignored/red.png"}],
    ]
    for column in columns:
        pq.write_table(pa.table({"image": column, "text": ["red"]}), tmp_path / "x.parquet")
        source = open_source(tmp_path / "x.parquet")
        assert color(source, 0) == ["red.png"]
        assert caption_of(source.record(0).conversation) == "red"
    struct = pa.array(
        [{"bytes": None, "path": None}], pa.struct({"bytes": "binary", "path": "str"})
    )
    pq.write_table(pa.table({"image": struct, "text": ["red"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet:row 0: picture 0 has neither bytes nor a"):
        open_source(tmp_path / "x.parquet").record(0).image(0)


def test_a_row_group_of_more_than_2_gb(tmp_path: Path):
    """2,100 pictures of 1 MB, as one dictionary entry: whole, their bytes would not fit one array."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 2100
    large = pa.array([png("red.png").ljust(2**20, b"\0")], pa.binary())
    pictures = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), large)
    image = pa.StructArray.from_arrays([pictures, pa.array(["x.png"] * count)], ["bytes", "path"])
    table = pa.table({"image": image, "text": [f"number {i}" for i in range(count)]})
    pq.write_table(table, tmp_path / "x.parquet", store_schema=False)  # read as plain bytes
    assert pq.read_metadata(tmp_path / "x.parquet").num_row_groups == 1
    source = open_source(tmp_path / "x.parquet")
    assert len(source) == count
    for index in (3, 0, 65):
        assert color(source, index) == ["red.png"]
        assert caption_of(source.record(index).conversation) == f"number {index}"
    assert pa.total_allocated_bytes() < 2**28


def test_a_row_group_is_not_read_whole(tmp_path: Path):
    """64 of 300 pictures of 128 kB: 8 MB, beside them pages of 8 pictures, and not the other 30 MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    pictures = [{"bytes": random.bytes(2**17), "path": "x.png"} for _ in range(300)]
    table = pa.table({"image": pictures, "text": ["red"] * 300})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False, write_batch_size=8)
    assert pq.read_metadata(tmp_path / "x.parquet").num_row_groups == 1
    source = open_source(tmp_path / "x.parquet")
    del table
    before = pa.total_allocated_bytes()
    source.record(0)
    assert 2**23 <= pa.total_allocated_bytes() - before < 2 * 2**23


def test_the_last_rows_of_a_row_group_are_kept(monkeypatch: pytest.MonkeyPatch):
    import pyarrow as pa

    batches = pa.table({"n": list(range(12))}).to_batches(4)  # 32 bytes each
    monkeypatch.setattr(source_table, "KEPT_BYTES", 64)
    begun: list[int] = []

    def read() -> Iterator[Any]:
        begun.append(1)
        return iter(batches)

    rows = source_table._RowGroup(read)
    for index, times in ((0, 1), (11, 1), (4, 1), (3, 2), (0, 2), (7, 2)):
        assert rows.row(index) == {"n": index} and len(begun) == times
    with pytest.raises(ValueError, match="ends after 12 rows"):
        rows.row(12)
    assert rows.row(5) == {"n": 5}


@pytest.mark.parametrize("name", ["ArrowNotImplementedError", "ArrowInvalid", "ArrowException"])
def test_rows_that_arrow_cannot_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def fails(*args: Any, **options: Any) -> Any:
        raise getattr(pa, name)("not this\nand more")

    source = open_source(parquet(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "iter_batches", fails)
        with pytest.raises(
            DataError, match=r"^train-0\.parquet:row 3: cannot be read \(not this\);"
        ):
            source.record(3)
    assert source.record(3).conversation.id == "edit-1"
    monkeypatch.setattr(pq, "ParquetFile", fails)
    with pytest.raises(DataError, match=r"is no whole Parquet file \(not this\); copy it again$"):
        open_source(tmp_path)


def test_a_dataset_of_splits_is_refused(tmp_path: Path):
    import datasets

    datasets.disable_progress_bars()
    split = datasets.Dataset.from_dict({"image": ["a"], "text": ["b"]})
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "all")
    with pytest.raises(DataError, match="holds splits; name one of test, train"):
        open_source(tmp_path / "all")
    assert len(open_source(tmp_path / "all" / "train")) == 1
    next((tmp_path / "all" / "train").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="no whole saved dataset"):
        open_source(tmp_path / "all" / "train")


def test_files_that_go_away(tmp_path: Path):
    path = jsonl(tmp_path)
    source = open_source(path)
    path.unlink()
    with pytest.raises(DataError, match=r"^train\.jsonl:1: .* cannot be read any more"):
        source.record(0)
    path = write_tar(tmp_path / "x.tar", {"a.txt": b"a", "a.png": png("red.png")})
    source = open_source(path)
    record = source.record(0)
    path.unlink()
    with pytest.raises(DataError, match=r"^x\.tar:a: .* cannot be read any more"):
        record.image(0)


def test_libraries_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for path, name in ((parquet(tmp_path), "pyarrow"), (saved_dataset(tmp_path), "datasets")):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.parquet", None)
        with pytest.raises(
            DataError, match=rf"tables need {name}, .* pip install 'arm-lmm\[data\]'"
        ):
            open_source(path)
        monkeypatch.undo()
