"""A line of a chat: which part of it names a picture."""

from pathlib import Path

import pytest

from arm.cli.options import split_picture


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
