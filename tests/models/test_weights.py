"""Weight files: written with a usual mode, and what cannot be read is named in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arm.errors import WeightsError
from arm.files import read_json
from arm.models.weights import load_tensors, save_tensors, weights_hash


def test_others_may_read_what_is_saved(tmp_path: Path):
    old = os.umask(0o022)
    save_tensors({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    os.umask(old)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("read", [load_tensors, read_json, lambda path: weights_hash(path.parent)])
def test_what_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
):
    path = tmp_path / "x.safetensors"
    save_tensors({}, path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(WeightsError, match=r"x\.safetensors may not be read by you"):
        read(path)


def test_what_is_no_file(tmp_path: Path):
    (tmp_path / "file").write_text("{}")
    for read in (load_tensors, read_json):
        with pytest.raises(WeightsError, match="does not exist"):
            read(tmp_path / "none")
        with pytest.raises(WeightsError, match=r"cannot be read \(Is a directory\)"):
            read(tmp_path)
        with pytest.raises(WeightsError, match=r"cannot be read \(Not a directory\)"):
            read(tmp_path / "file/x")
