"""Two runs of one benchmark, item by item: is one better, where, and on which items.

Only items that both runs have a score for are compared, by the benchmark's own mean. The interval redraws
items, the p-value flips the signs of their differences; over categories it is adjusted by Holm's step-down
rule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arm.errors import DataError, InputError
from arm.evals.benchmarks.files import read_json_lines, read_json_object, require
from arm.evals.statistics import Difference, holm, stratified

FIELDS: Mapping[str, Any] = {
    "benchmark": str, "overall": dict, "missing": int, "judge": dict | None, "groups": dict,
    "made_by": dict,
}  # fmt: skip
"""What a report must hold, and as what."""


@dataclass(frozen=True)
class Run:
    """A scored run. values: each item's score, by category and id; shown: its line of items.jsonl."""

    path: Path
    report: Mapping[str, Any]
    values: Mapping[str, Mapping[str, float]]
    shown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def judge(self) -> str:
        """Who scored, version and all: a judge, a detector, or none where answers speak for themselves."""
        judge, detector = self.report["judge"], self.report.get("detector")
        if judge is not None:
            versions = [v for v in judge.get("called_itself", ()) if v != judge["model"]]
            return judge["model"] + (f" ({', '.join(versions)})" if versions else "")
        if detector is None:
            return "none"
        hashes = (str(self.report.get(f"{part}_hash", ""))[:8] for part in ("detector", "clip"))
        clip = self.report.get("clip")
        return f"{detector} ({next(hashes)}) with {clip} ({next(hashes)})"

    def file(self, name: str | None) -> Path | None:
        """A path of items.jsonl, which may be relative to the run."""
        return None if name is None else self.path / name


def read_run(path: Path) -> Run:
    """A run's folder. Raises InputError or DataError where it is none, not scored yet, or damaged."""
    if not path.is_dir():
        raise InputError(f"{path} is no folder of a run")
    report_file = path / "report.json"
    if not report_file.is_file():
        found = (path / "manifest.json").is_file()
        why = "it was made but not scored yet" if found else "it has no report.json"
        raise InputError(f"{path} is no scored run of `arm eval`: {why}")
    report = read_json_object(report_file)
    for name, kind in FIELDS.items():
        if not isinstance(require(report, name, str(report_file)), kind):
            raise DataError(f"{report_file}: its field '{name}' is damaged")
    if report["judge"] is not None:
        require(report["judge"], "model", f"{report_file}, 'judge'")
    values = require(report, "values", f"{report_file} (written before runs could be compared?)")
    scored = values.values() if isinstance(values, dict) else [None]
    if not all(isinstance(v, dict) and all(map(_is_number, v.values())) for v in scored):
        raise DataError(f"{report_file}: its field 'values' is damaged")
    weights = require(
        report, "weights", f"{report_file} (from before a comparison weighed categories?)"
    )
    if not isinstance(weights, dict) or not all(map(_is_number, weights.values())):
        raise DataError(f"{report_file}: its field 'weights' is damaged")
    if weights and not values.keys() <= weights.keys():
        raise DataError(f"{report_file}: a category of 'values' has no weight")
    items = path / "items.jsonl"
    lines = list(read_json_lines(items)) if items.is_file() else []
    for number, line in lines:
        if not _is_item(line):
            raise DataError(f"{items}:{number} is no line of a run; score the run again")
    return Run(path, report, values, {line["id"]: line for _, line in lines})


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_item(line: Mapping[str, Any]) -> bool:
    """Whether a line of items.jsonl has the parts that a comparison shows."""
    made, said = line.get("pictures") or [], line.get("said") or []
    return (
        isinstance(line.get("id"), str)
        and isinstance(line.get("source"), str | None)
        and isinstance(made, list)
        and all(isinstance(name, str | None) for name in made)
        and isinstance(said, list)
        and all(isinstance(replies, list) for replies in said)
    )


@dataclass(frozen=True)
class Pair:
    """One item that both runs have a score for."""

    name: str
    group: str
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """A minus B over the common items, by the benchmark's own rule: its mean over items, or that of its
    categories. means: of A and of B. adjusted: p by category after Holm. only_a, only_b: items that one of
    them lacks.
    """

    benchmark: str
    pairs: tuple[Pair, ...]
    means: tuple[float, float]
    overall: Difference
    groups: Mapping[str, Difference]
    adjusted: Mapping[str, float]
    only_a: int
    only_b: int

    def to_dict(self, a: Run, b: Run) -> dict[str, Any]:
        def side(run: Run, mean: float, alone: int) -> dict[str, Any]:
            return {
                "run": str(run.path),
                "judge": run.judge,
                "common_mean": mean,
                "overall": run.report["overall"],
                "missing": run.report["missing"],
                "only_here": alone,
            }

        return {
            "benchmark": self.benchmark,
            "common_items": len(self.pairs),
            "a": side(a, self.means[0], self.only_a),
            "b": side(b, self.means[1], self.only_b),
            "difference": self.overall.to_dict(),
            "groups": {
                name: {
                    **found.to_dict(),
                    "p_holm": self.adjusted[name],
                    "n": sum(p.group == name for p in self.pairs),
                }
                for name, found in self.groups.items()
            },
        }


Groups = list[tuple[float, Sequence[Pair]]]
"""What each category weighs, and its pairs."""


def _mean(groups: Groups, side: Callable[[Pair], float]) -> float:
    """The benchmark's own score over the common items alone."""
    means = [np.mean([side(pair) for pair in pairs]) for _, pairs in groups]
    return float(np.average(means, weights=[weight for weight, _ in groups]))


def _difference(groups: Groups) -> Difference:
    return stratified([(weight, np.array([p.a - p.b for p in pairs])) for weight, pairs in groups])


def compare_runs(a: Run, b: Run, any_judge: bool = False, any_prompts: bool = False) -> Comparison:
    """Raises InputError for runs of two benchmarks, of two judges, of other prompts under the same ids, or
    without a common item.
    """
    names = a.report["benchmark"], b.report["benchmark"]
    if names[0] != names[1]:
        raise InputError(
            f"{a.path} is a run of {names[0]}, {b.path} of {names[1]}: no common scale"
        )
    if a.judge != b.judge and not any_judge:
        raise InputError(
            f"{a.path} was judged by {a.judge}, {b.path} by {b.judge}: another judge is another scale; "
            "score both by one, or say --any-judge"
        )
    asked = [run.report["made_by"].get("prompts") for run in (a, b)]
    if None not in asked and asked[0] != asked[1] and not any_prompts:
        raise InputError(
            f"{a.path} and {b.path} were asked other prompts under the same names, as of another version "
            "or language; use the same files for both, or say --any-prompts"
        )
    pairs = tuple(
        Pair(item, group, value, b.values[group][item])
        for group, found in a.values.items()
        for item, value in found.items()
        if item in b.values.get(group, {})
    )
    if not pairs:
        raise InputError(f"{a.path} and {b.path} have no scored item in common")
    grouped: dict[str, list[Pair]] = {}
    for pair in pairs:
        grouped.setdefault(pair.group, []).append(pair)
    groups = {name: _difference([(1.0, found)]) for name, found in grouped.items()}
    weights = a.report["weights"]
    parts: Groups = (
        [(weights[n], found) for n, found in grouped.items()] if weights else [(1.0, pairs)]
    )
    counts = [sum(map(len, run.values.values())) - len(pairs) for run in (a, b)]
    return Comparison(
        names[0],
        pairs,
        (_mean(parts, lambda pair: pair.a), _mean(parts, lambda pair: pair.b)),
        _difference(parts),
        groups,
        holm({name: found.p for name, found in groups.items()}),
        *counts,
    )
