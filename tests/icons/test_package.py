"""Which sets and icons of a package may be used, and who made them."""

from pathlib import Path

import pytest

from arm.errors import InputError
from arm.icons.names import parse_name
from arm.icons.package import (
    UNSAFE_SVG,
    is_brand,
    is_letter,
    package_folder,
    read_icons,
    read_sets,
    write_attribution,
)
from tiny_package import write_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("npm"))


def test_only_permissive_sets_are_read(package: Path) -> None:
    sets = read_sets(package)
    assert list(sets) == ["alpha", "beta", "gamma"]
    assert (sets["alpha"].licence, sets["alpha"].spoken) == ("MIT", "alpha")
    assert list(read_sets(package, ["beta"])) == ["beta"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("closed", "licence CC-BY-NC-4.0"),
        ("logos", "logos, flags"),
        ("secret", "hidden"),
        ("alpa", "Did you mean 'alpha'"),
    ],
)
def test_other_sets_are_refused_with_the_reason(package: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_sets(package, [name])


def test_hidden_unsafe_and_wide_icons_are_left_out(package: Path) -> None:
    contents = read_icons(package, "alpha")
    assert not {"hide", "wide", "spy"} & contents.svgs.keys() and "bell-plus" in contents.svgs
    assert dict(contents.refused) == {
        "hidden": 1,
        "not square": 1,
        "text, movement or references": 1,
    }
    assert contents.aliases == {"vessel": "boat"}  # the rotated alias is another picture
    assert contents.categories["hammer"] == ("tools",)


def test_a_folder_that_is_no_package(package: Path, tmp_path: Path) -> None:
    assert package_folder(package.parent) == package
    with pytest.raises(InputError, match="npm pack @iconify/json"):
        package_folder(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "<script>x</script>",
        '<image href="a.png"/>',
        '<use href="http://x/y.svg#a"/>',
        "<use xlink:href='/etc/passwd'/>",
        '<path fill="url(http://x)"/>',
        "<!DOCTYPE x>",
        '<path onload="x"/>',
        "<style>@import 'x'</style>",
        "<animate attributeName='d'/>",
        "<foreignObject/>",
    ],
)
def test_unsafe_svg(body: str) -> None:
    assert UNSAFE_SVG.search(body)


def test_safe_svg() -> None:
    assert not UNSAFE_SVG.search('<defs><g id="a"/></defs><use href="#a"/><path fill="url(#b)"/>')


def test_brands_and_letters() -> None:
    def name(text: str):
        return parse_name("tabler", text)

    assert is_brand("tabler", name("brand-figma"), {}, 1) and is_brand("x", name("github"), {}, 30)
    assert is_brand("tabler", name("acmecorp"), {"acmecorp": 3}, 2)
    assert not is_brand("tabler", name("acmecorp"), {"acmecorp": 2}, 2)
    assert not is_brand("tabler", name("anchor"), {"anchor": 5}, 2)
    assert not is_brand("noto", name("github"), {}, 1)
    assert is_letter(name("letter-a")) and is_letter(name("b")) and not is_letter(name("bell"))
    assert not is_letter(name("x"))


def test_attribution(package: Path, tmp_path: Path) -> None:
    write_attribution(read_sets(package).values(), {"alpha": 7}, tmp_path / "a.tsv")
    head, alpha, *_ = (tmp_path / "a.tsv").read_text().splitlines()
    row = dict(zip(head.split("\t"), alpha.split("\t"), strict=True))
    assert row["author"] == "Alpha's author" and row["licence"] == "MIT" and row["icons"] == "7"
    assert row["licence_url"] == "https://example.org/licence"
