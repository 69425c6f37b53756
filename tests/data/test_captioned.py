"""Captioned pictures: buckets by shape, batches as pure functions, broken pictures passed over."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from arm.data import captioned
from arm.data.captioned import (
    Buckets,
    PictureBatch,
    captioned_batch,
    open_buckets,
    sort_share,
)
from arm.data.images import GridWeight, to_bytes
from arm.data.records import Skipped
from arm.data.sources import open_source
from arm.errors import DataError

GRIDS = (GridWeight(2, 2), GridWeight(2, 4, 0.5), GridWeight(4, 2))
PATCH = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve square pictures of as many greys and eight wide ones, in two labelled folders."""
    for label, size, count in (("square", (20, 20), 12), ("wide_one", (40, 21), 8)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(count):
            color = (10 * k, 10 * k, 10 * k)
            Image.new("RGB", size, color).save(tmp_path / "data" / label / f"{k:02d}.png")
    return tmp_path / "data"


def opened(folder: Path) -> Buckets:
    run = folder.parent / "run"
    return open_buckets(open_source(folder), GRIDS, run, Skipped(run / "skipped.jsonl"))


def greys(batch: PictureBatch) -> list[int]:
    pixels = to_bytes(batch.images)
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def test_buckets_by_shape(folder: Path):
    buckets = opened(folder)
    sizes = {ratio: len(found) for ratio, found in buckets.members.items()}
    assert sizes == {(1, 1): 12, (1, 2): 8, (2, 1): 0} and len(buckets) == 20
    source = buckets.source
    assert all(source.where(int(i)).startswith("wide_one/") for i in buckets.members[1, 2])


def test_grids_of_one_ratio_share_its_pictures(folder: Path):
    """Which of them a batch has is decided by their weights alone, 3 to 1."""
    grids = (GridWeight(3, 3, 3.0), GridWeight(2, 2, 1.0))
    run = folder.parent / "run"
    buckets = open_buckets(open_source(folder / "square"), grids, run, Skipped(run / "skipped"))
    assert {ratio: len(found) for ratio, found in buckets.members.items()} == {(1, 1): 12}
    sides = [captioned_batch(buckets, 0, s, 1, grids, PATCH).images.shape[-1] for s in range(300)]
    assert set(sides) == {16, 24}
    assert abs(sides.count(24) / 300 - 0.75) < 0.125  # five standard deviations


def test_larger_grids_take_pictures_that_are_large_enough(tmp_path: Path):
    """Squares of 20, 30, 64 and 400 pixels for grids of 16, 32 and 64; at most a quarter more is made up."""
    for side in (20, 30, 64, 400):
        (tmp_path / "data" / f"of {side}").mkdir(parents=True)
        Image.new("RGB", (side, side + 1)).save(tmp_path / "data" / f"of {side}" / "x.png")
    run, source = tmp_path / "run", open_source(tmp_path / "data")
    grids = tuple(GridWeight(n, n) for n in (8, 2, 4))
    for _ in range(2):  # also as they are kept
        buckets = open_buckets(source, grids, run, Skipped(run / "skipped"))
        assert buckets.units.tolist() == [20, 30, 400, 64]
    captions: dict[int, set[str]] = {16: set(), 32: set(), 64: set()}
    for step in range(60):
        batch = captioned_batch(buckets, 0, step, 1, grids, PATCH)
        captions[batch.images.shape[-1]].add(batch.captions[0])
    assert captions == {
        16: {"of 20", "of 30", "of 64", "of 400"},
        32: {"of 30", "of 64", "of 400"},
        64: {"of 64", "of 400"},
    }
    alone = captioned_batch(buckets, 0, 0, 4, (GridWeight(8, 8),), PATCH)
    assert len(set(alone.captions)) == 4  # the smallest grid that is offered takes all


def test_processes_share_the_sorting(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Seven parts of three records: one process sorts four of them, another the rest; together they are
    what one alone finds, and no part is sorted twice.
    """
    alone = opened(folder)
    monkeypatch.setattr(captioned, "PART", 3)
    run, source = folder.parent / "together", open_source(folder)
    skipped = Skipped(run / "skipped.jsonl")
    shares = [sort_share(source, GRIDS, run, skipped, rank, 2) for rank in (0, 1)]
    assert [len(share) for share in shares] == [4, 3]
    monkeypatch.setattr(captioned, "_sort", None)
    both = open_buckets(source, GRIDS, run, skipped)
    assert both.members.keys() == alone.members.keys()
    assert all((both.members[r] == alone.members[r]).all() for r in alone.members)


def test_buckets_are_kept_for_the_same_source_and_grids(folder: Path):
    opened(folder)
    run = folder.parent / "run"
    (path,) = run.glob("buckets-*/part-00000.safetensors")
    kept = load_file(path)
    with safe_open(path, framework="np") as file:
        stamps = file.metadata()
    save_file(kept | {"1:1": kept["1:1"][:5]}, path, stamps)
    assert len(opened(folder).members[1, 1]) == 5  # as it was kept
    path.write_text("{")
    assert len(opened(folder).members[1, 1]) == 12  # damaged: made anew
    save_file(kept | {"1:1": kept["1:1"][:0]}, path, stamps)
    Image.new("RGB", (20, 20)).save(folder / "square" / "new.png")
    assert len(opened(folder).members[1, 1]) == 13  # another length


def test_a_batch_is_a_pure_function(folder: Path):
    buckets = opened(folder)
    for step in range(4):
        one = captioned_batch(buckets, 3, step, 6, GRIDS, PATCH)
        two = captioned_batch(opened(folder), 3, step, 6, GRIDS, PATCH)
        assert torch.equal(one.images, two.images) and one.captions == two.captions
        assert one.details == one.captions and one.truths == () and one.twins is None
        wide = one.captions[0] == "wide one"
        assert set(one.captions) == {"wide one" if wide else "square"}
        assert one.images.shape == (6, 3, 16, 32 if wide else 16)
        assert len(set(greys(one))) == 6  # different pictures
    assert greys(captioned_batch(buckets, 3, 0, 6, GRIDS, PATCH)) != greys(
        captioned_batch(buckets, 4, 0, 6, GRIDS, PATCH)
    )


def test_grids_are_drawn_by_count_and_weight(folder: Path):
    buckets = opened(folder)
    drawn = [captioned_batch(buckets, 0, s, 1, GRIDS, PATCH).captions[0] for s in range(300)]
    share = drawn.count("square") / 300  # 12 x 1 against 8 x 0.5
    assert abs(share - 0.75) < 0.125  # five standard deviations
    with pytest.raises(DataError, match="no picture for any grid of weight above 0"):
        captioned_batch(buckets, 0, 0, 1, (GridWeight(4, 2),), PATCH)


def test_more_than_there_are_repeats_all_of_them(folder: Path):
    batch = captioned_batch(opened(folder), 0, 0, 20, (GridWeight(2, 4),), PATCH)
    counts = np.unique(greys(batch), return_counts=True)[1]
    assert len(counts) == 8 and counts.min() == 2 and counts.max() == 3


def test_broken_pictures_are_passed_over(folder: Path):
    path = folder / "square" / "03.png"
    path.write_bytes(b"no picture")
    buckets = opened(folder)
    assert len(buckets.members[1, 1]) == 11 and len(buckets.skipped) == 1  # its header is broken
    path = folder / "square" / "05.png"
    path.write_bytes(path.read_bytes()[:60])  # its header is whole
    square = (GridWeight(2, 2),)
    batches = [captioned_batch(buckets, 1, step, 8, square, PATCH) for step in range(5)]
    assert all(50 not in greys(batch) and len(greys(batch)) == 8 for batch in batches)
    again = captioned_batch(opened(folder), 1, 2, 8, square, PATCH)
    assert torch.equal(again.images, batches[2].images)
    lines = [json.loads(line) for line in buckets.skipped.path.read_text().splitlines()]
    places = [f"{folder}: square/03.png", f"{folder}: square/05.png"]
    assert [line["where"] for line in lines] == places
    assert (
        "no readable picture" in lines[0]["reason"] and "no readable picture" in lines[1]["reason"]
    )


def test_a_grid_without_a_readable_picture(folder: Path):
    buckets = opened(folder)
    for path in (folder / "wide_one").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 8 pictures for the grid 2x4 can be read"):
        captioned_batch(buckets, 0, 0, 2, (GridWeight(2, 4),), PATCH)
    for path in (folder / "square").iterdir():
        path.write_bytes(b"")
    (folder / "square" / "00.png").unlink()
    with pytest.raises(DataError, match=r"no readable picture with a caption; .*19 were skipped"):
        opened(folder)
