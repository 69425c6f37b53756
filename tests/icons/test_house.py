"""Every icon of the house set is drawn, and its variants differ as they say."""

import numpy as np
import pytest

from arm.icons import house
from arm.icons.pairs import shows_its_kind
from arm.icons.render import Ink, change_between, ink_of, render_svg

KINDS = {"filled": "fill", "plus": "badge", "off": "strike", "octagon": "enclose"}


def ink(name: str) -> Ink:
    return ink_of(render_svg(house.house_svg(name), 64))


def test_size_of_the_set() -> None:
    assert len(house.THINGS) >= 40 and len(list(house.names())) == len(house.THINGS) * 11


LOOK_ENCLOSED = (
    "mail",
    "folder",
    "file",
    "picture",
    "camera",
    "lock",
    "clock",
    "cup",
    "cloud",
    "book",
    "phone",
    "battery",
)
"""Things with ink on all four sides already, which the filter takes for enclosed ones and refuses to enclose."""


@pytest.mark.parametrize("thing", house.THINGS)
def test_variants_pass_the_filters_of_real_pairs(thing: str) -> None:
    plain = ink(thing)
    assert 0.05 < plain.mean() < 0.6
    for ending, kind in KINDS.items():
        if kind == "enclose" and thing in LOOK_ENCLOSED:
            continue
        changed = ink(f"{thing}-{ending}")
        change = change_between(plain, changed)
        assert shows_its_kind(kind, change, plain, changed), (ending, change)


def test_all_icons_are_drawn_small_and_differ() -> None:
    pictures = {render_svg(house.house_svg(name), 64).tobytes() for name in house.names()}
    assert len(pictures) == len(list(house.names()))
    assert max(len(house.house_svg(name)) for name in house.names()) < 4096


def test_unknown_names() -> None:
    with pytest.raises(KeyError):
        house.house_svg("unicorn")
    assert np.allclose(ink("bell"), ink("bell"))
