"""The id space: four ranges side by side, and every id named once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm.vocab import SPECIAL_TOKENS, Vocab

SMALL = Vocab(text_size=10, num_codes=16, max_side=3)
VOCABS = st.builds(Vocab, st.integers(0, 50), st.integers(1, 70), st.integers(1, 9))


def named(vocab: Vocab) -> list[int]:
    """Every id in the order of the docstring: text, special, heights, widths, codes."""
    special = [vocab.pad, vocab.user, vocab.assistant, vocab.end, vocab.image, vocab.image_end]
    sides = range(1, vocab.max_side + 1)
    return [
        *range(vocab.text_size),
        *special,
        *(vocab.height(n) for n in sides),
        *(vocab.width(n) for n in sides),
        *(vocab.code(c) for c in range(vocab.num_codes)),
    ]


def test_ids_by_hand():
    assert len(SPECIAL_TOKENS) == 6
    assert (SMALL.pad, SMALL.user, SMALL.assistant) == (10, 11, 12)
    assert (SMALL.end, SMALL.image, SMALL.image_end) == (13, 14, 15)
    assert list(SMALL.heights()) == [16, 17, 18] and list(SMALL.widths()) == [19, 20, 21]
    assert (SMALL.height(2), SMALL.width(2)) == (17, 20)
    assert (SMALL.first_code, SMALL.code(0), SMALL.code(15), SMALL.size) == (22, 22, 37, 38)


@pytest.mark.parametrize(
    "sizes", [(-1, 16, 3, 1), (10, 0, 3, 1), (10, 16, 0, 1), (10, 16, 3, 0), (10, 16, 3, -8)]
)
def test_sizes_that_no_id_space_has(sizes: tuple[int, int, int, int]):
    with pytest.raises(ValueError, match="must be at least 1, text_size at least 0"):
        Vocab(*sizes)


@given(VOCABS)
def test_the_ranges_cover_all_ids_once(vocab: Vocab):
    assert named(vocab) == list(range(vocab.size))


@given(VOCABS)
def test_round_trips(vocab: Vocab):
    assert [vocab.code_of(vocab.code(c)) for c in range(vocab.num_codes)] == list(
        range(vocab.num_codes)
    )
    assert [vocab.side(i) for i in vocab.heights()] == [vocab.side(i) for i in vocab.widths()]
    for n in range(1, vocab.max_side + 1):
        assert vocab.side(vocab.height(n)) == vocab.side(vocab.width(n)) == n
        assert vocab.height(n) in vocab.heights() and vocab.width(n) in vocab.widths()


@given(VOCABS)
def test_only_the_codes_are_codes(vocab: Vocab):
    codes = [token for token in range(-2, vocab.size + 2) if vocab.is_code(token)]
    assert codes == list(range(vocab.first_code, vocab.size))


@pytest.mark.parametrize("tokens", [-1, 0, 4])
@pytest.mark.parametrize("axis", ["height", "width"])
def test_sides_outside_the_range(axis: str, tokens: int):
    with pytest.raises(ValueError, match=rf"{tokens} tokens is outside 1\.\.3"):
        getattr(SMALL, axis)(tokens)


@pytest.mark.parametrize("token", [-1, 0, 15, 22])
def test_ids_that_name_no_side(token: int):
    with pytest.raises(ValueError, match=rf"{token} is no shape id \(16\.\.21\)"):
        SMALL.side(token)


@pytest.mark.parametrize("code", [-1, 16])
def test_codes_outside_the_range(code: int):
    with pytest.raises(ValueError, match=rf"code {code} is outside 0\.\.15"):
        SMALL.code(code)


@pytest.mark.parametrize("token", [-1, 21, 38])
def test_ids_that_are_no_code(token: int):
    with pytest.raises(ValueError, match=rf"{token} is no visual id \(22\.\.37\)"):
        SMALL.code_of(token)
