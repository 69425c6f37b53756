"""Samples and packed rows (ARM section 3): every task is an order of the same tokens.

    <user> parts <end> <assistant> parts <end> ...

A part is text or an image; an image is  <image> <h=H> <w=W> code*H*W </image>, row-major. The
tasks differ only in what the parts are:

    understanding   <user> IMAGE question <end> <assistant> answer <end>
    drawing         <user> prompt <end> <assistant> IMAGE <end>
    editing         <user> IMAGE instruction <end> <assistant> IMAGE <end>

Loss falls on what the assistant says, and where `Weights` says so on the user's pictures; a picture
may say otherwise (`Image.loss`). `</image>` is never predicted: it follows by counting.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from arm.vocab import Vocab


@dataclass(frozen=True)
class Text:
    """Ids of the text tokenizer."""

    ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Image:
    """Codes (H, W), each in [0, num_codes).

    loss: True or False gives the codes the weight `Weights.code` or 0, whoever shows the picture and
    whatever the turn weighs; None leaves it to the turn (see `Weights`).
    """

    codes: NDArray[np.int64]
    loss: bool | None = None


Part = Text | Image


@dataclass(frozen=True)
class Turn:
    """What one side says. `weight` scales the loss of an assistant's turn; a user's has none."""

    parts: tuple[Part, ...]
    assistant: bool = False
    weight: float = 1.0


Sample = tuple[Turn, ...]

Tokenize = Callable[[str], tuple[int, ...]]
"""A sentence -> ids of the text tokenizer."""


@dataclass(frozen=True)
class Weights:
    """Loss weight of a token by its kind.

    text, code: of the words and codes of the assistant's turns. source_text: of the words of the user's turns
    and of the tokens that begin a turn; source_code: of the codes of the user's pictures. With all four equal
    this is the paper's next-token loss on the whole sequence, without </image>, which generation never samples;
    with 0 for the user's, it is the loss of the answers.
    """

    text: float = 1.0
    code: float = 1.0
    source_code: float = 0.0
    source_text: float = 0.0


@dataclass(frozen=True, eq=False)
class Tokens:
    """A flat sample of T tokens: `codes`, `rows` and `cols` are -1 where the token is no code;
    `weights[t]` is the loss weight of predicting token t from those before it; `positions` rise from
    0, with a gap before a picture where `Vocab.image_stride` asks for one; `following` is the
    position of a token that would come next.
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    weights: NDArray[np.float32]
    positions: NDArray[np.int64]
    following: int
    kind: int = 0
    """Which kind of its mix the sample is, an index into `Mix.kinds` (`data/mixture.py`)."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of whole samples. A negative document id is padding; positions are each sample's own.

    `tally[b, k]` counts the samples of kind k in row b.
    """

    ids: Int[Tensor, "b t"]
    codes: Int[Tensor, "b t"]
    rows: Int[Tensor, "b t"]
    cols: Int[Tensor, "b t"]
    weights: Float[Tensor, "b t"]
    positions: Int[Tensor, "b t"]
    document_ids: Int[Tensor, "b t"]
    tally: Int[Tensor, "b k"]


def user(*parts: Part) -> Turn:
    return Turn(parts)


def assistant(*parts: Part, weight: float = 1.0) -> Turn:
    return Turn(parts, assistant=True, weight=weight)


def drop_condition(sample: Sample, *, text: bool, image: bool) -> Sample:
    """The sample with its users' text, pictures or both left out: a guidance branch's condition."""

    def kept(turn: Turn) -> Turn:
        if turn.assistant:
            return turn
        gone = (Text,) * text + (Image,) * image
        return replace(turn, parts=tuple(p for p in turn.parts if not isinstance(p, gone)))

    return tuple(kept(turn) for turn in sample)


class _Writer:
    """Collects tokens; codes come as one block."""

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab
        self.columns: list[NDArray[np.float64]] = []
        self.position = 0

    def plain(self, ids: Iterable[int], weight: float) -> None:
        ids = list(ids)
        block = np.full((5, len(ids)), -1.0)
        block[0], block[4] = ids, weight
        self._add(block)

    def _add(self, block: NDArray[np.float64]) -> None:
        count = block.shape[1]
        self.columns.append(np.concatenate([block, self.position + np.arange(count)[None]]))
        self.position += count

    def image(self, codes_HW: NDArray[np.int64], weight: float, code_weight: float) -> None:
        height, width = codes_HW.shape
        self.open_image(height, width, weight)
        rows, cols = np.indices((height, width))
        codes = codes_HW.ravel()
        if codes.min() < 0 or codes.max() >= self.vocab.num_codes:
            raise ValueError(f"codes must be in 0..{self.vocab.num_codes - 1}")
        ids = codes + self.vocab.first_code
        columns = [ids, codes, rows.ravel(), cols.ravel(), np.full(codes.size, code_weight)]
        self._add(np.stack(columns).astype(np.float64))
        self.plain([self.vocab.image_end], 0.0)

    def open_image(self, height: int, width: int, weight: float) -> None:
        self.plain([self.vocab.image, self.vocab.height(height), self.vocab.width(width)], weight)
        self.position = self.vocab.first_position(self.position)

    def tokens(self) -> Tokens:
        *columns, weights, positions = np.concatenate(self.columns, 1)
        whole = [column.astype(np.int64) for column in columns]
        return Tokens(
            whole[0], whole[1], whole[2], whole[3],
            weights.astype(np.float32), positions.astype(np.int64), self.position,
        )  # fmt: skip


def flatten(
    sample: Sample,
    vocab: Vocab,
    weights: Weights | None = None,
    *,
    open_image: tuple[int, int] | None = None,
    open_answer: bool = False,
    begun: Sequence[int] = (),
) -> Tokens:
    """A sample as tokens.

    open_answer: ends with <assistant>, ready for the model to answer; open_image (H, W): ends with
    <assistant> <image> <h=H> <w=W>, ready for H * W codes. begun: words that this open answer has said.
    Training and generation share this function, so their prompts cannot differ.
    """
    weights = weights or Weights()
    out = _Writer(vocab)
    for turn in sample:
        text = turn.weight * weights.text if turn.assistant else weights.source_text
        out.plain([vocab.assistant if turn.assistant else vocab.user], weights.source_text)
        for part in turn.parts:
            if isinstance(part, Text):
                out.plain(part.ids, text)
            else:
                code = turn.weight * weights.code if turn.assistant else weights.source_code
                if part.loss is not None:
                    code = weights.code if part.loss else 0.0
                out.image(part.codes, text, code)
        out.plain([vocab.end], text)
    if open_answer or open_image:
        out.plain([vocab.assistant, *begun], 0.0)
    if open_image:
        out.open_image(*open_image, 0.0)
    return out.tokens()


def pack(samples: Sequence[Tokens], length: int, vocab: Vocab, num_kinds: int = 1) -> PackedBatch:
    """First-fit-decreasing packing into rows of `length` tokens.

    The first token of a sample carries no loss, since nothing before it is its own. `num_kinds` is the
    width of the tally. Raises ValueError for a sample longer than a row.
    """
    rows: list[list[Tokens]] = []
    room: list[int] = []
    for sample in sorted(samples, key=len, reverse=True):
        if len(sample) > length:
            raise ValueError(f"a sample of {len(sample)} tokens does not fit a row of {length}")
        index = next((i for i, free in enumerate(room) if free >= len(sample)), None)
        if index is None:
            rows.append([])
            room.append(length)
            index = len(rows) - 1
        rows[index].append(sample)
        room[index] -= len(sample)

    shape = (len(rows), length)
    ids = np.full(shape, vocab.pad, dtype=np.int64)
    codes, grid_rows, grid_cols, documents = (np.full(shape, -1, dtype=np.int64) for _ in range(4))
    positions = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    tally = np.zeros((len(rows), num_kinds), dtype=np.int64)
    for r, row in enumerate(rows):
        start = 0
        for d, sample in enumerate(row):
            span = np.s_[r, start : start + len(sample)]
            ids[span], codes[span] = sample.ids, sample.codes
            grid_rows[span], grid_cols[span] = sample.rows, sample.cols
            weights[span], positions[span] = sample.weights, sample.positions
            weights[r, start] = 0.0
            documents[span] = d
            tally[r, sample.kind] += 1
            start += len(sample)
    arrays = (ids, codes, grid_rows, grid_cols, weights, positions, documents, tally)
    return PackedBatch(*(torch.from_numpy(a) for a in arrays))


def pad_rows(
    rows: Sequence[Sequence[int] | NDArray[np.int64]], fill: int, left: bool = False
) -> Int[Tensor, "b t"]:
    """Rows of different lengths as one tensor, (B, longest), filled up with `fill` on the right, or on the left."""
    padded_BT = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for target_T, row in zip(padded_BT, rows, strict=True):
        start = len(target_T) - len(row) if left else 0
        target_T[start : start + len(row)] = row
    return torch.from_numpy(padded_BT)


def unpack(batch: PackedBatch) -> list[Tokens]:
    """The samples of a packed batch, row by row (the inverse of `pack` up to order)."""
    found = []
    for r in range(batch.ids.shape[0]):
        documents = batch.document_ids[r]
        for d in range(int(documents.max()) + 1):
            chosen = documents == d
            fields = (
                batch.ids, batch.codes, batch.rows, batch.cols, batch.weights, batch.positions
            )  # fmt: skip
            arrays = [field[r][chosen].numpy() for field in fields]
            found.append(Tokens(*arrays, following=int(arrays[-1][-1]) + 1))
    return found
