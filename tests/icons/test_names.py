"""What names of icons say, in the sense of their own sets."""

import pytest

from arm.icons.names import IconName, parse_name


@pytest.mark.parametrize(
    ("set_name", "name", "expected"),
    [
        ("tabler", "bell", IconName(("bell",))),
        ("tabler", "bell-plus", IconName(("bell",), badges=("plus",))),
        ("tabler", "bell-off", IconName(("bell",), struck=True)),
        ("ph", "bell-slash-duotone", IconName(("bell",), struck=True, fill="duotone")),
        ("ph", "bell-thin", IconName(("bell",), weight="thin")),
        ("mdi", "account-lock", IconName(("account",), badges=("lock",), fill="filled")),
        ("mdi", "account-lock-outline", IconName(("account",), badges=("lock",))),
        ("ri", "chart-line", IconName(("chart",), fill="outline")),
        ("lucide", "chart-line", IconName(("chart", "line"))),
        ("ic", "twotone-arrow-back", IconName(("arrow",), direction=("left",), fill="twotone")),
        ("ic", "round-home", IconName(("home",), fill="filled", corner="rounded")),
        (
            "lucide",
            "circle-arrow-up",
            IconName(("arrow",), enclosure=("circle",), direction=("up",)),
        ),
        (
            "boxicons",
            "bell-circle-filled",
            IconName(("bell",), enclosure=("circle",), fill="filled"),
        ),
        ("fluent", "cut-24-regular", IconName(("cut",), weight="regular", size="24")),
        ("bi", "person-fill-add", IconName(("person",), badges=("plus",), fill="filled")),
        ("tabler", "door-open", IconName(("door",), state=("open",))),
        ("tabler", "user-2", IconName(("user",), variant=("2",))),
        ("tabler", "log-in", IconName(("log", "in"))),
        ("mdi", "check-circle", IconName(("check",), enclosure=("circle",), fill="filled")),
        ("lucide", "align-left", IconName(("align",), direction=("left",))),
        (
            "fluent",
            "list-rtl-20-filled",
            IconName(("list",), fill="filled", size="20", right_to_left=True),
        ),
    ],
)
def test_parse(set_name: str, name: str, expected: IconName) -> None:
    assert parse_name(set_name, name) == expected


def test_a_skin_tone_needs_the_plain_emoji() -> None:
    plain = parse_name("fluent-emoji-flat", "ear-dark", {"ear", "ear-dark"})
    assert (plain.content, plain.tone) == (("ear",), "dark")
    assert parse_name("fluent-emoji-flat", "moon-dark", {"moon-dark"}).tone is None
    waving = parse_name("noto", "woman-waving-medium-light-skin-tone")
    assert (waving.gender, waving.content, waving.tone) == ("woman", ("waving",), "medium-light")


def test_style_variants_share_a_concept_and_modified_icons_do_not() -> None:
    bell, filled, plus = (parse_name("ph", n) for n in ("bell", "bell-fill", "bell-plus"))
    assert bell.concept() == filled.concept() != plus.concept()
    assert list(parse_name("ph", "bell-plus-circle").modifiers()) == ["plus", "in circle"]
