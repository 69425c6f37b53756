"""A folder of users' pictures for tests, each of its own grey."""

from pathlib import Path

from PIL import Image


def folder_of(path: Path, square: int, wide: int) -> Path:
    """Two classes of pictures, each of its own grey, so that every picture is told from all others."""
    for i in range(square + wide):
        size = (16, 16) if i < square else (24, 16)
        name = path / ("cats" if i % 2 else "dogs") / f"{i:03d}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (3 * i, 3 * i, 3 * i)).save(name)
    return path
