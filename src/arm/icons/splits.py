"""Which icons are trained on, and which are only tested: near-copies, clusters, splits and the purge.

A fifth of all icons has a near-copy in another set, so a split by icons would test what was trained on. Icons that look
alike, and the style variants of one icon, form a cluster, and a cluster lies in one split. Three kinds of test icons:
whole sets (their look is never seen), contents with a modifier (bell with a plus, in no set and under no synonym), and
a share of clusters. Training icons that are near to a test or dev icon are then purged.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from arm.icons.names import EMOJI_SETS, IconName, synonym_table

TWIN = 0.97
"""The cosine of two ink grids from which icons count as near-copies."""
SAME, SAME_DIFFERENCE = 0.99, 0.25
"""Icons of a cluster: at least this cosine, and less than this difference in every cell."""
EQUAL, EQUAL_DIFFERENCE = 0.995, 0.15
"""Icons that are the same drawing."""
COMPONENTS = 72
TILE = 2048
SYNONYMS = synonym_table(
    """bell: notification notifications alarm; trash: bin delete garbage; cog: settings gear setting config; home: house;
    user: person account profile people; image: photo picture; mail: email envelope; search: magnify magnifier find;
    heart: favorite love; pin: location marker; clock: time; edit: pencil pen; phone: call telephone; cart: basket;
    calendar: date event; file: document page; chat: message comment bubble; video: movie film; music: audio;
    eye: view visibility; lock: padlock; world: globe earth; plus: add; check: checkmark tick; x: close xmark cross"""
)
"""Contents that count as one where combinations are held out."""


@dataclass(frozen=True)
class Shares:
    """held_out_sets: set -> "dev" or "test". Shares in [0, 1] of the eligible combinations, of clusters, and of the
    names of emoji that go to dev and test.
    """

    held_out_sets: tuple[tuple[str, str], ...] = (
        ("clarity", "test"),
        ("healthicons", "test"),
        ("pixelarticons", "test"),
        ("marketeq", "dev"),
    )
    combinations: tuple[float, float] = (0.01, 0.04)
    clusters: tuple[float, float] = (0.01, 0.02)
    emoji: tuple[float, float] = (0.01, 0.03)
    largest_cluster: int = 40
    """Larger clusters, as those of arrows and circles, stay in training."""
    least_modifiers: int = 4
    least_contents: int = 20
    """A combination may be held out where its content has this many modifiers, and its modifier this many contents."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """P pairs of icons: first < second, their cosine, and the largest difference of a cell, in [0, 1]."""

    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    cosine: Float[np.ndarray, " p"]
    difference: Float[np.ndarray, " p"]

    def same(self) -> np.ndarray:
        return (self.cosine >= SAME) & (self.difference < SAME_DIFFERENCE)

    def equal(self) -> np.ndarray:
        return (self.cosine >= EQUAL) & (self.difference < EQUAL_DIFFERENCE)


@dataclass(frozen=True, eq=False)
class Assignment:
    """split: of each icon "train", "dev", "test" or "purged". reason: why it is held out, "" where it is not:
    "set", "combination" or "cluster". cluster: the number of each icon's cluster. twins_before: training icons that
    were near-copies of dev or test icons, all of which were purged.
    """

    split: tuple[str, ...]
    reason: tuple[str, ...]
    cluster: Int[np.ndarray, " n"]
    twins_before: int
    test_icons_with_twin_before: int


def standardised(grids: UInt8[np.ndarray, "n 256"]) -> Float[np.ndarray, "n 256"]:
    """Grids without their mean and of length 1, so that a product is a cosine."""
    values = grids.astype(np.float32) / 255
    values -= values.mean(1, keepdims=True)
    return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)


def find_neighbours(grids: UInt8[np.ndarray, "n 256"], least: float = TWIN) -> Neighbours:
    """All pairs whose cosine is at least `least`, exactly.

    The first principal components give a part of each cosine; by Cauchy and Schwarz the rest is at most the product
    of the lengths that they leave, so pairs whose bound is below `least` need no further look.
    """
    vectors = standardised(grids)
    if len(vectors) < 2:
        none = np.zeros(0, np.int64)
        return Neighbours(none, none, np.zeros(0, np.float32), np.zeros(0, np.float32))
    sample = vectors[:: max(1, len(vectors) // 20000)]
    basis = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :COMPONENTS]
    short = vectors @ basis
    left_over = np.sqrt(np.clip((vectors**2).sum(1) - (short**2).sum(1), 0, None) + 1e-6)
    bounds = np.concatenate([short, left_over[:, None]], 1).astype(np.float32)
    values, parts = grids.astype(np.float32) / 255, []
    for rows, columns in _candidates(bounds, least - 1e-5):
        cosines = np.einsum("ij,ij->i", vectors[rows], vectors[columns])
        near = cosines >= least
        rows, columns, cosines = rows[near], columns[near], cosines[near]
        differences = np.abs(values[rows] - values[columns]).max(1, initial=0)
        parts.append((rows, columns, cosines, differences))
    return Neighbours(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _candidates(
    bounds: Float[np.ndarray, "n k"], least: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (i, j), i < j, whose bound is at least `least`, at most 100,000 at once."""
    yield np.zeros(0, np.int64), np.zeros(0, np.int64)
    for top in range(0, len(bounds), TILE):
        for left in range(top, len(bounds), 8 * TILE):
            products = bounds[top : top + TILE] @ bounds[left : left + 8 * TILE].T
            rows, columns = np.nonzero(products >= least)
            rows, columns = rows + top, columns + left
            rows, columns = rows[columns > rows], columns[columns > rows]
            for start in range(0, len(rows), 100_000):
                yield rows[start : start + 100_000], columns[start : start + 100_000]


def clusters_of(
    sets: Sequence[str], names: Sequence[IconName], neighbours: Neighbours
) -> Int[np.ndarray, " n"]:
    """The number of each icon's cluster: joined are icons that look the same, and style variants within a set."""
    same = neighbours.same()
    firsts, seconds = list(neighbours.first[same]), list(neighbours.second[same])
    seen: dict[object, int] = {}
    for index, (set_name, name) in enumerate(zip(sets, names, strict=True)):
        first = seen.setdefault((set_name, name.concept()), index)
        firsts.append(first)
        seconds.append(index)
    n = len(names)
    graph = coo_array((np.ones(len(firsts), np.int8), (firsts, seconds)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def combinations_of(set_name: str, name: IconName) -> list[tuple[str, str]]:
    """The (content, modifier) pairs of an icon, synonyms as one; an emoji's name counts as one over all sets."""
    if set_name in EMOJI_SETS:
        return [(name.phrase, "emoji")]
    content = " ".join(SYNONYMS.get(word, word) for word in name.content)
    return [(content, modifier) for modifier in sorted(set(name.modifiers()))]


def _held_out_combinations(
    pairs: Sequence[Sequence[tuple[str, str]]], shares: Shares, rng: np.random.Generator
) -> dict[tuple[str, str], str]:
    """(content, modifier) -> "dev" or "test" of those that are held out."""
    unique = sorted({pair for icon in pairs for pair in icon})
    modifiers = Counter(content for content, modifier in unique if modifier != "emoji")
    contents = Counter(modifier for _, modifier in unique)
    eligible = [
        (content, modifier)
        for content, modifier in unique
        if modifier != "emoji"
        and modifiers[content] >= shares.least_modifiers
        and contents[modifier] >= shares.least_contents
    ]
    emoji = [pair for pair in unique if pair[1] == "emoji"]
    held = _draw(eligible, shares.combinations, rng)
    return held | _draw(emoji, shares.emoji, rng)


def _draw(items: list, shares: tuple[float, float], rng: np.random.Generator) -> dict:
    """Random items -> "dev" or "test", as many as the shares of both say."""
    order = [items[i] for i in rng.permutation(len(items))]
    dev = round(shares[0] * len(items))
    test = round(shares[1] * len(items))
    return dict.fromkeys(order[:dev], "dev") | dict.fromkeys(order[dev : dev + test], "test")


def assign_splits(
    sets: Sequence[str],
    names: Sequence[IconName],
    neighbours: Neighbours,
    shares: Shares,
    seed: int,
) -> Assignment:
    """The split of every icon. Deterministic by `seed`.

    An icon that is held out for two reasons belongs to test where either says so. After that, training icons that are
    near-copies of a dev or test icon, or in a cluster with one, are purged, and dev icons likewise against test.
    """
    rng = np.random.default_rng(seed)
    cluster = clusters_of(sets, names, neighbours)
    whole = dict(shares.held_out_sets)
    pairs = [combinations_of(s, name) for s, name in zip(sets, names, strict=True)]
    held = _held_out_combinations(pairs, shares, rng)
    sizes = np.bincount(cluster)
    small = [c for c in range(len(sizes)) if sizes[c] <= shares.largest_cluster]
    drawn = _draw(small, shares.clusters, rng)
    split, reason = [], []
    for index, set_name in enumerate(sets):
        claims = {
            "set": [whole.get(set_name)],
            "combination": [held.get(pair) for pair in pairs[index]],
            "cluster": [drawn.get(int(cluster[index]))],
        }
        choices = [(s, r) for s in ("test", "dev") for r, values in claims.items() if s in values]
        chosen, why = choices[0] if choices else ("train", "")
        split.append(chosen)
        reason.append(why)
    before = np.array(split, dtype=object)
    near_test = _near(before, neighbours, cluster, "test")
    near_dev = _near(before, neighbours, cluster, "dev")
    after = before.copy()
    after[(before == "dev") & near_test] = "purged"
    after[(before == "train") & (near_test | near_dev)] = "purged"
    twins = _twins(before, neighbours, "train", ("dev", "test"))
    tested = _twins(before, neighbours, "test", ("train",))
    return Assignment(tuple(after), tuple(reason), cluster, int(twins.sum()), int(tested.sum()))


def _twins(
    split: np.ndarray, neighbours: Neighbours, of: str, among: tuple[str, ...]
) -> np.ndarray:
    """Which icons of the split `of` have a near-copy in one of the splits `among`, (N,) bool."""
    near, others = np.zeros(len(split), bool), np.isin(split, among)
    for first, second in (
        (neighbours.first, neighbours.second),
        (neighbours.second, neighbours.first),
    ):
        near[first[others[second]]] = True
    return near & (split == of)


def count_twins(split: Sequence[str], neighbours: Neighbours) -> int:
    """How many training icons are near-copies of a dev or test icon."""
    return int(_twins(np.array(split, dtype=object), neighbours, "train", ("dev", "test")).sum())


def _near(split: np.ndarray, neighbours: Neighbours, cluster: np.ndarray, of: str) -> np.ndarray:
    """Which icons of any split are near-copies of, or in a cluster with, an icon of the split `of`."""
    near = np.isin(cluster, np.unique(cluster[split == of]))
    for name in np.unique(split):
        near |= _twins(split, neighbours, str(name), (of,))
    return near


def families(names: Sequence[IconName], sets: Sequence[str]) -> dict[str, int]:
    """By content phrase, in how many sets it stands."""
    sets_of: dict[str, set[str]] = defaultdict(set)
    for name, set_name in zip(names, sets, strict=True):
        sets_of[name.phrase].add(FORKS.get(set_name, set_name))
    return {phrase: len(found) for phrase, found in sets_of.items()}


FORKS = {
    "material-symbols-light": "material-symbols",
    "ic": "material-symbols",
    "icon-park-outline": "icon-park",
    "icon-park-solid": "icon-park",
    "icon-park-twotone": "icon-park",
    "fluent-emoji-high-contrast": "fluent-emoji-flat",
    "glyphs-poly": "glyphs",
}
"""Sets by one hand count as one where it is asked in how many a content stands."""
