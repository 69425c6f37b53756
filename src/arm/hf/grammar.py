"""The grammar of ids: what follows from rows of ids alone, and which id may come next.

transformers passes a model plain rows of ids. Which of them are codes, where each code lies in its grid, the
positions with their gaps before pictures, and the kind of the next token all follow from the ids: the inverse
of `sequence.flatten`. Masked tokens (negative ids) and <pad> are ignored.

Shape suffixes: B rows, T tokens, U = T + 1, the tokens and the one that would follow.
"""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessor

from arm.vocab import Vocab


class Next(IntEnum):
    """The kind of the next token: TEXT is a text id, <end> or <image>; HEIGHT <h=..>; WIDTH <w=..>."""

    TEXT = 0
    HEIGHT = 1
    WIDTH = 2
    CODE = 3
    IMAGE_END = 4


@dataclass(frozen=True)
class Reading:
    """What `read_ids` finds in rows of ids."""

    codes: Int[Tensor, "b t"]
    """Visual codes; -1 for other tokens."""
    rows: Int[Tensor, "b u"]
    """Grid rows of codes, -1 for other tokens; after a row's last token, that of a code that would follow."""
    cols: Int[Tensor, "b u"]
    """Grid columns, likewise."""
    positions: Int[Tensor, "b t"]
    """Positions of all tokens, as `sequence.flatten` gives them."""
    following: Int[Tensor, " b"]
    """The kind of the next token, a `Next`."""


def present(ids_BT: Tensor, vocab: Vocab) -> Tensor:
    """Tokens that are neither masked (negative) nor <pad>, bool (B, T)."""
    return (ids_BT >= 0) & (ids_BT != vocab.pad)


def read_ids(ids_BT: Int[Tensor, "b t"], vocab: Vocab) -> Reading:
    """Codes, grid cells and positions of rows of ids, with padding on any side.

    A picture of 1 x 2 codes with a stride of 8; `.` marks -1:

        ids        <user> a <image> <h=1> <w=2> c7 c9 </image>
        codes         .   .    .      .     .    7  9    .
        rows, cols    .   .    .      .     .  0,0 0,1   .
        positions     0   1    2      3     4    8  9   10

    Raises ValueError for an id outside the id space, a code outside a picture, and another id among the
    codes of one.
    """
    real_BT = present(ids_BT, vocab)
    if bool((real_BT & (ids_BT >= vocab.size)).any()):
        raise ValueError(f"ids must be below {vocab.size}, got {int(ids_BT.max())}")
    # Sort the ignored tokens to the end of each row.
    order_BT = torch.argsort((~real_BT).int(), dim=1, stable=True)
    length_B = real_BT.sum(1)
    at_U = torch.arange(ids_BT.shape[1] + 1, device=ids_BT.device)
    ids_BU = F.pad(ids_BT.masked_fill(~real_BT, -1).gather(1, order_BT), (0, 1), value=-1)

    before, second, third = (F.pad(ids_BU, (n, 0), value=-1)[:, :-n] for n in (1, 2, 3))
    heights, widths = vocab.heights(), vocab.widths()
    opens_BU = _within(before, widths) & _within(second, heights) & (third == vocab.image)
    start_BU = at_U.where(opens_BU, -1).cummax(1).values  # first code of the latest picture
    origin_BU = start_BU.clamp(min=0)
    width_BU = (before - widths.start + 1).gather(1, origin_BU).clamp(min=1)
    count_BU = (second - heights.start + 1).gather(1, origin_BU) * width_BU
    index_BU = at_U - start_BU
    inside_BU = (start_BU >= 0) & (index_BU < count_BU)
    ends_BU = (start_BU >= 0) & (index_BU == count_BU)

    code_BU = _within(ids_BU, range(vocab.first_code, vocab.size))
    wrong_BU = (code_BU != inside_BU) & (at_U < length_B[:, None])
    if bool(wrong_BU.any()):
        row, token = wrong_BU.nonzero()[0].tolist()
        wrong_id = int(ids_BU[row, token])
        what = "is a code outside of a picture" if code_BU[row, token] else "stands among codes"
        raise ValueError(f"row {row}: id {wrong_id}, token {token}, {what}")

    # Positions count up; the codes of each picture start at a multiple of the stride.
    earlier_BU = F.pad(start_BU, (1, 0), value=-1)[:, :-1].clamp(min=0)
    strides_BU = torch.where(opens_BU, -((earlier_BU - at_U) // vocab.image_stride), 0).cumsum(1)
    positions_BU = torch.where(start_BU >= 0, strides_BU * vocab.image_stride + index_BU, at_U)

    end_B1 = length_B[:, None]
    rows_BU = torch.where(inside_BU, index_BU // width_BU, -1)
    cols_BU = torch.where(inside_BU, index_BU % width_BU, -1)
    last_BU = F.pad(order_BT, (1, 0), value=-1).gather(1, end_B1) + 1
    gone_BU = at_U >= end_B1

    def unsort(x_BU: Tensor, fill: int, last: bool = False) -> Tensor:
        """Values in the order of the given ids; with `last`, that of the next token after the last one."""
        kept_BT = x_BU.masked_fill(gone_BU, fill)[:, :-1]
        out_BU = torch.full_like(x_BU, fill).scatter(1, order_BT, kept_BT)
        return out_BU.scatter(1, last_BU, x_BU.gather(1, end_B1)) if last else out_BU[:, :-1]

    following_BU = torch.where(inside_BU, int(Next.CODE), int(Next.TEXT))
    following_BU = following_BU.masked_fill(ends_BU, int(Next.IMAGE_END))
    following_BU = following_BU.masked_fill(before == vocab.image, int(Next.HEIGHT))
    named_BU = _within(before, heights) & (second == vocab.image)
    following_BU = following_BU.masked_fill(named_BU, int(Next.WIDTH))
    return Reading(
        codes=unsort(torch.where(code_BU, ids_BU - vocab.first_code, -1), -1),
        rows=unsort(rows_BU, -1, last=True),
        cols=unsort(cols_BU, -1, last=True),
        positions=unsort(positions_BU, 0),
        following=following_BU.gather(1, end_B1)[:, 0],
    )


def answer_labels(ids_BT: Int[Tensor, "b t"], vocab: Vocab) -> Int[Tensor, "b t"]:
    """Labels for fine-tuning, (B, T): the ids that have a loss weight in `sequence.flatten`, -100 elsewhere.

    These are the assistant's turns with <end>, without </image>, whose position the grid determines.
    """
    speaks_BT = (ids_BT == vocab.user) | (ids_BT == vocab.assistant)
    at_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    turn_BT = at_T.where(speaks_BT, -1).cummax(1).values
    assistant_BT = (turn_BT >= 0) & (ids_BT.gather(1, turn_BT.clamp(min=0)) == vocab.assistant)
    labelled_BT = assistant_BT & ~speaks_BT & (ids_BT != vocab.image_end) & present(ids_BT, vocab)
    return ids_BT.where(labelled_BT, -100)


def picture_codes(ids_BT: Int[Tensor, "b t"], vocab: Vocab) -> list[NDArray[np.int64]]:
    """The codes (H, W) of every picture, row by row. Raises ValueError for an unfinished one."""
    reading = read_ids(ids_BT, vocab)
    grids = []
    for b in range(ids_BT.shape[0]):
        if int(reading.following[b]) in (Next.HEIGHT, Next.WIDTH, Next.CODE):
            raise ValueError(f"row {b} ends inside a picture; generate more tokens")
        codes_T = reading.codes[b].cpu().numpy()
        rows_T, cols_T = (x[b, :-1].cpu().numpy() for x in (reading.rows, reading.cols))
        code_T = codes_T >= 0
        codes_N, rows_N, cols_N = codes_T[code_T], rows_T[code_T], cols_T[code_T]
        starts = [*np.flatnonzero((rows_N == 0) & (cols_N == 0)), len(codes_N)]
        for start, end in pairwise(starts):
            shape = (int(rows_N[end - 1]) + 1, int(cols_N[end - 1]) + 1)
            grids.append(codes_N[start:end].reshape(shape))
    return grids


def _within(ids_BT: Tensor, wanted: range) -> Tensor:
    return (ids_BT >= wanted.start) & (ids_BT < wanted.stop)


def allowed_ids(vocab: Vocab) -> Tensor:
    """The ids of each kind in `Next`, bool (5, size of the id space)."""
    spans = {
        Next.TEXT: (range(vocab.text_size), range(vocab.end, vocab.image + 1)),
        Next.HEIGHT: (vocab.heights(),),
        Next.WIDTH: (vocab.widths(),),
        Next.CODE: (range(vocab.first_code, vocab.size),),
        Next.IMAGE_END: (range(vocab.image_end, vocab.image_end + 1),),
    }
    table = torch.zeros(len(Next), vocab.size, dtype=torch.bool)
    for kind, ranges in spans.items():
        for span in ranges:
            table[kind, span.start : span.stop] = True
    return table


class PictureGrammar(LogitsProcessor):
    """Sets the scores of ids that cannot come next to -inf; the rules of `arm.generate`.

    After <image> comes its height H, then its width W, then exactly H * W codes, then </image>; elsewhere
    text ids, <end> and <image>.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.vocab, self.allowed = vocab, allowed_ids(vocab)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.allowed = self.allowed.to(scores.device)
        following = read_ids(input_ids.to(scores.device), self.vocab).following
        return scores.masked_fill(~self.allowed[following], -torch.inf)
