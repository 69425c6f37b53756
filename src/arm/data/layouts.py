"""Rows of public data sets, in their authors' layouts, as conversations.

The layouts, as their loaders in public code and their dataset cards have them; other columns are
ignored:

| format | rows | becomes |
|---|---|---|
| `magicbrush` | Parquet or JSON rows: `img_id`, `turn_index` from 1, `source_img`, `mask_img`, `target_img`, `instruction` | an edit a row |
| `hqedit` | Parquet: `input_image`, `output_image`, `edit`, `inverse_edit` (`input`, `output` describe the pictures) | the edit, and its inverse from output to input |
| `omniedit` | Parquet: `omni_edit_id`, `task`, `src_img`, `edited_img`, `edited_prompt_list` of one or more phrasings, scores | an edit a row, with the first phrasing |
| `ultraedit` | Parquet: `source_image`, `edited_image`, `edit_prompt` (`mask_image`, `source_caption`, `target_caption`) | an edit a row |
| `seededit` | JSONL under `annotations`, pictures under `images` beside it. Part 3: `source_image`, `instruction_1`, `edit_image_1`, `instruction_2`, ... | a conversation of all its edits |
|  | Parts 1 and 2: `source_image`, `target_image`, `instruction` | an edit a row |
| `llava` | JSON or JSONL: `id`, `image` (a name or a list; text alone has none), `conversations` of `from` (human or gpt) and `value` | the conversation |

The keys of SEED-Data-Edit's single edits (parts 1 and 2) are not confirmed: its card does not name them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from arm.data.conversation import PLACEHOLDER
from arm.errors import DataError, did_you_mean, shown

Row = Mapping[str, Any]


class LayoutError(DataError):
    """A row that lacks a column of its layout, or has another kind of value there."""


@dataclass(frozen=True)
class Draft:
    """A record whose pictures are still values of a row: structs, bytes, or names of files."""

    id: str
    messages: tuple[dict[str, str], ...]
    pictures: tuple[Any, ...]


Convert = Callable[[Row, str], Iterator[Draft]]
"""A row and its place -> its records. Raises LayoutError where the row has another layout."""


def edit(name: str, source: Any, instructions: Sequence[tuple[str, Any]]) -> Draft:
    """A conversation that edits a picture, turn by turn. instructions: each with its result."""
    messages = []
    for turn, (instruction, _) in enumerate(instructions):
        picture = "" if turn else f"{PLACEHOLDER} "
        messages.append({"role": "user", "content": f"{picture}{instruction.strip()}"})
        messages.append({"role": "assistant", "content": PLACEHOLDER})
    return Draft(name, tuple(messages), (source, *(target for _, target in instructions)))


def column(row: Row, name: str, where: str) -> Any:
    """The value of a column. Raises LayoutError where it is missing or null."""
    if row.get(name) is None:
        columns = shown(", ".join(row))
        hint = did_you_mean(name, list(row)) if name not in row else " It is empty here."
        raise LayoutError(f"{where}: needs the column '{name}'; the columns are {columns}.{hint}")
    return row[name]


def words(row: Row, name: str, where: str) -> str:
    """The text of a column. Raises LayoutError where it is missing, empty or no text."""
    value = column(row, name, where)
    if not isinstance(value, str) or not value.strip():
        raise LayoutError(f"{where}: the column '{name}' must be text, not {shown(repr(value))}")
    return value


def single_edit(
    source: str, target: str, instruction: str, names: Sequence[str], row: Row, where: str
) -> Iterator[Draft]:
    """One edit of a row. source, target, instruction: the names of its columns; names: the columns whose values make its
    id, where the row has them.
    """
    name = "-".join(str(row[key]) for key in names if row.get(key) is not None)
    result = column(row, target, where)
    text = words(row, instruction, where)
    yield edit(name or where, column(row, source, where), [(text, result)])


def hqedit(row: Row, where: str) -> Iterator[Draft]:
    """HQ-Edit: the edit, and its inverse where there is one."""
    before, after = column(row, "input_image", where), column(row, "output_image", where)
    yield edit(f"{where} edit", before, [(words(row, "edit", where), after)])
    if row.get("inverse_edit"):
        yield edit(f"{where} inverse", after, [(words(row, "inverse_edit", where), before)])


def omniedit(row: Row, where: str) -> Iterator[Draft]:
    """OmniEdit: the edit in its first phrasing."""
    phrasings = column(row, "edited_prompt_list", where)
    if not isinstance(phrasings, list) or not phrasings:
        raise LayoutError(f"{where}: the column 'edited_prompt_list' must be a list of phrasings")
    flat = {**row, "instruction": phrasings[0]}
    yield from single_edit("src_img", "edited_img", "instruction", ("omni_edit_id",), flat, where)


def seededit(row: Row, where: str) -> Iterator[Draft]:
    """SEED-Data-Edit: a conversation of all edits of a row."""
    if "instruction_1" not in row:
        yield from single_edit("source_image", "target_image", "instruction", (), row, where)
        return
    turns = []
    while f"instruction_{len(turns) + 1}" in row:
        n = len(turns) + 1
        turns.append((words(row, f"instruction_{n}", where), column(row, f"edit_image_{n}", where)))
    yield edit(where, column(row, "source_image", where), turns)


def llava(row: Row, where: str) -> Iterator[Draft]:
    """LLaVA: the conversation, with roles by our names."""
    roles = {"human": "user", "gpt": "assistant"}
    turns = column(row, "conversations", where)
    if not isinstance(turns, list):
        raise LayoutError(
            f"{where}: the column 'conversations' must be a list of turns, not {shown(repr(turns))}"
        )
    messages = []
    for turn in turns:
        speaker = turn.get("from") if isinstance(turn, dict) else turn
        if not isinstance(turn, dict) or speaker not in tuple(roles):
            raise LayoutError(
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
