"""The authors' files of a benchmark: where they may lie, how they are read, and what is wrong with them.

A benchmark is read from the folder that the user names: a clone of the authors' repository, or the
data set as their instructions leave it. Each loader lists the relative paths that it tries.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from arm.data.images import open_image
from arm.data.parquet_files import arrow_errors, library, whole_parquet
from arm.errors import DataError, InputError
from arm.evals.benchmarks.base import Benchmark, Item
from arm.files import parse_json, path_inside, read_text

ARROW_SUFFIX = ".arrow"
Picture = UInt8[np.ndarray, "h w 3"]

# Where files lie


def find_file(directory: Path, names: Sequence[str], benchmark: str) -> Path:
    """The first of the relative paths `names` that is a file. Raises DataError for none."""
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise not_here(directory, names, benchmark)


def find_tables(directory: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of the first pattern that matches any, in order; none where no pattern does."""
    matches = (sorted(directory.glob(pattern)) for pattern in patterns)
    visible = ([p for p in paths if not p.name.startswith(".")] for paths in matches)
    return next((paths for paths in visible if paths), [])


def not_here(directory: Path, names: Sequence[str], benchmark: str) -> DataError:
    """The error for a folder that holds none of the expected files."""
    if not directory.is_dir():
        return DataError(f"{directory} is not a folder; name the one with the files of {benchmark}")
    return DataError(f"{directory} does not hold {benchmark}: expected {' or '.join(names)} in it")


def image_folder(benchmark: Benchmark, items: Sequence[Item], directory: Path) -> Path:
    """Where the benchmark's own pictures lie: the user's folder or one of the authors' folders in it.

    The first one that holds a picture of the items; the user's folder where none does.
    """
    names = [item.image for item in items if item.image is not None]
    folders = [directory, *(directory / name for name in benchmark.image_folders)]
    present = [folder for folder in folders if folder.is_dir()]
    holding = (f for f in present if any((f / name).is_file() for name in names))
    return next(holding, directory)


def missing_hint(benchmark: Benchmark, items: Sequence[Item], folder: Path) -> str:
    """Where pictures were expected, where none of the items' is in a folder; "" where one is."""
    names = [item.image for item in items if item.image is not None]
    if not names or any((folder / name).is_file() for name in names):
        return ""
    places = ", ".join(str(folder / name) for name in ("", *benchmark.image_folders))
    return f"; the pictures were looked for in {places}; name their folder with --images"


# What is in them


def text_of(path: Path) -> str:
    """The text of a file, whatever system wrote it. Raises DataError."""
    try:
        return read_text(path)
    except InputError as error:
        raise DataError(str(error)) from None


def read_json(path: Path) -> Any:
    """Raises DataError for a file that is not JSON."""
    try:
        return parse_json(text_of(path))
    except ValueError as error:
        raise DataError(f"{path} is not a JSON file ({error})") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Raises DataError for a file that holds anything else than one JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object; is it another version of the file?")
    return content


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a JSON Lines file. Raises DataError that names the bad line."""
    # Not splitlines: a string may hold other line separators, such as U+2028.
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            content = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}:{number}: not a JSON object")
        yield number, content


def require_list(content: Any, where: str) -> list[Any]:
    """Raises DataError for anything else than a list."""
    if not isinstance(content, list):
        raise DataError(f"{where} is not a list; is it another version of the file?")
    return content


def require(data: Mapping[str, Any], key: str, where: str) -> Any:
    """A field of an object. Raises DataError that says where it is missing."""
    if not isinstance(data, Mapping) or key not in data:
        raise DataError(
            f"{where}: the field '{key}' is missing; is it another version of the file?"
        )
    return data[key]


def require_text(data: Mapping[str, Any], key: str, where: str) -> str:
    """A field that holds a string. Raises DataError for anything else."""
    content = require(data, key, where)
    if not isinstance(content, str):
        raise DataError(
            f"{where}: the field '{key}' is not a string; is it another version of the file?"
        )
    return content


def table_rows(
    paths: Sequence[Path], columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of Parquet files, or of the Arrow files that `datasets.save_to_disk` writes.

    columns: those that must exist. optional: those that are read where they exist. Raises DataError
    for a damaged file or a missing column.
    """

    def selected(path: Path, names: Sequence[str]) -> list[str]:
        missing = [column for column in columns if column not in names]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}")
        return [*columns, *(column for column in optional if column in names)]

    for path in paths:
        if path.suffix == ARROW_SUFFIX:
            pyarrow = library("pyarrow")
            try:
                with pyarrow.memory_map(str(path)) as source:
                    reader = pyarrow.ipc.open_stream(source)
                    names = selected(path, reader.schema.names)
                    for batch in reader:
                        yield from batch.select(names).to_pylist()
            except arrow_errors() as error:
                raise DataError(f"{path} is not a whole Arrow file ({error})") from None
        else:
            with whole_parquet(path) as file:
                names = selected(path, file.schema_arrow.names)
                for batch in file.iter_batches(columns=names):
                    yield from batch.to_pylist()


# The benchmark's own pictures


def read_picture(path: Path) -> Picture | None:
    """A picture's pixels as the model sees them; None where it is missing, broken or too large."""
    try:
        return np.asarray(open_image(path))
    except InputError:
        return None


def source_paths(images: Path, item: Item) -> list[Path]:
    """All pictures of an item, each once. Raises InputError where it has none, or where one is missing or lies
    outside of `images`.
    """
    names = list(dict.fromkeys(item.images.values())) or ([item.image] if item.image else [])
    if not names:
        raise InputError(f"item {item.id} names no picture")
    paths = [path_inside(images, name) for name in names]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing")
    return paths


def source_path(images: Path, item: Item) -> Path:
    """The one picture of an item, or its first. Raises InputError where there is none."""
    return source_paths(images, item)[0]


def shown_source(images: Path, item: Item) -> Path | None:
    """The picture of an item as a report shows it; None where it has none, or one outside of `images`."""
    try:
        return None if item.image is None else path_inside(images, item.image)
    except InputError:
        return None


class Fingerprints:
    """SHA-256 hashes of pictures' bytes; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, paths: Sequence[Path]) -> str:
        """The hash of one file, or of the hashes of several in order.

        Raises InputError for a file that cannot be read.
        """
        for path in paths:
            if path not in self._known:
                try:
                    self._known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError as error:
                    raise InputError(f"{path} cannot be read ({error})") from None
        each = [self._known[path] for path in paths]
        return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()
