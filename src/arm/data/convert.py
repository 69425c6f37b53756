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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from arm.data.conversation import PLACEHOLDER, parse_conversation
from arm.data.skipped import SKIPPED, Skipped, without_place
from arm.data.source_jsonl import parse_json
from arm.data.source_table import library, picture_data
from arm.errors import DataError, did_you_mean

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
        raise DataError(f"{where}: the column '{name}' must be text, not {value!r}")
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
    messages = []
    for turn in column(row, "conversations", where):
        if not isinstance(turn, dict) or turn.get("from") not in roles:
            speaker = turn.get("from") if isinstance(turn, dict) else turn
            raise DataError(f"{where}: conversations are from human or gpt, not {speaker!r}")
        messages.append({"role": roles[turn["from"]], "content": turn.get("value")})
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
    """Writes `out`/train.jsonl and the pictures under `out`/images.

    images: the folder from which a row's names of pictures are looked for; by default the folder
    `images` in the file's own or beside it, else the file's own. The file of records is written last.
    Returns how many records were written, and how many rows were skipped because they do not fit (they
    are named in `out`/skipped.jsonl). Raises DataError for an unknown format, no rows, or a first row
    that does not fit: then it is another layout.
    """
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(
            f"there is no format '{name}'; there are {known}.{did_you_mean(name, FORMATS)}"
        )
    files = row_files(source)
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}); name another folder") from None
    temporary = out / "train.jsonl.tmp"
    (out / SKIPPED).unlink(missing_ok=True)
    try:
        count, skipped = _write(FORMATS[name], track(read_rows(files)), out, images, temporary)
        if not count:
            raise DataError(f"{source} holds no rows")
        temporary.replace(out / "train.jsonl")
    finally:
        temporary.unlink(missing_ok=True)
    return count, skipped


def _write(
    convert_row: Convert,
    rows: Iterable[tuple[str, Path, Row]],
    out: Path,
    images: Path | None,
    file: Path,
) -> tuple[int, int]:
    """Writes every row's records to `file`; returns how many, and how many rows were skipped."""
    skipped, count = Skipped(out / SKIPPED), 0
    with file.open("w", encoding="utf-8") as lines:
        for where, folder, row in rows:
            try:
                drafts = list(convert_row(row, where))
                records = _records(drafts, out, count, images or folder, where)
            except DataError as error:
                if not count:
                    raise
                skipped.add(where, without_place(where, error))
                continue
            lines.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
            count += len(records)
    return count, len(skipped)


def _records(
    drafts: Sequence[Draft], out: Path, first: int, folder: Path, where: str
) -> list[dict[str, Any]]:
    """The records of one row, their pictures kept."""
    records = []
    written: dict[int, str] = {}
    for number, draft in enumerate(drafts, first):
        names = [
            _keep(picture, out, f"{number:08d}-{k}", folder, f"{where}: picture {k}", written)
            for k, picture in enumerate(draft.pictures)
        ]
        record: dict[str, Any] = {"id": draft.id, "messages": list(draft.messages)}
        records.append(record | ({"images": names} if names else {}))
        parse_conversation(records[-1], where)
    return records


def _keep(
    picture: Any, out: Path, name: str, folder: Path, where: str, written: dict[int, str]
) -> str:
    """The name under which a record finds a picture; bytes become a file, once a row."""
    found = picture_data(picture, folder, where)
    if isinstance(found, Path):
        if not found.is_file():
            raise DataError(f"{where} is not at {found}; say with --images where the pictures lie")
        return str(found.resolve())
    if id(picture) not in written:
        written[id(picture)] = f"images/{name}{suffix_of(found)}"
        (out / written[id(picture)]).write_bytes(found)
    return written[id(picture)]


def suffix_of(data: bytes) -> str:
    """The usual suffix of a picture's bytes."""
    for begin, suffix in ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"RIFF", ".webp")):
        if data.startswith(begin):
            return suffix
    return ".img"


def row_files(source: Path) -> list[Path]:
    """The file, or the Parquet, JSONL or JSON files below a folder, in order."""
    if source.is_file():
        return [source]
    for suffix in ("parquet", "jsonl", "json"):
        if files := sorted(source.rglob(f"*.{suffix}")):
            return files
    raise DataError(f"{source} is no Parquet, JSONL or JSON file and no folder with any")


def read_rows(files: Sequence[Path]) -> Iterator[tuple[str, Path, Row]]:
    """Where each row stands, where its pictures lie, and its columns."""
    for path in files:
        beside = [folder / "images" for folder in (path.parent, path.parent.parent)]
        folder = next((folder for folder in beside if folder.is_dir()), path.parent)
        for where, row in _rows_of(path):
            if not isinstance(row, dict):
                raise DataError(f"{where}: a row must be an object, not {type(row).__name__}")
            yield where, folder, row


def _rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        pq = library("pyarrow.parquet")
        try:
            with pq.ParquetFile(path) as file:
                rows = (row for batch in file.iter_batches(64) for row in batch.to_pylist())
                yield from ((f"{path.name}:row {i}", row) for i, row in enumerate(rows))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no whole Parquet file ({error}); copy it again") from None
    elif path.suffix == ".jsonl":
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield f"{path.name}:{number}", parse_json(line, f"{path.name}:{number}")
    elif path.suffix == ".json":
        rows = parse_json(path.read_bytes(), path.name)
        if not isinstance(rows, list):
            raise DataError(f"{path} must be a list of rows")
        yield from ((f"{path.name}:row {i}", row) for i, row in enumerate(rows))
    else:
        raise DataError(f"{path} must end in .parquet, .jsonl or .json")
