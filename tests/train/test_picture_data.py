"""Users' pictures: what is held out, and batches that are a pure function of their number."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arm.data.images import GridWeight
from arm.errors import DataError
from arm.model_directory import find_model
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.train import parallel
from arm.train.picture_data import (
    UserPictures,
    open_pictures,
    report_unknown_captions,
    seed_by_rank,
)
from shades import folder_of

GRIDS = (GridWeight(4, 4), GridWeight(4, 6))


def greys(images: torch.Tensor) -> set[int]:
    return {round(float(x) * 127.5 + 127.5) for x in images.mean((1, 2, 3))}


def opened(tmp_path: Path, square: int, wide: int, held: int) -> UserPictures:
    data = folder_of(tmp_path / "data", square, wide)
    return open_pictures([str(data)], GRIDS, 4, tmp_path / "run", held)


def test_one_of_ten_is_held_out_and_never_trained_on(tmp_path: Path):
    pictures = opened(tmp_path, square=25, wide=12, held=100)
    held = list(pictures.held_out())
    # two of 25 and one of 12, which a walk of every tenth finds: numbers 9 and 19, and 9
    assert sorted(len(batch.captions) for batch in held) == [1, 2]
    tested = set().union(*(greys(batch.images) for batch in held))
    assert len(tested) == 3
    trained: set[int] = set()
    for number in range(60):
        trained |= greys(pictures.batch(0, number, 4).images)
    assert not trained & tested and len(trained) == 34
    assert [b.captions for b in pictures.held_out()] == [b.captions for b in held]


def test_as_many_are_held_out_as_asked_for(tmp_path: Path):
    held = opened(tmp_path, square=60, wide=0, held=2).held_out()
    assert sum(len(batch.captions) for batch in held) == 2


def test_a_batch_is_a_pure_function(tmp_path: Path):
    pictures = opened(tmp_path, 20, 20, 0)
    assert not list(pictures.held_out())
    first, again, other = (pictures.batch(3, number, 4) for number in (5, 5, 6))
    assert torch.equal(first.images, again.images) and first.captions == again.captions
    assert first.images.shape != other.images.shape or not torch.equal(first.images, other.images)
    assert set(first.captions) <= {"cats", "dogs"} and first.details == first.captions
    assert first.truths == () and first.twins is None


def test_several_sources_each_by_its_size(tmp_path: Path):
    one, two = folder_of(tmp_path / "one", 30, 0), folder_of(tmp_path / "two", 0, 10)
    pictures = open_pictures([str(one), str(two)], GRIDS, 4, tmp_path / "run", 0)
    wide = sum(pictures.batch(0, i, 2).images.shape[-1] == 24 for i in range(200))
    assert 30 <= wide <= 70  # a quarter of the pictures


def test_too_few_to_hold_any_out(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"9 pictures are too few to hold one of 10 .*eval_every=0$"
    ):
        opened(tmp_path, square=9, wide=0, held=4)
    with pytest.raises(DataError, match="does not exist"):
        open_pictures([str(tmp_path / "none")], GRIDS, 4, tmp_path / "run", 0)


def test_captions_that_the_tower_cannot_read_are_counted(capsys: pytest.CaptureFixture[str]):
    parts = find_model("micro-sft") / "siglip"
    tower, siglip = load_text_tokenizer(parts), load_siglip(parts)
    report_unknown_captions(["a red star", "a dress", "dress"], tower, siglip)
    assert "1 of 3 captions of the first batch (33%) hold no word" in capsys.readouterr().out
    report_unknown_captions(["a red star"], tower, siglip)
    assert not capsys.readouterr().out


def test_processes_seed_by_rank(monkeypatch: pytest.MonkeyPatch):
    def drawn(rank: int) -> list[float]:
        monkeypatch.setattr(parallel, "rank", lambda: rank)
        torch.manual_seed(7)
        seed_by_rank()
        return torch.rand(3).tolist()

    alone = torch.rand(3, generator=torch.Generator().manual_seed(7)).tolist()
    assert drawn(0) == alone != drawn(1) != drawn(2)
    assert np.allclose(drawn(1), drawn(1))
