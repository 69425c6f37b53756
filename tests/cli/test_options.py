"""Options in groups, files that cannot be written, and which part of a chat line names a picture."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from arm.cli.evaluate import evaluate
from arm.cli.options import option_groups, split_picture, writable_file
from arm.errors import InputError
from conftest import Call


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1)] = 3
    tall: Annotated[bool, typer.Option("--tall")] = False


def test_a_group_is_one_parameter_and_several_options():
    got = []

    @option_groups
    def command(name: str, size: Size, more: int = 5) -> None:
        """What it does."""
        got.append((name, size, more))

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, ["x", "--width", "7", "--tall", "--more", "2"])
    assert result.exit_code == 0, result.output
    assert got == [("x", Size(7, True), 2)]
    assert CliRunner().invoke(app, ["x"]).exit_code == 0 and got[1] == ("x", Size(), 5)
    assert CliRunner().invoke(app, ["x", "--width", "0"]).exit_code == 2
    assert command.__doc__ == "What it does."


def test_every_option_of_eval_has_a_default():
    parameters = inspect.signature(evaluate).parameters
    required = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty]
    assert required == ["benchmark"] and len(parameters) > 25


def test_files_that_can_be_written(tmp_path: Path):
    there = tmp_path / "a.json"
    there.write_text("old")
    for path in (there, tmp_path / "new.json", tmp_path / "no/such/folder/b.json"):
        assert writable_file(path) == path
    assert writable_file(None) is None
    assert writable_file(Path("/dev/stdout")) == Path("/dev/stdout")
    assert there.read_text() == "old" and {p.name for p in tmp_path.iterdir()} == {"a.json"}


def test_files_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a folder"):
        writable_file(tmp_path)
    with pytest.raises(InputError, match="file is not a folder"):
        writable_file(tmp_path / "file/x/y.json")


def test_the_json_file_is_checked_before_the_work(call: Call, tmp_path: Path):
    """The model and the data do not exist, and are not looked for."""
    for command in (
        ("eval", "world", "--model", "nothing"),
        ("eval", "pope", "--data", tmp_path / "nothing"),
        ("plan", "lm:micro_pt"),
        ("bench", "generate", "--model", "nothing"),
    ):
        code, _, errors = call(*command, "--json", tmp_path)
        assert code == 2 and "cannot be written (it is a folder)" in errors, command
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hello: world", (None, "hello: world")),
        ("image of a star", (None, "image of a star")),
        ("imagex.png: words", (None, "imagex.png: words")),
        ("image none.png: what is it?", ("none.png", "what is it?")),
        ("image none.png: is it 12:30?", ("none.png", "is it 12:30?")),
        ("image a.png: what is it?", ("a.png", "what is it?")),
        ("image a.png : is it 12:30?", ("a.png", "is it 12:30?")),
        ("image at 12:30.png: what is it?", ("at 12:30.png", "what is it?")),
        ("image at 12:30.png:is it 12:31?", ("at 12:30.png", "is it 12:31?")),
        ("image a.png:b: what?", ("a.png:b", "what?")),
        ("image C:\\x.png: what?", ("C:\\x.png", "what?")),
    ],
)
def test_paths_with_colons(
    line: str, expected: tuple[str | None, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("a.png", "at 12:30.png", "a.png:b", "C:\\x.png"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert split_picture(line) == expected
