"""Near-copies, clusters, and that nothing of a test icon is trained on."""

import numpy as np
import pytest

from arm.icons.names import IconName, parse_name
from arm.icons.splits import (
    Shares,
    assign_splits,
    clusters_of,
    combinations_of,
    count_twins,
    find_neighbours,
    standardised,
)


def random_icons(n: int, seed: int) -> tuple[np.ndarray, list[str], list[IconName]]:
    """n drawings, each copied with noise into a second set, under names with modifiers."""
    rng = np.random.default_rng(seed)
    drawings = rng.integers(0, 256, (n, 256))
    copies = np.clip(drawings + rng.integers(-12, 13, drawings.shape), 0, 255)
    loose = np.clip(drawings + rng.integers(-40, 41, drawings.shape), 0, 255)
    modifiers = ("", "-plus", "-minus", "-check", "-off")
    names = [
        parse_name("one", f"thing{chr(97 + i // 5 % 26)}x{modifiers[i % 5]}") for i in range(n)
    ]
    grids = np.concatenate([drawings, copies, loose]).astype(np.uint8)
    return grids, ["one"] * n + ["two"] * n + ["three"] * n, names * 3


def test_neighbours_are_those_of_the_full_comparison() -> None:
    grids, _, _ = random_icons(150, 0)
    cosines = standardised(grids) @ standardised(grids).T
    expected = {(i, j) for i, j in zip(*np.nonzero(cosines >= 0.97), strict=True) if i < j}
    found = find_neighbours(grids)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    assert len(expected) == 150
    assert np.allclose(found.cosine, cosines[found.first, found.second], atol=1e-5)


def test_clusters_join_copies_and_style_variants() -> None:
    bell = parse_name("ph", "bell")
    names = [bell, parse_name("ph", "bell-fill"), parse_name("ph", "bell-plus"), bell]
    rng = np.random.default_rng(1)
    grids = rng.integers(0, 256, (4, 256)).astype(np.uint8)
    grids[3] = grids[2]
    cluster = clusters_of(["ph", "ph", "ph", "other"], names, find_neighbours(grids))
    assert cluster[0] == cluster[1] != cluster[2] == cluster[3]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_test_cluster_and_no_near_copy_is_trained_on(seed: int) -> None:
    grids, sets, names = random_icons(150, seed)
    shares = Shares((("two", "dev"),), (0.1, 0.2), (0, 0), (0.05, 0.1), 40, 2, 2)
    neighbours = find_neighbours(grids)
    made = assign_splits(sets, names, neighbours, shares, seed)
    split = np.array(made.split)
    assert {"train", "test", "dev", "purged"} == set(split)
    held = np.isin(split, ("dev", "test"))
    assert not set(made.cluster[held]) & set(made.cluster[split == "train"])
    assert not set(made.cluster[split == "test"]) & set(made.cluster[split == "dev"])
    cosines = standardised(grids) @ standardised(grids).T
    assert cosines[split == "train"][:, held].max() < 0.97
    assert cosines[split == "dev"][:, split == "test"].max() < 0.97
    assert count_twins(made.split, neighbours) == 0 < made.twins_before
    assert made == made and assign_splits(sets, names, neighbours, shares, seed).split == made.split


def test_held_out_combinations_are_in_no_training_icon() -> None:
    grids, sets, names = random_icons(150, 5)
    rng = np.random.default_rng(9)
    grids = rng.integers(0, 256, grids.shape).astype(np.uint8)  # no two alike
    shares = Shares((), (0.0, 0.3), (0, 0), (0, 0), 40, 2, 2)
    made = assign_splits(sets, names, find_neighbours(grids), shares, 0)
    pairs = [set(combinations_of(s, n)) for s, n in zip(sets, names, strict=True)]

    def seen(split: str) -> set[tuple[str, str]]:
        return set().union(*(p for p, s in zip(pairs, made.split, strict=True) if s == split))

    assert seen("test") and not seen("test") & seen("train")


def test_synonyms_are_one_combination_and_emoji_one_over_all_sets() -> None:
    bell = combinations_of("ph", parse_name("ph", "bell-plus"))
    assert (
        bell == combinations_of("mdi", parse_name("mdi", "notification-plus")) == [("bell", "plus")]
    )
    assert combinations_of("noto", parse_name("noto", "red-apple")) == [("red apple", "emoji")]
