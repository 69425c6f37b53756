"""Reading ids against `sequence.flatten`, which wrote them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from arm.hf.grammar import Next, answer_labels, picture_codes, read_ids
from arm.sequence import Image, Part, Sample, Text, Tokens, Turn, assistant, flatten, user
from arm.vocab import Vocab

# <pad> 10, <user> 11, <assistant> 12, <end> 13, <image> 14, </image> 15, <h=n> 15 + n, <w=n> 18 + n, code 22 + c
VOCAB = Vocab(text_size=10, num_codes=16, max_side=3, image_stride=8)
PICTURE = [14, 16, 20, 29, 31, 15]


def row(ids: list[int]) -> Tensor:
    return torch.tensor([ids])


def test_a_picture_by_hand():
    reading = read_ids(row([11, 3, *PICTURE, 13]), VOCAB)
    assert reading.codes.tolist() == [[-1] * 5 + [7, 9] + [-1] * 2]
    assert reading.rows.tolist() == [[-1] * 5 + [0, 0] + [-1] * 3]
    assert reading.cols.tolist() == [[-1] * 5 + [0, 1] + [-1] * 3]
    assert reading.positions.tolist() == [[0, 1, 2, 3, 4, 8, 9, 10, 11]]
    assert reading.following.tolist() == [Next.TEXT]


@pytest.mark.parametrize(
    ("ids", "following", "place"),
    [
        ([], Next.TEXT, (-1, -1)),
        ([14], Next.HEIGHT, (-1, -1)),
        ([14, 17], Next.WIDTH, (-1, -1)),
        ([14, 17, 19], Next.CODE, (0, 0)),
        ([14, 17, 19, 30], Next.CODE, (1, 0)),
        ([14, 17, 19, 30, 30], Next.IMAGE_END, (-1, -1)),
        ([14, 17, 19, 30, 30, 15], Next.TEXT, (-1, -1)),
        ([14, 17, 19, 30, 30, 15, 14, 16, 21, 22], Next.CODE, (0, 1)),
    ],
)
@pytest.mark.parametrize("pads", [(0, 0), (3, 0), (0, 2), (1, 1)])
def test_what_follows(
    ids: list[int], following: Next, place: tuple[int, int], pads: tuple[int, int]
):
    """Wherever the padding is, <pad> or masked; the next place stands behind the last token."""
    for pad in (VOCAB.pad, -1):
        reading = read_ids(row([pad] * pads[0] + [12, *ids] + [pad] * pads[1]), VOCAB)
        assert reading.following.tolist() == [following]
        at = pads[0] + 1 + len(ids)
        assert (int(reading.rows[0, at]), int(reading.cols[0, at])) == place


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3, 22], "id 22, token 1, is a code outside of a picture"),
        ([14, 16, 20, 29, 3], "id 3, token 4, stands among codes"),
        ([14, 20, 16, 29], "id 29, token 3, is a code outside"),
        ([*PICTURE[:-1], 30], "id 30, token 5, is a code outside"),
        ([38], "ids must be below 38, got 38"),
    ],
)
def test_ids_that_break_a_picture(ids: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        read_ids(row(ids), VOCAB)


def grids(vocab: Vocab) -> st.SearchStrategy[NDArray[np.int64]]:
    sides = st.integers(1, vocab.max_side)
    return st.tuples(sides, sides, st.integers(0, 99)).map(
        lambda s: np.random.default_rng(s[2]).integers(vocab.num_codes, size=s[:2])
    )


@st.composite
def samples(draw: st.DrawFn, vocab: Vocab) -> Sample:
    """Drawing, editing, questions and any chat: each side says text and pictures in any order."""
    words = st.lists(st.integers(0, vocab.text_size - 1), max_size=5).map(lambda w: Text(tuple(w)))
    parts: st.SearchStrategy[list[Part]] = st.lists(
        st.one_of(words, grids(vocab).map(Image)), max_size=3
    )
    turns: list[Turn] = []
    for _ in range(draw(st.integers(1, 3))):
        turns += [user(*draw(parts)), assistant(*draw(parts))]
    return tuple(turns)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Vocab, list[Tokens], list[tuple[int, int]], Tensor]:
    """Rows of samples, finished or open, with <pad> left and right of them."""
    stride = draw(st.sampled_from([1, 5, 8, 64]))
    vocab = Vocab(text_size=10, num_codes=16, max_side=3, image_stride=stride)
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        end = draw(st.sampled_from([{}, {"open_answer": True}, {"open_image": (2, 3)}]))
        rows.append(flatten(draw(samples(vocab)), vocab, **end))
    longest = max(map(len, rows)) + draw(st.integers(0, 2))
    pads = []
    for tokens in rows:
        left = draw(st.integers(0, longest - len(tokens)))
        pads.append((left, longest - len(tokens) - left))
    ids = np.stack(
        [np.pad(t.ids, p, constant_values=vocab.pad) for t, p in zip(rows, pads, strict=True)]
    )
    return vocab, rows, pads, torch.from_numpy(ids)


@settings(max_examples=150, deadline=None)
@given(batches())
def test_reading_equals_flatten(batch: tuple[Vocab, list[Tokens], list[tuple[int, int]], Tensor]):
    vocab, rows, pads, ids = batch
    reading, labels = read_ids(ids, vocab), answer_labels(ids, vocab)
    for b, (tokens, (left, right)) in enumerate(zip(rows, pads, strict=True)):

        def padded(values: NDArray[np.int64], fill: int, pads=(left, right)) -> list[int]:
            return np.pad(values, pads, constant_values=fill).tolist()

        drawing = int(tokens.ids[-1]) in vocab.widths()
        place = [0 if drawing else -1]
        # behind the last token stands the place of the one to follow, which flatten leaves out
        expected_rows = np.concatenate([tokens.rows, place])
        expected_cols = np.concatenate([tokens.cols, place])
        assert reading.rows[b].tolist() == padded(expected_rows, -1)
        assert reading.cols[b].tolist() == padded(expected_cols, -1)
        assert reading.codes[b].tolist() == padded(tokens.codes, -1)
        assert reading.positions[b].tolist() == padded(tokens.positions, 0)
        assert int(reading.following[b]) == (Next.CODE if drawing else Next.TEXT)
        expected = np.where(tokens.weights > 0, tokens.ids, -100)
        if not drawing:  # a prompt to draw is no sample to learn from
            assert labels[b].tolist() == padded(expected, -100)


def test_a_gap_comes_with_the_first_code():
    prompt = flatten((user(Text((1,))),), VOCAB, open_image=(1, 2))
    reading = read_ids(row([*prompt.ids.tolist(), 22]), VOCAB)
    assert int(reading.positions[0, -1]) == prompt.following == 8


def test_pictures_come_back():
    codes = np.arange(6).reshape(2, 3)
    sample = (user(Image(codes), Text((1,))), assistant(Image(codes.T), Image(codes[:1])))
    found = picture_codes(torch.from_numpy(flatten(sample, VOCAB).ids)[None], VOCAB)
    assert [f.tolist() for f in found] == [codes.tolist(), codes.T.tolist(), codes[:1].tolist()]
    with pytest.raises(ValueError, match="row 0 ends inside a picture"):
        picture_codes(row(PICTURE[:-2]), VOCAB)
