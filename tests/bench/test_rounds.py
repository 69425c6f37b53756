"""The arithmetic of side-by-side timing, on a clock that is told what to say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from arm.bench.rounds import Row, Spread, Table, Trial, Variant, measure, speed_ratio, spread

CPU = torch.device("cpu")


class FakeClock:
    """Stands still but for what the variants add to it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_quartiles_by_hand():
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(2.5, 1.75, 3.25)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_ratios_pair_the_rounds():
    first = Row("a", 10.0, seconds=(1.0, 2.0, 4.0))
    other = Row("b", 20.0, seconds=(1.0, 1.0, 2.0))  # twice the tokens in 1, 1/2, 1/2 of the time
    assert speed_ratio(other, first) == Spread(4.0, 3.0, 4.0)
    assert speed_ratio(first, first) == Spread(1.0, 1.0, 1.0)
    assert other.rate == 20.0
    table = Table("", "tokens", (first, other), None)
    assert table.ratio(other) == Spread(4.0, 3.0, 4.0)
    assert table.share(other) is None


def test_shares_of_the_yardstick_pair_the_rounds():
    row = Row("a", 1.0, flops=30.0, seconds=(3.0, 1.0))
    check = Row("products", 1.0, flops=100.0, seconds=(1.0, 1.0))
    share = Table("", "tokens", (row,), check).share(row)
    assert share is not None and share.median == pytest.approx((0.1 + 0.3) / 2)


def trial(clock: FakeClock, calls: list[str], results: dict[str, Any], **options: Any) -> Trial:
    lasts = {"a": 1.0, "b": 0.5, "c": 0.25, "products": 2.0}

    def variant(name: str, **more: Any) -> Variant:
        def run() -> Any:
            calls.append(name)
            clock.now += lasts[name]
            return results.get(name, 0)

        return Variant(name, 10.0, run, flops=100.0, **more)

    variants = tuple(variant(name, **options.get(name, {})) for name in "abc")
    yardstick = variant("products") if options.get("yardstick") else None
    return Trial("title", "tokens", variants, lambda a, b: "" if a == b else "other", yardstick)


def test_rounds_go_round_and_leave_the_warm_up_out():
    clock, calls, ticks = FakeClock(), [], []
    given = trial(clock, calls, {}, yardstick=True)
    table = measure(given, 3, CPU, clock, ticks.append)
    # To warm up and for the memory twice each, the yardstick once; then three rounds.
    assert calls == [*"aabbcc", "products", *["products", "a", "b", "c"] * 3]
    assert len(ticks) == given.calls(3) == len(calls)
    assert [row.seconds for row in table.rows] == [(1.0,) * 3, (0.5,) * 3, (0.25,) * 3]
    ratios = [table.ratio(row) for row in table.rows]
    assert [ratio.median for ratio in ratios if ratio] == [1.0, 2.0, 4.0]
    assert table.yardstick is not None and table.yardstick.seconds == (2.0,) * 3
    shares = [table.share(row) for row in table.rows]
    assert [share.median for share in shares if share] == [2.0, 4.0, 8.0]


def test_another_result_is_left_out():
    clock, calls = FakeClock(), []
    table = measure(trial(clock, calls, {"b": 1}), 2, CPU, clock)
    assert [row.left_out for row in table.rows] == ["", "other", ""]
    assert table.rows[1].seconds == () and table.ratio(table.rows[1]) is None
    assert calls == [*"aabcc", *"ac" * 2]


def test_results_are_compared_within_a_kind():
    clock = FakeClock()
    given = trial(clock, [], {"b": 1, "c": 1}, b={"kind": "other"}, c={"kind": "other"})
    assert [row.left_out for row in measure(given, 1, CPU, clock).rows] == ["", "", ""]


def test_what_is_left_out_beforehand_never_runs():
    clock, calls = FakeClock(), []
    lack = {"left_out": "it needs 9 GB"}
    given = trial(clock, calls, {}, yardstick=True, a=lack)
    table = measure(given, 1, CPU, clock)
    assert "a" not in calls and table.rows[0].left_out == "it needs 9 GB"
    assert table.ratio(table.rows[1]) is None and table.share(table.rows[1]) is not None
    nothing = trial(clock, calls := [], {}, yardstick=True, a=lack, b=lack, c=lack)
    table = measure(nothing, 1, CPU, clock)
    assert calls == [] and table.yardstick is None and nothing.calls(1) == 0


def test_lack_of_memory_leaves_one_row_out():
    def fails() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    clock = FakeClock()
    variants = (Variant("a", 1.0, fails), Variant("b", 1.0, lambda: 3))
    table = measure(Trial("", "tokens", variants, lambda a, b: ""), 1, CPU, clock)
    assert [row.left_out for row in table.rows] == ["the device has no memory for it", ""]


def test_what_holds_during_a_call_is_entered_outside_of_its_time():
    clock, inside = FakeClock(), []

    @contextmanager
    def within() -> Iterator[None]:
        clock.now += 100
        inside.append(True)
        yield
        clock.now += 100
        inside.pop()

    def run() -> None:
        assert inside
        clock.now += 1

    variant = Variant("a", 1.0, run, within=within)
    table = measure(Trial("", "tokens", (variant,), lambda a, b: ""), 2, CPU, clock)
    assert table.rows[0].seconds == (1.0, 1.0)


def test_memory_is_of_what_is_alive_and_what_is_made():
    held = torch.zeros(100)

    def run() -> Any:
        return (held + 1).sum()

    seen = Variant("a", 1.0, run, alive=lambda: [held])
    unseen = Variant("b", 1.0, run, alive=lambda: [held], sees_memory=False)
    table = measure(Trial("", "tokens", (seen, unseen), lambda a, b: ""), 1, CPU, FakeClock())
    assert [row.peak_bytes for row in table.rows] == [804, None]
