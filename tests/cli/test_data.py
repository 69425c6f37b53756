"""`arm data` and `arm encode` of data, as a user types them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import Call, TinyChain
from user_data import SHORT, png, write_jsonl, write_video

DOCS = Path(__file__).parents[2] / "docs/data"


def test_check(call: Call, tmp_path: Path):
    code, out, _ = call("data", "check", DOCS, "--json", tmp_path / "report.json")
    assert code == 0 and "interleaved" in out and "64 / 64 / 64" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["records"], report["images"], report["num_faults"]) == (6, 7, 0)


def test_check_with_faults(call: Call, tmp_path: Path):
    path = write_jsonl(tmp_path / "x.jsonl", [SHORT, {}, SHORT, {"messages": []}])
    (tmp_path / "blue.png").unlink()
    code, out, _ = call("data", "check", path, "--max-faults", 2)
    assert code == 1
    assert "x.jsonl:1: blue.png does not exist" in out and "x.jsonl:2: its keys are none" in out
    assert "... and 2 more" in out and "x.jsonl:4" not in out.split("x.jsonl:2")[1]
    code, out, _ = call("data", "check", path, "--no-images")
    assert code == 1 and "blue.png" not in out and "x.jsonl:4: messages is empty" in out
    code, out, err = call("data", "check", tmp_path / "none")
    assert code == 2 and not out and "does not exist; name a folder" in err and "\n" not in err[:-1]


def test_check_of_names_and_texts_that_cannot_be(call: Call, tmp_path: Path):
    """Each is a fault of its record, printed on one line whatever its bytes."""
    records = [
        {**SHORT, "image": "data:image/jpeg;base64," + "x" * 8000},
        {**SHORT, "text": "a red star \ud83d"},
        {**SHORT, "\udce4": 1},
    ]
    write_jsonl(tmp_path / "\udce4.jsonl", records)
    code, out, _ = call("data", "check", tmp_path / "\udce4.jsonl")
    faults = [line for line in out.splitlines() if line.startswith("\\udce4.jsonl:")]
    assert code == 1 and len(faults) == 3 and max(map(len, faults)) < 1000
    reasons = ("does not exist", "text holds '\\ud83d'", "no key '\\udce4'")
    assert all(reason in fault for reason, fault in zip(reasons, faults, strict=True)), faults


def test_pictures_outside_need_a_flag(call: Call, chain: TinyChain, tmp_path: Path):
    (tmp_path / "red.png").write_bytes(png("red.png"))
    path = write_jsonl(tmp_path / "set/x.jsonl", [{**SHORT, "image": "../red.png"}, SHORT])
    code, out, _ = call("data", "check", path)
    assert code == 1 and "x.jsonl:1: the picture ../red.png lies outside of" in out
    assert call("data", "check", path, "--allow-outside")[0] == 0
    encode = ("encode", path, "--model", chain.model, "--out")
    code, out, _ = call(*encode, tmp_path / "a")
    assert code == 0 and "1 shards with 1 pictures" in out and "1 records skipped, see" in out
    code, out, _ = call(*encode, tmp_path / "b", "--allow-outside")
    assert code == 0 and "1 shards with 2 pictures" in out and "skipped" not in out


def test_one_picture_does_not_end_a_run(call: Call, chain: TinyChain, tmp_path: Path):
    """Sizes whose cut is rounded, and files that are none, in a folder; what is left out is named."""
    for k, size in enumerate([(1000, 907), (512, 492), (30, 29), (1, 1), (3, 900)]):
        Image.new("RGB", size, (10 * k, 0, 0)).save(tmp_path / f"{k}.png")
    (tmp_path / "broken.png").write_bytes(b"junk")
    (tmp_path / "notes.txt").write_text("x")
    code, out, _ = call("encode", tmp_path, "--model", chain.model, "--out", tmp_path / "codes")
    assert code == 0 and "1 shards with 5 pictures" in out and "1 records skipped" in out
    assert "left out: files ending in .txt, which are not read here: 1 (notes.txt)" in out
    assert json.loads((tmp_path / "codes/skipped.jsonl").read_text())["where"] == "broken.png"


def test_convert_of_videos(call: Call, tmp_path: Path):
    write_video(tmp_path / "a.mp4", frames=20)
    code, out, _ = call("data", "convert", "video", tmp_path, tmp_path / "out", "--every", 6)
    assert code == 0 and "train.jsonl: 1 records" in out
    code, out, _ = call("data", "check", tmp_path / "out")
    assert code == 0 and "interleaved" in out and "64 / 64 / 64" in out
    code, _, err = call("data", "convert", "video", tmp_path / "none", tmp_path / "b")
    assert code == 2 and "is no video and no folder with any" in err


def test_convert(call: Call, tmp_path: Path):
    row = {"source_image": png("red.png"), "edited_image": png("blue.png"), "edit_prompt": "blue"}
    pq.write_table(pa.Table.from_pylist([row, {**row, "edit_prompt": ""}]), tmp_path / "x.parquet")
    code, out, _ = call("data", "convert", "ultraedit", tmp_path / "x.parquet", tmp_path / "out")
    assert code == 0 and "train.jsonl: 1 records; 1 rows skipped, see" in out
    assert (tmp_path / "out/skipped.jsonl").is_file()
    code, out, _ = call("data", "check", tmp_path / "out")
    assert code == 0 and "editing" in out
    code, _, err = call("data", "convert", "magicbrush", tmp_path / "x.parquet", tmp_path / "b")
    assert code == 2 and "needs the column 'target_img'; the columns are source_image" in err
    code, _, err = call("data", "convert", "ultraedit", tmp_path / "x.parquet", tmp_path / "out")
    assert code == 2 and "train.jsonl is there already and would be replaced; name a new" in err


def test_encode(chain: TinyChain, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    encode = ("encode", DOCS, "--model", chain.model)
    code, out, _ = call(*encode, "--shard-size", 4)
    assert code == 0 and "codes: 2 shards with 7 pictures written" in out
    assert "encode 2/2" in out and "pictures/s" in out
    assert (tmp_path / "codes/shard_00001.jsonl").is_file()
    code, _, err = call(*encode, "--shard-size", 5)
    assert code == 2 and "were made with shard_size 4, not 5" in err
    picture = DOCS / "star.png"
    assert call("encode", picture, "--model", chain.model)[0] == 0
    assert json.loads((tmp_path / "codes.json").read_text())["height"] == 7
    code, _, err = call("encode", tmp_path / "none", "--model", chain.model)
    assert code == 2 and "does not exist" in err


def test_words(call: Call, chain: TinyChain, tmp_path: Path):
    lines = [{"image": "a.png", "text": "a red dress"}, {"image": "a.png", "text": "Blouse"}]
    write_jsonl(tmp_path / "train.jsonl", lines)
    code, out, _ = call("data", "words", tmp_path, "--model", chain.model, "--out", tmp_path / "w")
    assert code == 0 and out.strip().endswith("2 of them new: blouse dress")
    assert (tmp_path / "w/tokenizer.json").is_file()
    assert "skipped" not in out and not (tmp_path / "w/skipped.jsonl").exists()


def test_words_of_broken_records_are_left_out(call: Call, chain: TinyChain, tmp_path: Path):
    write_jsonl(tmp_path / "x.jsonl", [{"messages": []}, {"image": "a.png", "text": "a dress"}, {}])
    words = ("data", "words", tmp_path / "x.jsonl", "--model", chain.model, "--out")
    for _ in range(2):  # what an earlier call skipped is not counted again
        code, out, _ = call(*words, tmp_path / "w")
        assert code == 0 and "1 of them new: dress" in out
        assert f"2 records skipped, see {tmp_path}/w/skipped.jsonl" in out
    lines = [json.loads(x) for x in (tmp_path / "w/skipped.jsonl").read_text().splitlines()]
    assert [line["where"] for line in lines] == ["x.jsonl:1", "x.jsonl:3"]
    code, out, err = call(*words, tmp_path / "x.jsonl")
    assert code == 2 and not out and "x.jsonl cannot be written" in err and err.count("\n") == 1
