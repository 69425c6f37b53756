"""Public data sets in their authors' layouts -> records (`conversation.py`) as JSONL with pictures beside it.

The layouts, as their loaders in public code and their dataset cards have them; other columns are
passed over:

| format | rows | becomes |
|---|---|---|
| `magicbrush` | Parquet or JSON rows: `img_id`, `turn_index` from 1, `source_img`, `mask_img`, `target_img`, `instruction` | an edit a row |
| `hqedit` | Parquet: `input_image`, `output_image`, `edit`, `inverse_edit` (`input`, `output` describe the pictures) | the edit, and its inverse from output to input |
| `omniedit` | Parquet: `omni_edit_id`, `task`, `src_img`, `edited_img`, `edited_prompt_list` of one or more phrasings, scores | an edit a row, with the first phrasing |
| `ultraedit` | Parquet: `source_image`, `edited_image`, `edit_prompt` (`mask_image`, `source_caption`, `target_caption`) | an edit a row |
| `seededit` | JSONL under `annotations`, pictures under `images` beside it. Part 3: `source_image`, `instruction_1`, `edit_image_1`, `instruction_2`, ... | a conversation of all its edits |
|  | Parts 1 and 2: `source_image`, `target_image`, `instruction` | an edit a row |
| `llava` | JSON or JSONL: `id`, `image` (a name or a list; text alone has none), `conversations` of `from` (human or gpt) and `value` | the conversation |

The keys of SEED-Data-Edit's single edits (parts 1 and 2) are not confirmed: its card does not name them. Pictures inside a table are written as files, unchanged; pictures that are files already are named where
they lie.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from arm.data.conversation import PLACEHOLDER, parse_conversation
from arm.data.records import SKIPPED, Skipped, without_place
from arm.data.source_jsonl import parse_json
from arm.data.source_table import ROWS, picture_data, whole_parquet
from arm.errors import DataError, did_you_mean, shown
from arm.files import atomic_write, is_file, keep_picture, make_folder

RECORDS = "train.jsonl"
"""What the file of records is called, in a folder of its own."""
Row = Mapping[str, Any]
Track = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Draft:
    """A record whose pictures are still values of a row: structs, bytes, or names of files."""

    id: str
    messages: tuple[dict[str, str], ...]
    pictures: tuple[Any, ...]


Convert = Callable[[Row, str], Iterator[Draft]]
"""A row and where it stands -> its records. Raises DataError where a column is missing."""


def edit(name: str, source: Any, instructions: Sequence[tuple[str, Any]]) -> Draft:
    """A picture and the edits that follow on it, each an instruction and its result."""
    messages = []
    for turn, (instruction, _) in enumerate(instructions):
        shown = "" if turn else f"{PLACEHOLDER} "
        messages.append({"role": "user", "content": f"{shown}{instruction.strip()}"})
        messages.append({"role": "assistant", "content": PLACEHOLDER})
    return Draft(name, tuple(messages), (source, *(target for _, target in instructions)))


def column(row: Row, name: str, where: str) -> Any:
    """A value that must be there."""
    if row.get(name) is None:
        found = ", ".join(row)
        hint = did_you_mean(name, list(row)) if name not in row else " It is empty here."
        raise DataError(f"{where}: needs the column '{name}'; the columns are {found}.{hint}")
    return row[name]


def words(row: Row, name: str, where: str) -> str:
    """A column of text."""
    value = column(row, name, where)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: the column '{name}' must be text, not {shown(repr(value))}")
    return value


def single_edit(
    source: str, target: str, instruction: str, names: Sequence[str], row: Row, where: str
) -> Iterator[Draft]:
    """An edit a row; its id is the values of the columns `names`, where the row has them."""
    name = "-".join(str(row[key]) for key in names if row.get(key) is not None)
    result = column(row, target, where)
    text = words(row, instruction, where)
    yield edit(name or where, column(row, source, where), [(text, result)])


def hqedit(row: Row, where: str) -> Iterator[Draft]:
    before, after = column(row, "input_image", where), column(row, "output_image", where)
    yield edit(f"{where} edit", before, [(words(row, "edit", where), after)])
    if row.get("inverse_edit"):
        yield edit(f"{where} inverse", after, [(words(row, "inverse_edit", where), before)])


def omniedit(row: Row, where: str) -> Iterator[Draft]:
    phrasings = column(row, "edited_prompt_list", where)
    if not isinstance(phrasings, list) or not phrasings:
        raise DataError(f"{where}: the column 'edited_prompt_list' must be a list of phrasings")
    flat = {**row, "instruction": phrasings[0]}
    yield from single_edit("src_img", "edited_img", "instruction", ("omni_edit_id",), flat, where)


def seededit(row: Row, where: str) -> Iterator[Draft]:
    if "instruction_1" not in row:
        yield from single_edit("source_image", "target_image", "instruction", (), row, where)
        return
    turns = []
    while f"instruction_{len(turns) + 1}" in row:
        n = len(turns) + 1
        turns.append((words(row, f"instruction_{n}", where), column(row, f"edit_image_{n}", where)))
    yield edit(where, column(row, "source_image", where), turns)


def llava(row: Row, where: str) -> Iterator[Draft]:
    roles = {"human": "user", "gpt": "assistant"}
    turns = column(row, "conversations", where)
    if not isinstance(turns, list):
        raise DataError(
            f"{where}: the column 'conversations' must be a list of turns, not {shown(repr(turns))}"
        )
    messages = []
    for turn in turns:
        speaker = turn.get("from") if isinstance(turn, dict) else turn
        if not isinstance(turn, dict) or speaker not in tuple(roles):
            raise DataError(
                f"{where}: conversations are from human or gpt, not {shown(repr(speaker))}"
            )
        messages.append({"role": roles[speaker], "content": turn.get("value")})
    images = row.get("image") or []
    pictures = tuple(images if isinstance(images, list) else [images])
    yield Draft(str(row.get("id", where)), tuple(messages), pictures)


FORMATS: dict[str, Convert] = {
    "magicbrush": partial(
        single_edit, "source_img", "target_img", "instruction", ("img_id", "turn_index")
    ),
    "hqedit": hqedit,
    "omniedit": omniedit,
    "ultraedit": partial(single_edit, "source_image", "edited_image", "edit_prompt", ()),
    "seededit": seededit,
    "llava": llava,
}


def convert(
    name: str, source: Path, out: Path, images: Path | None = None, track: Track = iter
) -> tuple[int, int]:
    """Writes `out`/train.jsonl and the pictures under `out`/images; nothing that is there is replaced.

    images: the folder from which a row's names of pictures are looked for; by default the folder
    `images` in the file's own or beside it, else the file's own. The file of records is written last.
    Returns how many records were written, and how many rows were skipped because they are no JSON or do
    not fit (they are named in `out`/skipped.jsonl). Raises DataError for an unknown format, no rows, a
    first row that does not fit (then it is another layout), and where `out` holds a conversion already;
    InputError where it is no folder.
    """
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(
            f"there is no format '{name}'; there are {known}.{did_you_mean(name, FORMATS)}"
        )
    files = row_files(source)
    _check_unused(out, files)
    make_folder(out / "images")
    try:
        (out / SKIPPED).unlink(missing_ok=True)
        skipped = Skipped(out / SKIPPED)
        rows = track(read_rows(files, skipped))
        with atomic_write(out / RECORDS) as temporary:
            count = _write(FORMATS[name], rows, out, images, temporary, skipped)
            if not count:
                broken = f" that can be read; see {skipped.path}" if len(skipped) else ""
                raise DataError(f"{source} holds no rows{broken}")
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}); make room there") from None
    return count, len(skipped)


def _check_unused(out: Path, files: Sequence[Path]) -> None:
    """Raises DataError where `out` holds records already, or a file to read under a name to write."""
    read = {file.resolve() for file in files}
    for path in (out / RECORDS, out / f"{RECORDS}.tmp", out / SKIPPED):
        if path.resolve() in read or (path.name == RECORDS and os.path.lexists(path)):
            raise DataError(f"{path} is there already and would be replaced; name a new folder")


def _write(
    convert_row: Convert,
    rows: Iterable[tuple[str, Path, Any]],
    out: Path,
    images: Path | None,
    file: Path,
    skipped: Skipped,
) -> int:
    """Writes every row's records to `file` and its pictures to `out`; returns how many records."""
    count = 0
    with file.open("w", encoding="utf-8") as lines:
        for where, folder, row in rows:
            try:
                if not isinstance(row, dict):
                    raise DataError(f"{where}: a row must be an object, not {type(row).__name__}")
                drafts = list(convert_row(row, where))
                records, pictures = _records(drafts, count, images or folder, where)
            except DataError as error:
                if not count:
                    raise
                skipped.add(where, without_place(where, error))
                continue
            for name, content in pictures.items():
                _keep(content, out / name)
            lines.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
            count += len(records)
    return count


def _keep(content: bytes, path: Path) -> None:
    """Writes a picture. One that an interrupted conversion left may stand there, but no other."""
    if is_file(path) and path.read_bytes() != content:
        raise DataError(f"{path} is there already and another picture; name a new folder")
    keep_picture(content, path)


def _records(
    drafts: Sequence[Draft], first: int, folder: Path, where: str
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The records of one row, and the pictures that are to be written, by name below `out`."""
    records = []
    named: dict[int, str] = {}
    contents: dict[str, bytes] = {}
    for number, draft in enumerate(drafts, first):
        names = []
        for k, picture in enumerate(draft.pictures):
            found = _found(picture, folder, f"{where}: picture {k}")
            if isinstance(found, bytes) and id(picture) not in named:  # once a row
                named[id(picture)] = f"images/{number:08d}-{k}{suffix_of(found)}"
                contents[named[id(picture)]] = found
            names.append(named[id(picture)] if isinstance(found, bytes) else found)
        record: dict[str, Any] = {"id": draft.id, "messages": list(draft.messages)}
        records.append(record | ({"images": names} if names else {}))
        parse_conversation(records[-1], where)
    return records, contents


def _found(picture: Any, folder: Path, where: str) -> str | bytes:
    """A picture's bytes, or its whole path where it is a file. Raises DataError where it is neither."""
    found = picture_data(picture, folder, where)
    if isinstance(found, bytes):
        return found
    if not is_file(found):
        raise DataError(
            f"{where} is not at {shown(str(found))} or may not be read; say with --images where the "
            "pictures lie"
        )
    return str(found.resolve())


def suffix_of(data: bytes) -> str:
    """The usual suffix of a picture's bytes."""
    for begin, suffix in ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"RIFF", ".webp")):
        if data.startswith(begin):
            return suffix
    return ".img"


def row_files(source: Path) -> list[Path]:
    """The file, or the Parquet, JSONL or JSON files below a folder, in order."""
    if is_file(source):
        return [source]
    for suffix in ("parquet", "jsonl", "json") if os.path.isdir(source) else ():
        if files := sorted(f for f in source.rglob(f"*.{suffix}") if f.name != SKIPPED):
            return files
    raise DataError(
        f"{shown(str(source))} is no Parquet, JSONL or JSON file and no folder with any"
    )


def read_rows(files: Sequence[Path], skipped: Skipped) -> Iterator[tuple[str, Path, Any]]:
    """Where each row stands, where its pictures lie, and its columns. Lines that are no JSON are noted."""
    for path in files:
        beside = [folder / "images" for folder in (path.parent, path.parent.parent)]
        folder = next((folder for folder in beside if folder.is_dir()), path.parent)
        try:
            for where, row in _rows_of(path, skipped):
                yield where, folder, row
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}); mind its permissions") from None


def _rows_of(path: Path, skipped: Skipped) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        with whole_parquet(path) as file:
            rows = (row for batch in file.iter_batches(ROWS) for row in batch.to_pylist())
            yield from ((f"{path.name}:row {i}", row) for i, row in enumerate(rows))
    elif path.suffix == ".jsonl":
        yield from _lines(path, skipped)
    elif path.suffix == ".json":
        rows = parse_json(path.read_bytes(), path.name)
        if not isinstance(rows, list):
            raise DataError(f"{path} must be a list of rows")
        yield from ((f"{path.name}:row {i}", row) for i, row in enumerate(rows))
    else:
        raise DataError(f"{path} must end in .parquet, .jsonl or .json")


def _lines(path: Path, skipped: Skipped) -> Iterator[tuple[str, Any]]:
    """The rows of a JSONL file. One broken line is not another layout, wherever it stands."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}:{number}"
            if line.isspace():
                continue
            try:
                row = parse_json(line, where)
            except DataError as error:
                skipped.add(where, without_place(where, error))
                continue
            yield where, row
