"""Two runs compared: by hand, from the command line, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import permutation_test, ttest_rel

from arm.errors import DataError
from arm.evals.runs import compare_runs, read_run
from arm.evals.statistics import stratified
from conftest import Call

A = {"time": {"1": 1.0, "2": 0.5, "3": 0.9}, "space": {"4": 0.2, "5": 0.4}}
B = {"time": {"1": 0.5, "2": 0.5, "3": 0.5}, "space": {"5": 0.6, "6": 1.0}}


def written(
    path: Path,
    values: dict[str, dict[str, float]],
    judge: str | None = "judge-1",
    version: str = "judge-1",
    **other: Any,
) -> Path:
    """A run's folder with a picture an item."""
    (path / "images").mkdir(parents=True)
    report = {
        "benchmark": "wise", "overall": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 5}, "missing": 1,
        "missing_share": 0.2, "items": 6, "judge": judge and {"model": judge, "called_itself": [version]}, "groups": {},
        "values": values, "weights": {}, "made_by": {"prompts": "1234"}, **other,
    }  # fmt: skip
    (path / "report.json").write_text(json.dumps(report))
    lines = []
    for found in values.values():
        for item in found:
            Image.fromarray(np.full((8, 8, 3), 99, dtype=np.uint8)).save(
                path / f"images/{item}.png"
            )
            line = {"id": item, "text": f"prompt {item}", "pictures": [f"images/{item}.png"]}
            lines.append(json.dumps({**line, "source": None, "said": [["Score: 1"]]}))
    (path / "items.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return path


def test_common_items_by_hand(tmp_path: Path):
    a, b = read_run(written(tmp_path / "a", A)), read_run(written(tmp_path / "b", B))
    found = compare_runs(a, b)
    assert [(p.name, p.group) for p in found.pairs] == [
        ("1", "time"), ("2", "time"), ("3", "time"), ("5", "space"),
    ]  # fmt: skip
    assert (found.only_a, found.only_b) == (1, 1)
    assert found.overall.value == pytest.approx((0.5 + 0 + 0.4 - 0.2) / 4)
    assert found.groups["time"].value == pytest.approx(0.3)
    # Signs of 0.5, 0, 0.4: of eight flips four are as far from 0 (the 0 counts twice).
    assert found.groups["time"].p == pytest.approx(0.5)
    assert found.groups["space"].p == 1.0
    assert found.adjusted == pytest.approx({"time": 1.0, "space": 1.0})
    told = found.to_dict(a, b)
    assert told["a"]["common_mean"] == pytest.approx(0.7) and told["common_items"] == 4
    assert told["groups"]["time"]["n"] == 3


def test_categories_weigh_as_in_the_benchmark(tmp_path: Path):
    """A is ahead where there are few items, B where there are many: equal categories decide for A."""
    many = {str(i): 0.4 for i in range(8)}
    a = {"few": {"x": 0.9, "y": 0.9}, "many": many}
    b = {"few": {"x": 0.5, "y": 0.5}, "many": {k: v + 0.2 for k, v in many.items()}}
    even = {"few": 1.0, "many": 1.0}
    runs = [read_run(written(tmp_path / n, v, weights=even)) for n, v in (("a", a), ("b", b))]
    found = compare_runs(*runs)
    assert found.overall.value == pytest.approx((0.4 - 0.2) / 2)
    assert found.means == pytest.approx(((0.9 + 0.4) / 2, (0.5 + 0.6) / 2))
    flat = [read_run(written(tmp_path / n, v)) for n, v in (("fa", a), ("fb", b))]
    assert compare_runs(*flat).overall.value == pytest.approx((2 * 0.4 - 8 * 0.2) / 10)
    unequal = [
        read_run(written(tmp_path / n, v, weights={"few": 0.25, "many": 0.75}))
        for n, v in (("ua", a), ("ub", b))
    ]
    assert compare_runs(*unequal).overall.value == pytest.approx(0.25 * 0.4 - 0.75 * 0.2)


@pytest.mark.parametrize("n", [6, 40])
def test_sign_flips_agree_with_scipy(n: int):
    rng = np.random.default_rng(n)
    groups = [(1.0, rng.normal(0.1, 0.3, n // 2)), (3.0, rng.normal(0.0, 0.3, n - n // 2))]
    terms = np.concatenate([w * d / len(d) for w, d in groups])
    oracle = permutation_test(
        (terms, np.zeros(n)), lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=9_999, rng=rng,
    )  # fmt: skip
    found = stratified(groups)
    assert found.p == pytest.approx(oracle.pvalue, abs=1e-9 if n == 6 else 0.02)


def test_flips_of_many_items_are_thrown_in_parts():
    """More items than are thrown together; a sum of so many signs is normal."""
    rng = np.random.default_rng(0)
    d = rng.choice([0.0, 0.3, -0.3], 20_000, p=[0.9, 0.053, 0.047])
    expected = math.erfc(abs(d.sum()) / math.sqrt(2 * (d**2).sum()))
    assert 0.001 < expected < 0.5
    assert stratified([(1.0, d)]).p == pytest.approx(expected, abs=0.015)


def test_the_test_agrees_with_a_t_test():
    rng = np.random.default_rng(0)
    a = rng.normal(0.5, 0.2, 120)
    b = a - 0.03 + rng.normal(0, 0.15, 120)
    found = stratified([(1.0, a - b)])
    oracle = ttest_rel(a, b)
    assert found.p == pytest.approx(oracle.pvalue, abs=0.01)
    low, high = oracle.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
    same = stratified([(1.0, a - a)])
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_from_the_command_line(run: Call, tmp_path: Path):
    a, b = written(tmp_path / "a", A), written(tmp_path / "b", B)
    html, result = tmp_path / "out/compare.html", tmp_path / "compare.json"
    code, said, _ = run("compare", a, b, "--html", html, "--json", result)
    assert code == 0
    assert "0.700 on 4 common items, 1 missing, 1 scored here alone" in said
    assert "+0.175" in said and "time" in said
    assert json.loads(result.read_text())["difference"]["value"] == pytest.approx(0.175)
    code, _, errors = run("compare", a, b, "--html", result / "x.html")
    assert code == 2 and "x.html cannot be written" in errors
    text = html.read_text()
    places = [text.index(f"<h3>{name}</h3>") for name in ("1", "3", "5", "2")]
    assert places == sorted(places)  # by the size of the difference
    assert text.count("<img") == 8 and 'alt="picture of run B for item 1: prompt 1"' in text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"judge": "judge-2"}, "judged by judge-1"),
        ({"judge": None}, "b by none: another judge is another scale"),
        ({"version": "judge-1-2027"}, "by judge-1 (judge-1-2027): another judge"),
        (
            {"judge": None, "detector": "owl", "detector_hash": "0123456789", "clip": "c"},
            "by owl (01234567) with c (): another judge",
        ),
        ({"benchmark": "dpg"}, "is a run of wise"),
        ({"made_by": {"prompts": "5678"}}, "were asked other prompts"),
        ({"values": {"time": {"9": 1.0}}}, "no scored item in common"),
    ],
)
def test_runs_that_do_not_compare(run: Call, tmp_path: Path, other: dict[str, Any], message: str):
    a = written(tmp_path / "a", A)
    b = written(tmp_path / "b", **{"values": B, **other})
    code, _, errors = run("compare", a, b)
    assert code == 2 and message in errors and errors.count("\n") == 1
    if {"judge", "version"} & other.keys():
        assert run("compare", a, b, "--any-judge")[0] == 0
    if "made_by" in other:
        assert run("compare", a, b, "--any-prompts")[0] == 0


def test_folders_that_are_no_run(run: Call, tmp_path: Path):
    a = written(tmp_path / "a", A)

    def refused(path: Path) -> str:
        code, _, errors = run("compare", a, path)
        assert code == 2 and errors.count("\n") == 1
        return errors

    assert "is no folder of a run" in refused(tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it has no report.json" in refused(empty)
    (empty / "manifest.json").write_text("{}")
    assert "made but not scored yet" in refused(empty)
    half = (a / "report.json").read_text()[:80]
    (empty / "report.json").write_text(half)
    assert "report.json is not a JSON file" in refused(empty)
    (empty / "report.json").write_text('{"benchmark": "wise"}')
    assert "the field 'overall' is missing" in refused(empty)
    report = json.loads((a / "report.json").read_text())
    del report["values"]
    (empty / "report.json").write_text(json.dumps(report))
    assert "written before runs could be compared?" in refused(empty)
    (a / "items.jsonl").write_text('{"id": "1"}\n{"id')
    assert "items.jsonl:2: not JSON" in refused(a)


@pytest.mark.parametrize(
    "change",
    [{"overall": 1}, {"judge": "x"}, {"judge": {}}, {"values": []}, {"values": {"time": 5}},
     {"values": {"time": {"1": "x"}}}, {"missing": "a"}, {"groups": None}],
)  # fmt: skip
def test_a_damaged_report_is_one_line(tmp_path: Path, change: dict[str, Any]):
    path = written(tmp_path / "a", A)
    report = json.loads((path / "report.json").read_text())
    (path / "report.json").write_text(json.dumps({**report, **change}))
    with pytest.raises(DataError, match=r"report\.json"):
        read_run(path)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"id": [1]},
        {"id": "1", "pictures": 5},
        {"id": "1", "said": [7]},
        {"id": "1", "source": 9},
    ],
)
def test_a_damaged_item_is_one_line(tmp_path: Path, line: dict[str, Any]):
    path = written(tmp_path / "a", A)
    (path / "items.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=r"items\.jsonl:1 is no line of a run"):
        read_run(path)
