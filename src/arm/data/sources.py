"""Opens a user's data by the kind of the path.

| path | records |
|---|---|
| `x.jsonl`, or a folder with `*.jsonl` | the lines; pictures lie beside their file (`source_jsonl.py`) |
| `x.tar`, or a folder with `*.tar` | WebDataset shards (`source_tar.py`) |
| `x.parquet`, or a folder with `*.parquet` at any depth | the rows (`source_table.py`) |
| a folder that `datasets` saved (`save_to_disk`) | the rows (`source_table.py`) |
| any other folder with pictures | a picture each, captioned by its folder's name (`source_folder.py`) |

The order of records is that of the files' names, so a record's index means the same on every machine. Hidden
files are ignored everywhere; `left_out` names the others that no record was made of.
"""

from pathlib import Path

from arm.data.image_files import PICTURE_SUFFIXES
from arm.data.records import SKIPPED, Source
from arm.data.source_folder import FolderSource, LeftOut, list_folder, open_folder
from arm.data.source_jsonl import JsonlSource, open_jsonl
from arm.data.source_table import DatasetSource, ParquetSource, open_dataset, open_parquet
from arm.data.source_tar import TarSource, open_tars
from arm.errors import DataError, shown
from arm.files import is_hidden

DATA_SUFFIXES = (".jsonl", ".tar", ".parquet")


def open_source(path: str | Path, allow_outside: bool = False) -> Source:
    """The records of a file or folder.

    allow_outside: records may name pictures outside of the folder of their file, by an absolute path or one with
    "../". Raises DataError where nothing is there, or nothing that can be read as records.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _open_directory(path, allow_outside)
        name, suffix = shown(str(path)), path.suffix.lower()
        if not path.exists():
            raise DataError(
                f"{name} does not exist; name a folder, or a .jsonl, .tar or .parquet file"
            )
        if suffix not in DATA_SUFFIXES:
            raise DataError(
                f"{name} is no data file; name a folder, or a .jsonl, .tar (uncompressed) or .parquet file"
            )
        return _open_files(suffix, path, [path], allow_outside)
    except OSError as error:
        raise DataError(
            f"{shown(str(path))} cannot be read ({shown(str(error))}); mind its permissions"
        ) from None


def left_out(source: Source) -> tuple[LeftOut, ...]:
    """The files below an opened folder that no record was made of. Pictures beside JSONL files and tables, which
    may name them, do not count. Lists the whole folder.
    """
    if isinstance(source, FolderSource):
        return source.left_out
    root = Path(source.name)
    if isinstance(source, DatasetSource) or not root.is_dir():
        return ()
    assert isinstance(source, JsonlSource | TarSource | ParquetSource)
    files = source.lines.files if isinstance(source, JsonlSource) else source.files
    contents = list_folder(root)
    read = {file.relative_to(root).as_posix() for file in files} | {SKIPPED}
    if not isinstance(source, TarSource):
        read |= {f for f in contents.files if Path(f).suffix.lower() in PICTURE_SUFFIXES}
    return contents.left_out(read)


def _open_files(suffix: str, path: Path, files: list[Path], allow_outside: bool) -> Source:
    if suffix == ".tar":
        return open_tars(path, files)
    if suffix == ".parquet":
        return open_parquet(path, files, allow_outside)
    return open_jsonl(path, files, allow_outside)


def _open_directory(path: Path, allow_outside: bool) -> Source:
    name = shown(str(path))
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return open_dataset(path, allow_outside)
    if next(path.glob("shard_*.safetensors"), None):
        raise DataError(f"{name} holds code shards: its pictures are encoded already")
    entries = sorted(file for file in path.iterdir() if not is_hidden(file.name))
    files = {
        suffix: [
            f
            for f in entries
            if f.suffix.lower() == suffix and f.name != SKIPPED and not f.is_dir()
        ]
        for suffix in DATA_SUFFIXES
    }
    if not any(files.values()):
        below = list_folder(path).files
        files[".parquet"] = sorted(path / f for f in below if f.lower().endswith(".parquet"))
    kinds = [suffix for suffix in DATA_SUFFIXES if files[suffix]]
    if len(kinds) > 1:
        raise DataError(
            f"{name} holds both {' and '.join(kinds)} files; name the files' own folder"
        )
    if not kinds:
        return open_folder(path)
    return _open_files(kinds[0], path, files[kinds[0]], allow_outside)
