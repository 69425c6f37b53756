"""`arm export hf` and `arm export arm`, as typed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from arm.cli.export import export_app
from arm.errors import InputError, WeightsError
from arm.hf import files
from conftest import TinyChain


def run(*words: str | Path) -> list[str]:
    result = CliRunner().invoke(export_app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_there_and_back(chain: TinyChain, tmp_path: Path):
    there, back = tmp_path / "hf", tmp_path / "back"
    assert run("hf", "--model", chain.model, "--out", there) == [str(there)]
    assert run("arm", "--from", there, "--out", back) == [str(back)]
    for name in ("model.safetensors", "config.json", "arm.json", "siglip/model.safetensors"):
        assert (back / name).read_bytes() == (chain.model / name).read_bytes(), name


def test_mistakes(chain: TinyChain, tmp_path: Path):
    with pytest.raises(WeightsError, match="no model 'nano'"):
        run("hf", "--model", "nano", "--out", tmp_path / "hf")
    with pytest.raises(WeightsError, match="no shipped name and no directory"):
        run("arm", "--from", tmp_path / "gone", "--out", tmp_path / "back")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name a new folder"):
        run("hf", "--model", chain.model, "--out", tmp_path / "file")


def test_the_folder_one_is_in(chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run("hf", "--model", chain.model, "--out", ".") == ["."]
    assert Path("config.json").is_file()
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_folder_below_a_file(chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(files, "load_backbone", None)  # it is said before anything is loaded
    with pytest.raises(InputError, match=r"file cannot be written .* name another folder"):
        run("hf", "--model", chain.model, "--out", tmp_path / "file/x")
