"""Pictures of SVGs, and what is measured on them."""

import numpy as np
import pytest

from arm.errors import InputError
from arm.icons import render
from arm.icons.package import wrap_svg

SQUARE = '<path fill="currentColor" d="M6 6h12v12H6z"/>'


def picture(body: str, size: int = 64) -> np.ndarray:
    return render.render_svg(wrap_svg(body), size)


def test_pixels_of_a_square() -> None:
    pixels = picture(SQUARE, 24)
    assert pixels.shape == (24, 24, 3) and pixels.dtype == np.uint8
    expected = np.full((24, 24), 255)
    expected[6:18, 6:18] = 0
    assert (pixels == expected[..., None]).all()


@pytest.mark.parametrize("body", ["<script/>", "<image href='x'/>", "<use href='x.svg'/>", "<path"])
def test_unsafe_or_broken_svg_is_refused(body: str) -> None:
    with pytest.raises(InputError, match="the SVG"):
        picture(body)


def test_huge_svg_and_size_are_refused() -> None:
    with pytest.raises(InputError, match="characters"):
        picture("<g/>" * 100_000)
    with pytest.raises(InputError, match="1 to 1024 pixels"):
        picture(SQUARE, 5000)


def test_grids_do_not_depend_on_place_and_size() -> None:
    shapes = ("M2 2h8v3H5v8H2z", "M8 8h11.2v4.2h-7v11.2H8z")
    first, second = (
        render.ink_grid(render.ink_of(picture(f'<path d="{d}"/>'))).astype(float) for d in shapes
    )
    assert first.shape == (256,)
    assert np.corrcoef(first, second)[0, 1] > 0.97


def test_colour_of_the_current_colour() -> None:
    grey = picture(SQUARE)[..., :1]
    red = render.tint(grey, (200, 0, 0))
    assert red[32, 32].tolist() == [200, 0, 0] and red[0, 0].tolist() == [255, 255, 255]


def test_change() -> None:
    plain, plus = picture(SQUARE), picture(SQUARE + '<path d="M20 2h3v3h-3z"/>')
    source, target = render.ink_of(plain), render.ink_of(plus)
    added = render.change_between(source, target)
    assert added.visible == pytest.approx(1, abs=0.01) and added.kept == pytest.approx(1)
    assert added.held == pytest.approx(144 / 153, abs=0.02)
    same = render.change_between(source, source)
    assert same.visible == 0 and same.kept == pytest.approx(1)


def test_frames_and_strokes() -> None:
    ring = '<circle cx="12" cy="12" r="10" fill="none" stroke="#000" stroke-width="2"/>'
    framed = render.ink_of(picture(ring))
    assert render.framed_sides(framed) == 4
    assert render.framed_sides(render.ink_of(picture('<path d="M11 2h2v20h-2z"/>'))) == 0
    square = render.ink_of(picture(SQUARE))
    struck = render.ink_of(picture(SQUARE + '<path stroke="#000" d="M1 1L23 23"/>'))
    assert render.runs_diagonally(square, struck)
    assert not render.runs_diagonally(
        square, render.ink_of(picture(SQUARE + '<path d="M1 1h3v3H1z"/>'))
    )


def test_sets_leave_out_what_is_empty_or_full() -> None:
    svgs = {"a": SQUARE, "empty": "<g/>", "full": '<path d="M0 0h24v24H0z"/>'}
    rendered = render.render_set({n: wrap_svg(b) for n, b in svgs.items()}, 32, False)
    assert rendered.names == ("a",) and rendered.pixels.shape == (1, 32, 32, 1)
    assert rendered.refused == {"empty or full": 2}
