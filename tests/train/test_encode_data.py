"""Users' data becomes the same code shards, however it is made: at once, in parts, in many processes."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.data.code_shards import open_code_shards
from arm.data.conversation import to_record
from arm.data.sources import open_source
from arm.errors import ConfigError, WeightsError
from arm.pipeline import Arm
from arm.train import encode_data
from arm.train.encode_data import EncodeDataRun, main, run_for_model, run_for_tokenizer
from conftest import TinyChain

DOCS = Path(__file__).parents[2] / "docs/data"


@pytest.fixture
def run(chain: TinyChain, tmp_path: Path) -> EncodeDataRun:
    """Shards of two records, four pictures a batch, from the documented samples."""
    made = run_for_model(str(chain.model), DOCS, tmp_path / "codes", shard_size=2)
    return replace(made, batch=4)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_codes_are_those_of_the_model(run: EncodeDataRun, chain: TinyChain):
    summary = main(run)
    assert (summary.shards, summary.pictures, summary.skipped) == (3, 7, 0)
    arm, source = Arm.from_pretrained(chain.model), open_source(DOCS)
    shards = open_code_shards(run.out)
    assert len(shards) == len(source) == 6
    for i, (conversation, codes) in enumerate(shards):
        record = source.record(i)
        kept, original = to_record(conversation), to_record(record.conversation)
        assert {**kept, "images": None} == {**original, "images": None}
        for k, grid in enumerate(codes):
            assert np.array_equal(grid, arm.encode(record.image(k)))


def test_a_run_that_was_stopped_goes_on(run: EncodeDataRun, monkeypatch: pytest.MonkeyPatch):
    main(run)
    whole = files(run.out)
    (run.out / "shard_00001.jsonl").unlink()  # as a kill between the two files leaves it
    (run.out / "shard_00001.safetensors").write_bytes(b"half")
    made: list[int] = []
    original = encode_data.write_code_shard
    monkeypatch.setattr(
        encode_data, "write_code_shard", lambda *given: [made.append(given[1]), original(*given)]
    )
    assert main(run).shards == 1 and made == [1]
    assert files(run.out) == whole
    assert main(run).shards == 0


def test_threads_change_nothing(run: EncodeDataRun, tmp_path: Path):
    main(run)
    main(replace(run, out=tmp_path / "other", workers=5))
    assert files(run.out) == files(tmp_path / "other")


def test_broken_records_are_skipped_and_named(run: EncodeDataRun, tmp_path: Path):
    for label, size in (("wide", (40, 20)), ("tall", (20, 40))):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", size, (60 * k, 0, 0)).save(tmp_path / "data" / label / f"{k}.png")
    (tmp_path / "data/tall/2.png").write_bytes(b"broken")
    summary = main(replace(run, data=tmp_path / "data", out=tmp_path / "out", shard_size=3))
    assert (summary.shards, summary.pictures, summary.skipped) == (3, 7, 1)
    shards = open_code_shards(tmp_path / "out")
    ids = [conversation.id for conversation, _ in shards]
    assert ids == ["tall/0.png", "tall/1.png", "tall/3.png", *(f"wide/{k}.png" for k in range(4))]
    assert [codes[0].shape for _, codes in shards] == [(8, 6)] * 3 + [(6, 8)] * 4
    skipped = json.loads((tmp_path / "out/skipped.jsonl").read_text())
    assert skipped["where"] == "tall/2.png" and "no readable picture" in skipped["reason"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda run: replace(run, shard_size=3), "shard_size 2, not 3"),
        (lambda run: replace(run, grids=((7, 7),)), "grids "),
        (lambda run: replace(run, data=DOCS / "sample.jsonl"), "data "),
    ],
)
def test_other_shards_are_never_mixed(
    run: EncodeDataRun, change: Callable[[EncodeDataRun], EncodeDataRun], key: str
):
    main(run)
    before = files(run.out)
    with pytest.raises(ConfigError, match=f"were made with {key}.*; name another --out"):
        main(change(run))
    assert files(run.out) == before


def test_another_tokenizer_is_refused(run: EncodeDataRun, tmp_path: Path):
    main(run)
    copy = tmp_path / "tokenizer"
    copy.mkdir()
    for name in ("tokenizer.safetensors", "visual_tokenizer.json"):
        (copy / name).write_bytes((run.tokenizer / name).read_bytes())
    assert main(replace(run, tokenizer=copy)).shards == 0  # the same weights elsewhere
    data = bytearray((copy / "tokenizer.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "tokenizer.safetensors").write_bytes(data)
    with pytest.raises(ConfigError, match="were made with tokenizer"):
        main(replace(run, tokenizer=copy))
    (run.out / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"holds shards but no manifest\.json"):
        main(run)


def test_missing_weights(run: EncodeDataRun, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"tokenizer\.safetensors does not exist"):
        main(replace(run, tokenizer=tmp_path / "none"))
    assert not list(run.out.glob("*"))
    copy = tmp_path / "tokenizer"
    copy.mkdir()
    (copy / "tokenizer.safetensors").write_bytes(b"damaged")
    settings = (run.tokenizer / "visual_tokenizer.json").read_bytes()
    (copy / "visual_tokenizer.json").write_bytes(settings)
    for ray in (True, False):
        with pytest.raises(WeightsError, match="is not a whole safetensors file"):
            main(replace(run, tokenizer=copy, ray=ray))
    assert main(run).shards == 3  # what was to be made by the damaged one binds nobody


def test_the_documented_shards(run: EncodeDataRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The line and the Python example of docs/data/README.md hold for its own samples."""
    main(replace(run, shard_size=1000))
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    line = re.search(r"```\n(\{\"id\": \"drawing\".*)\n```", text)
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert line and example
    shown = json.loads(line.group(1).replace("[...]", "[]"))
    written = json.loads((run.out / "shard_00000.jsonl").read_text().splitlines()[2])
    assert shown == {**written, "messages": []}
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example.group(1), "README.md", "exec"), names)
    (codes,) = names["codes"]  # type: ignore[misc]
    assert codes.shape == (7, 7)


@pytest.mark.slow
def test_many_processes_make_the_same_bytes(run: EncodeDataRun, tmp_path: Path):
    main(run)
    summary = main(replace(run, out=tmp_path / "ray", ray=True))
    assert (summary.shards, summary.pictures) == (3, 7)
    assert files(run.out) == files(tmp_path / "ray")


def test_the_tokenizer_of_a_run_is_enough(chain: TinyChain, run: EncodeDataRun, tmp_path: Path):
    """No model is needed, whose last part is made at the end of fine-tuning."""
    main(run)
    alone = run_for_tokenizer(chain.root / "tokenizer", DOCS, tmp_path / "alone", shard_size=2)
    assert alone.grids == tuple((g.height, g.width) for g in chain.tokenizer_run.grids)
    main(replace(alone, grids=run.grids, batch=4))
    for (_, ours), (_, theirs) in zip(
        open_code_shards(tmp_path / "alone"), open_code_shards(run.out), strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_directory_without_a_tokenizer_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"holds no tokenizer\.safetensors; name the directory"):
        run_for_tokenizer(tmp_path, DOCS, tmp_path / "out")


def test_several_sizes_by_the_command(chain: TinyChain, tmp_path: Path, call):
    code, out, err = call(
        "encode", DOCS, "--out", tmp_path / "codes", "--tokenizer", chain.root / "tokenizer",
        "--text-tokenizer", chain.root / "standins/siglip", "--grids", "5x5", "--grids", "6x6,5x7",
    )  # fmt: skip
    assert code == 0, err
    small, large = (open_code_shards(tmp_path / "codes" / name) for name in ("5x5", "6x6_5x7"))
    assert {grid.shape for _, codes in small for grid in codes} == {(5, 5)}
    assert {grid.shape for _, codes in large for grid in codes} <= {(6, 6), (5, 7)}
    assert "the longest of" in out and "7 pictures written" in out


@pytest.mark.parametrize("grids", ["7", "7x0", "7x7;8x8", "axb"])
def test_grids_that_are_none(grids: str, chain: TinyChain, tmp_path: Path, call):
    code, _, err = call("encode", DOCS, "--out", tmp_path / "codes", "--grids", grids)
    assert code != 0 and "are no grids; write rows by columns of tokens" in err
    assert len(err.strip().splitlines()) == 1
