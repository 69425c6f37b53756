"""Sheets of pictures: every pixel where it belongs."""

import numpy as np

from arm.evals.sheet import GAP, RIGHT, WRONG, sheet, wrapped


def flat(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, dtype=np.uint8)


def test_places_and_frames():
    found = sheet([[flat(10), flat(20)], [flat(30)]], right=[[True, False], [None]], scale=2)
    pixels = np.asarray(found)
    assert pixels.shape == (2 * (8 + GAP) + GAP, 2 * (12 + GAP) + GAP, 3)
    assert pixels[GAP, GAP].tolist() == [10] * 3
    assert pixels[GAP + 7, 2 * GAP + 12 + 11].tolist() == [20] * 3
    assert pixels[2 * GAP + 8, GAP].tolist() == [30] * 3
    assert tuple(pixels[GAP - 1, GAP]) == RIGHT and tuple(pixels[GAP - 1, 2 * GAP + 12]) == WRONG
    assert pixels[2 * GAP + 8 - 1, GAP].tolist() == [255] * 3  # no verdict, no frame
    assert pixels[2 * GAP + 8 + 3, 2 * GAP + 12 + 3].tolist() == [255] * 3  # a shorter row


def test_titles_stand_left_and_above():
    plain = np.asarray(sheet([[flat(0)]]))
    named = np.asarray(sheet([[flat(0)]], ["a row"], ["1"], margin=80))
    assert named.shape == (plain.shape[0] + 28, plain.shape[1] + 80, 3)
    assert (named[28:, 80:] == plain).all()
    assert (named[28:, :80] < 255).any() and (named[:28, 80:] < 255).any()


def test_words_are_wrapped():
    assert wrapped("a red star left of", 10) == "a red star\nleft of"
    assert wrapped("extraordinary x", 5) == "extraordinary\nx"
    assert wrapped("", 5) == ""
