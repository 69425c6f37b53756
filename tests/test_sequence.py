"""The order of tokens of each task, their loss weights, and packing."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arm.sequence import (
    Image,
    PackedBatch,
    Sample,
    Text,
    Tokens,
    Weights,
    assistant,
    drop_condition,
    flatten,
    pack,
    pad_rows,
    unpack,
    user,
)
from arm.vocab import Vocab

# Text ids are 0..9, <h=n> is 15 + n, <w=n> is 18 + n, and code c is 22 + c.
VOCAB = Vocab(text_size=10, num_codes=16, max_side=3)
PAD, USER, ASSISTANT, END, IMAGE, IMAGE_END = range(10, 16)
H1, H2, W2, W3 = 16, 17, 20, 21

WIDE = Image(np.array([[0, 1, 2], [3, 4, 15]]))
WIDE_IDS = [IMAGE, H2, W3, 22, 23, 24, 25, 26, 37, IMAGE_END]
FLAT = Image(np.array([[9, 7]]))
FLAT_IDS = [IMAGE, H1, W2, 31, 29, IMAGE_END]

UNDERSTANDING = (user(WIDE, Text((1, 2))), assistant(Text((3,))))
DRAWING = (user(Text((5, 6))), assistant(WIDE))
EDITING = (user(FLAT, Text((8,))), assistant(WIDE))


def test_understanding_by_hand():
    tokens = flatten(UNDERSTANDING, VOCAB)
    assert tokens.ids.tolist() == [USER, *WIDE_IDS, 1, 2, END, ASSISTANT, 3, END]
    assert tokens.weights.tolist() == [0] * 15 + [1, 1]
    assert tokens.codes.tolist() == [-1] * 4 + [0, 1, 2, 3, 4, 15] + [-1] * 7
    assert tokens.rows.tolist() == [-1] * 4 + [0, 0, 0, 1, 1, 1] + [-1] * 7
    assert tokens.cols.tolist() == [-1] * 4 + [0, 1, 2, 0, 1, 2] + [-1] * 7
    assert len(tokens) == 17


def test_drawing_by_hand():
    tokens = flatten(DRAWING, VOCAB)
    assert tokens.ids.tolist() == [USER, 5, 6, END, ASSISTANT, *WIDE_IDS, END]
    # <image>, its shape, six codes; </image> follows by counting and is never predicted
    assert tokens.weights.tolist() == [0] * 5 + [1, 1, 1] + [1] * 6 + [0, 1]


def test_editing_by_hand():
    tokens = flatten(EDITING, VOCAB)
    assert tokens.ids.tolist() == [USER, *FLAT_IDS, 8, END, ASSISTANT, *WIDE_IDS, END]
    assert tokens.weights.tolist() == [0] * 10 + [1] * 9 + [0, 1]
    assert tokens.rows.tolist()[:6] == [-1, -1, -1, -1, 0, 0]
    assert tokens.cols.tolist()[:6] == [-1, -1, -1, -1, 0, 1]


def test_weights_by_kind_and_turn():
    sample = (
        user(Text((1,))),
        assistant(Text((2,)), FLAT, weight=0.5),
        user(FLAT),
        assistant(Text((3,)), weight=0.0),
    )
    tokens = flatten(sample, VOCAB, Weights(text=3.0, code=0.25))
    expected = [
        *[0, 0, 0],  # <user> 1 <end>
        *[0, 1.5],  # <assistant> 2
        *[1.5, 1.5, 1.5, 0.125, 0.125, 0],  # <image> <h> <w> code code </image>
        *[1.5],  # <end>
        *[0] * 8,  # <user> image <end>
        *[0, 0, 0],  # <assistant> 3 <end>, of a turn without weight
    ]
    assert tokens.weights.tolist() == expected


def test_a_source_picture_can_be_learned_too():
    codes = flatten(EDITING, VOCAB, Weights(source_code=0.25)).weights.tolist()
    assert codes == [0] * 4 + [0.25] * 2 + [0] * 4 + [1] * 9 + [0, 1]


def test_a_picture_may_carry_loss_or_not_whoever_shows_it():
    def shown(loss: bool | None) -> Image:
        return Image(FLAT.codes, loss)

    sample = (
        user(shown(True), shown(False), shown(None)),
        assistant(shown(True), shown(False), shown(None), weight=0.5),
    )
    tokens = flatten(sample, VOCAB, Weights(text=3.0, code=0.25, source_code=0.1))
    codes = tokens.weights[tokens.codes >= 0].reshape(6, 2)
    expected = np.array([0.25, 0, 0.1, 0.25, 0, 0.125])[:, None].repeat(2, 1)
    np.testing.assert_array_equal(codes, expected.astype(np.float32))
    # <image> <h> <w> of the assistant are words of the turn, whatever its codes weigh.
    openings = tokens.weights[tokens.ids == IMAGE].tolist()
    assert openings == [0, 0, 0, 1.5, 1.5, 1.5]


def test_positions_count_without_a_stride():
    tokens = flatten(EDITING, VOCAB)
    assert tokens.positions.tolist() == list(range(len(tokens))) and tokens.following == len(tokens)


def test_a_stride_puts_pictures_a_fixed_distance_apart():
    strided = replace(VOCAB, image_stride=20)
    for words in ((8,), (8, 9, 7)):
        sample = (user(FLAT, Text(words)), assistant(WIDE))
        tokens = flatten(sample, strided)
        codes = tokens.positions[tokens.codes >= 0].tolist()
        assert codes == [20, 21, 40, 41, 42, 43, 44, 45]
        # <user> <image> <h> <w> before the gap, </image> words <end> <assistant> <image> <h> <w> after.
        assert tokens.positions[:4].tolist() == [0, 1, 2, 3]
        assert tokens.positions[6 : 12 + len(words)].tolist() == list(range(22, 28 + len(words)))
        assert tokens.positions[-2:].tolist() == [46, 47] and tokens.following == 48
        prompt = flatten(sample[:1], strided, open_image=(2, 3))
        assert prompt.following == 40 and prompt.positions[-1] == 27 + len(words)
        (back,) = unpack(pack([tokens], 40, strided))
        assert back.positions.tolist() == tokens.positions.tolist()


@pytest.mark.parametrize("position", [0, 1, 19, 20, 21])
def test_first_position_by_hand(position: int):
    expected = {0: 0, 1: 20, 19: 20, 20: 20, 21: 40}[position]
    assert replace(VOCAB, image_stride=20).first_position(position) == expected
    assert VOCAB.first_position(position) == position


@pytest.mark.parametrize("sample", [UNDERSTANDING, DRAWING, EDITING])
def test_only_the_assistant_is_learned(sample: Sample):
    silent = (*sample[:-1], assistant(*sample[-1].parts, weight=0.0))
    tokens, quiet = flatten(sample, VOCAB), flatten(silent, VOCAB)
    assert tokens.ids.tolist() == quiet.ids.tolist()
    assert (quiet.weights == 0).all()
    first = tokens.ids.tolist().index(ASSISTANT)
    assert (tokens.weights[: first + 1] == 0).all()
    assert (tokens.weights[tokens.ids == IMAGE_END] == 0).all()
    inside = (np.arange(len(tokens)) > first) & (tokens.ids != IMAGE_END)
    assert (tokens.weights[inside] == 1).all()


def test_drop_condition():
    sample = (*EDITING, user(Text((4,))), assistant(Text((7,))))

    def ids(**dropped: bool) -> list[int]:
        return flatten(drop_condition(sample, **dropped), VOCAB).ids.tolist()

    answer = [ASSISTANT, *WIDE_IDS, END]
    last = [ASSISTANT, 7, END]
    assert ids(text=False, image=False) == flatten(sample, VOCAB).ids.tolist()
    assert ids(text=True, image=False) == [USER, *FLAT_IDS, END, *answer, USER, END, *last]
    assert ids(text=False, image=True) == [USER, 8, END, *answer, USER, 4, END, *last]
    assert ids(text=True, image=True) == [USER, END, *answer, USER, END, *last]


def prefix(sample: Sample, length: int) -> tuple[list[list[int]], int]:
    """The first tokens of a training sequence, and the length of the whole."""
    tokens = flatten(sample, VOCAB)
    columns = (tokens.ids, tokens.codes, tokens.rows, tokens.cols)
    return [column[:length].tolist() for column in columns], len(tokens)


@pytest.mark.parametrize("history", [(), UNDERSTANDING, EDITING])
@pytest.mark.parametrize("sample", [DRAWING, EDITING])
def test_the_prompt_of_a_picture_is_the_prefix_of_training(history: Sample, sample: Sample):
    prompt = flatten((*history, *sample[:-1]), VOCAB, open_image=(2, 3))
    begun, whole = prefix((*history, *sample), len(prompt))
    assert [prompt.ids.tolist(), prompt.codes.tolist()] == begun[:2]
    assert [prompt.rows.tolist(), prompt.cols.tolist()] == begun[2:]
    assert whole - len(prompt) == 6 + 2  # codes, </image>, <end>
    assert (prompt.weights[-4:] == 0).all()


@pytest.mark.parametrize("history", [(), DRAWING])
def test_the_prompt_of_an_answer_is_the_prefix_of_training(history: Sample):
    prompt = flatten((*history, UNDERSTANDING[0]), VOCAB, open_answer=True)
    begun, whole = prefix((*history, *UNDERSTANDING), len(prompt))
    assert [prompt.ids.tolist(), prompt.codes.tolist()] == begun[:2]
    assert [prompt.rows.tolist(), prompt.cols.tolist()] == begun[2:]
    assert whole - len(prompt) == 2  # the answer, <end>


@pytest.mark.parametrize("codes", [[[-1, 0]], [[0, 16]]])
def test_codes_outside_the_codebook(codes: list[list[int]]):
    with pytest.raises(ValueError, match=r"codes must be in 0\.\.15"):
        flatten((user(Image(np.array(codes))),), VOCAB)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (0, 2), (2, 0)])
def test_grids_without_a_shape_token(shape: tuple[int, int]):
    with pytest.raises(ValueError, match=r"outside 1\.\.3"):
        flatten((user(Image(np.zeros(shape, dtype=np.int64))),), VOCAB)
    with pytest.raises(ValueError, match=r"outside 1\.\.3"):
        flatten((), VOCAB, open_image=shape)


# Packing


def words(*ids: int) -> Tokens:
    """A user says ids; 2 tokens more than ids."""
    return flatten((user(Text(ids)),), VOCAB)


def test_packing_by_hand():
    answer = flatten((assistant(Text((1,))),), VOCAB)  # 3 tokens, two with loss
    batch = pack([answer, words(4, 5), words(6, 7, 8)], 7, VOCAB)
    # longest first: 5 tokens, then 4 in a new row, then 3 where there is still room
    assert batch.ids.tolist() == [
        [USER, 6, 7, 8, END, PAD, PAD],
        [USER, 4, 5, END, ASSISTANT, 1, END],
    ]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 0], [0, 1, 2, 3, 0, 1, 2]]
    assert batch.document_ids.tolist() == [[0, 0, 0, 0, 0, -1, -1], [0, 0, 0, 0, 1, 1, 1]]
    assert batch.weights.tolist() == [[0] * 7, [0, 0, 0, 0, 0, 1, 1]]
    assert all((getattr(batch, name) == -1).all() for name in ("codes", "rows", "cols"))


def test_the_first_token_of_a_sample_has_no_loss():
    # Sliced samples begin anywhere, so the first token can have a weight of its own.
    ones = np.ones(3, np.int64)
    tokens = Tokens(ones, -ones, -ones, -ones, np.ones(3, np.float32), np.arange(3), 3)
    batch = pack([tokens, tokens], 6, VOCAB)
    assert batch.weights.tolist() == [[0, 1, 1, 0, 1, 1]]
    assert tokens.weights.tolist() == [1, 1, 1]


def test_a_sample_longer_than_a_row():
    assert pack([words(1, 2, 3)], 5, VOCAB).ids.shape == (1, 5)
    with pytest.raises(ValueError, match="a sample of 5 tokens does not fit a row of 4"):
        pack([words(1), words(1, 2, 3)], 4, VOCAB)


def test_packing_nothing():
    batch = pack([], 4, VOCAB)
    assert batch.ids.shape == (0, 4) and unpack(batch) == []


def grids() -> st.SearchStrategy[NDArray[np.int64]]:
    def grid(shape: tuple[int, int]) -> st.SearchStrategy[NDArray[np.int64]]:
        codes = st.lists(
            st.integers(0, 15), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        )
        return codes.map(lambda flat: np.array(flat).reshape(shape))

    return st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(grid)


TEXTS = st.lists(st.integers(0, 9), max_size=4).map(tuple)
TURNS = st.tuples(st.booleans(), st.lists(TEXTS | grids(), max_size=2))
"""Whether the assistant speaks, and ids or codes."""


def sample_of(turns: list[Any]) -> Sample:
    return tuple(
        (assistant if speaks else user)(
            *(Text(part) if isinstance(part, tuple) else Image(part) for part in parts)
        )
        for speaks, parts in turns
    )


def key(tokens: Tokens) -> tuple[tuple[float, ...], ...]:
    """All of a sample but the weight of its first token, which packing takes away."""
    names = [field.name for field in fields(Tokens) if field.name not in ("following", "kind")]
    columns = [getattr(tokens, name).tolist() for name in names]
    return tuple(tuple(column) for column in (*columns[:4], columns[4][1:], columns[5]))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(TURNS, min_size=1, max_size=2), min_size=1, max_size=8), st.integers(0, 40)
)
def test_packing_loses_nothing_and_splits_nothing(drawn: list[Any], room: int):
    flat = [flatten(sample_of(turns), VOCAB) for turns in drawn]
    batch = pack(flat, max(map(len, flat)) + room, VOCAB)
    back = unpack(batch)
    assert sorted(map(key, back)) == sorted(map(key, flat))
    assert all(tokens.weights[0] == 0 for tokens in back)
    check_rows(batch)
    assert int((batch.document_ids >= 0).sum()) == sum(map(len, flat))


def check_rows(batch: PackedBatch) -> None:
    """Documents 0, 1, ... lie side by side in each row, positions count in each, padding is last."""
    for documents, positions, ids in zip(
        batch.document_ids, batch.positions, batch.ids, strict=True
    ):
        real = documents >= 0
        assert (ids[~real] == PAD).all() and (real.int().diff() <= 0).all()
        found, lengths = documents[real].unique_consecutive(return_counts=True)
        assert found.tolist() == list(range(len(found)))
        expected = torch.cat([torch.arange(int(n)) for n in lengths])
        assert torch.equal(positions[real], expected)
    assert (batch.weights[batch.document_ids < 0] == 0).all()


def test_the_loss_may_be_on_the_whole_sequence():
    """Every token is predicted with weight 1, but for </image>, which generation never samples."""
    vocab = Vocab(20, 8, 4)
    codes = np.zeros((2, 2), np.int64)
    sample = (user(Image(codes), Text((1, 2))), assistant(Text((3,)), Image(codes)))
    whole = flatten(sample, vocab, Weights(source_code=1.0, source_text=1.0))
    assert (whole.weights == (whole.ids != vocab.image_end)).all()
    answers = flatten(sample, vocab, Weights())
    first = whole.ids.tolist().index(vocab.assistant)
    assert answers.weights[: first + 1].tolist() == [0.0] * (first + 1)
    assert (answers.weights[first + 1 :] == whole.weights[first + 1 :]).all()


def test_rows_are_padded_on_either_side():
    rows = [[5, 6, 7], np.array([8]), []]
    assert pad_rows(rows, -1).tolist() == [[5, 6, 7], [8, -1, -1], [-1, -1, -1]]
    assert pad_rows(rows, 0, left=True).tolist() == [[5, 6, 7], [0, 0, 8], [0, 0, 0]]
    assert pad_rows(rows, 0).dtype == torch.int64
