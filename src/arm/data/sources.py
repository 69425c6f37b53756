"""Opens a user's data by what the path is.

| path | records |
|---|---|
| `x.jsonl`, or a folder with `*.jsonl` | the lines; pictures lie beside their file (`source_jsonl.py`) |
| `x.tar`, or a folder with `*.tar` | WebDataset shards (`source_tar.py`) |
| `x.parquet`, or a folder with `*.parquet` at any depth | the rows (`source_table.py`) |
| a folder that `datasets` saved (`save_to_disk`) | the rows (`source_table.py`) |
| any other folder with pictures | a picture each, captioned by its folder's name (`source_folder.py`) |

The order of records is that of the files' names, so a record's index means the same on every machine.
"""

from pathlib import Path

from arm.data.records import SKIPPED, Source
from arm.data.source_jsonl import open_folder, open_jsonl
from arm.data.source_table import open_dataset, open_parquet
from arm.data.source_tar import open_tars
from arm.errors import DataError

OPENERS = {".jsonl": open_jsonl, ".tar": open_tars, ".parquet": open_parquet}


def open_source(path: str | Path) -> Source:
    """Raises DataError where nothing is there, or nothing that can be read as records."""
    path = Path(path)
    try:
        return _open(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); mind its permissions") from None


def _open(path: Path) -> Source:
    if path.is_dir():
        return _open_directory(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; name a folder, or a .jsonl, .tar or .parquet file")
    if path.suffix not in OPENERS:
        raise DataError(
            f"{path} is no data file; name a folder, or a .jsonl, .tar (uncompressed) or .parquet file"
        )
    return OPENERS[path.suffix](path, [path])


def _open_directory(path: Path) -> Source:
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return open_dataset(path)
    if next(path.glob("shard_*.safetensors"), None):
        raise DataError(f"{path} holds code shards: its pictures are encoded already")
    found = {
        suffix: sorted(file for file in path.glob(f"*{suffix}") if file.name != SKIPPED)
        for suffix in OPENERS
    }
    if not any(found.values()):
        found[".parquet"] = sorted(path.rglob("*.parquet"))
    kinds = [suffix for suffix, files in found.items() if files]
    if len(kinds) > 1:
        raise DataError(
            f"{path} holds both {' and '.join(kinds)} files; name the files' own folder"
        )
    if not kinds:
        return open_folder(path)
    return OPENERS[kinds[0]](path, found[kinds[0]])
