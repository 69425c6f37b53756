"""Cutting the distribution, and drawing from it."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arm.sampling import GREEDY, LEAST_TEMPERATURE, Sampling, row_generator, sample_rows, truncate
from closeness import assert_close_fp32
from cut_by_hand import cut_by_hand

FOUR = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()[None]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.15, 0.5, 0.05, 0.3]),
        (Sampling(top_k=2), [0, 0.625, 0, 0.375]),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=4), [0.15, 0.5, 0.05, 0.3]),
        (Sampling(top_k=99), [0.15, 0.5, 0.05, 0.3]),
        (Sampling(top_p=0.4), [0, 1, 0, 0]),
        (Sampling(top_p=0.6), [0, 0.625, 0, 0.375]),
        (Sampling(top_p=0.79), [0, 0.625, 0, 0.375]),
        (Sampling(top_p=0.81), [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        (Sampling(top_k=2, top_p=0.6), [0, 1, 0, 0]),  # 0.625 of what top-k left is enough
        # squares of the probabilities, over their sum 0.365
        (Sampling(temperature=0.5), [0.0225 / 0.365, 0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365]),
        # at temperature 0.5 the first has 0.685, without it only 0.5
        (Sampling(temperature=0.5, top_p=0.6), [0, 1, 0, 0]),
        (GREEDY, [0, 1, 0, 0]),
        (Sampling(temperature=0.0, top_k=3, top_p=0.9), [0, 1, 0, 0]),
    ],
)
def test_truncate_by_hand(sampling: Sampling, expected: list[float]):
    assert truncate(FOUR, sampling).exp()[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_of_ties_as_many_stay_as_make_k():
    """Logits in 16 bits tie often; the policy that is trained keeps k codes, so must the sampled one."""
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 2.0]])
    kept = truncate(logits, Sampling(top_k=3)).isfinite()[0]
    assert int(kept.sum()) == 3 and bool(kept[1]) and not bool(kept[0])


def test_truncate_treats_rows_apart():
    rows = torch.cat([FOUR, FOUR.flip(1), FOUR + 7])
    both = truncate(rows, Sampling(top_k=2)).exp()
    expected = [[0, 0.625, 0, 0.375], [0.375, 0, 0.625, 0], [0, 0.625, 0, 0.375]]
    assert_close_fp32(both, torch.tensor(expected))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-40, 40), min_size=2, max_size=30, unique=True),
    st.floats(0.3, 3),
    st.integers(0, 12),
    st.floats(0.05, 1),
)
def test_truncate_equals_the_sorted_list(
    eighths: list[int], temperature: float, top_k: int, top_p: float
):
    sampling = Sampling(temperature, top_k, top_p)
    logits = np.array(eighths) / 8
    found = truncate(torch.from_numpy(logits)[None], sampling)[0].exp()
    assert found.sum().item() == pytest.approx(1)
    uncut = np.exp(cut_by_hand(logits, Sampling(temperature, top_k)))
    assume(abs(np.cumsum(np.sort(uncut)[::-1]) - top_p).min() > 1e-9)  # no tie with rounding
    expected = np.exp(cut_by_hand(logits, sampling))
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_what_is_drawn_has_its_probability():
    rows = FOUR.expand(4000, 4)
    index, logprob = sample_rows(
        rows, Sampling(top_k=2), [row_generator(0, i, 0) for i in range(len(rows))]
    )
    assert set(index.tolist()) == {1, 3}
    share = (index == 1).float().mean().item()
    assert abs(share - 0.625) < 0.03  # four standard deviations
    expected = torch.where(index == 1, 0.625, 0.375).log()
    assert_close_fp32(logprob, expected)


def test_only_what_may_win_draws_noise(monkeypatch: pytest.MonkeyPatch):
    """Of 65,536 codes and top-k 10 each row draws ten numbers, and top-p cuts among the ten."""
    drawn: list[int] = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda n: drawn.append(n) or empty(n))
    logits = torch.randn(3, 65_536, generator=torch.Generator().manual_seed(1))
    sampling = Sampling(0.7, top_k=10, top_p=0.9)
    index, logprob = sample_rows(logits, sampling, [row_generator(0, i, 0) for i in range(3)])
    assert drawn == [10] * 3
    expected = truncate(logits, sampling).gather(-1, index[:, None])[:, 0]
    assert expected.isfinite().all()
    assert_close_fp32(logprob, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": 1e-9},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": -1.0},
    ],
)
def test_sampling_that_means_nothing(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="must not be negative"):
        Sampling(**wrong)  # pyright: ignore[reportArgumentType]


def test_the_lowest_temperature_still_gives_numbers():
    logits = torch.tensor([[-3e4, 0.0, 3e4]])
    index, logprob = sample_rows(logits, Sampling(LEAST_TEMPERATURE), [row_generator(0, 0, 0)])
    assert index.tolist() == [2] and logprob.isfinite().all()
