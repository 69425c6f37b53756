"""Figures of what the commands wrote: scores by category, over sampling, over guidance, through training.

`arm eval plot FILE_OR_RUN` tells them apart by their content. matplotlib is optional (the `plots` extra)
and never needs a display.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from arm.errors import DataError, InputError
from arm.evals.benchmarks import BENCHMARKS
from arm.evals.benchmarks.files import read_json, read_json_lines
from arm.files import atomic_write

COLORS = ("#1f6feb", "#d1570a", "#18794e", "#8250df", "#9a6700")
INK = "#24292f"
SWEPT = re.compile(r"t(?P<temperature>[\d.]+) text (?P<text>[\d.]+) image [\d.]+")
GUIDED = re.compile(r"text (?P<text>[\d.]+)")
TASKS = {"geneval": "drawing", "gedit": "editing"}
NO_MATPLOTLIB = "plots need matplotlib: pip install 'arm-lmm[plots]'"
RANGE = {"geneval": 1.0, "gedit": 10.0, "wise": 1.0, "vqa": 1.0}
"""The best score of each of the world's benchmarks."""


@contextmanager
def _figure(panels: int, height: float = 3.2) -> Iterator[tuple[Any, Any]]:
    """A figure with so many panels side by side. Raises InputError where matplotlib is missing."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(NO_MATPLOTLIB) from None
    # Figure alone, without pyplot: no global state and no window system. Text stays text in an SVG.
    look: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "arm", "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False, "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK,
        "xtick.color": INK, "ytick.color": INK, "grid.alpha": 0.3, "font.family": "sans-serif",
        "text.parse_math": False,
    }  # fmt: skip
    with rc_context(look):
        figure = Figure(figsize=(4.6 * panels + 0.6, height), layout="constrained")
        yield figure, figure.subplots(1, panels, squeeze=False)[0]


def _saved(figure: Any, kind: str) -> bytes:
    """The figure's bytes, the same for the same data."""
    out = io.BytesIO()
    if kind == "svg":
        figure.savefig(out, format=kind, transparent=True, metadata={"Date": None})
    else:
        figure.savefig(out, format=kind, dpi=160)
    return out.getvalue()


def _bars(axis: Any, scores: Mapping[str, Mapping[str, float]], best: float) -> None:
    """Points with their intervals, one a category, the first on top."""
    places = np.arange(len(scores))[::-1]
    values = np.array([[s["low"], s["value"], s["high"]] for s in scores.values()])
    # A percentile interval may leave its mean out by a hair; a bar has no negative length.
    errors = np.abs(np.stack([values[:, 1] - values[:, 0], values[:, 2] - values[:, 1]]))
    axis.barh(places, values[:, 1], color=COLORS[0], alpha=0.25, height=0.62)
    axis.errorbar(
        values[:, 1],
        places,
        xerr=errors,
        fmt="o",
        color=COLORS[0],
        markersize=4,
        capsize=2,
        clip_on=False,
    )
    axis.set_yticks(places, list(scores))
    least, most = min(0.0, float(values.min())), max(best, float(values.max()))
    axis.set_xlim(least, most if most > least else least + 1)
    axis.set_xlabel("score, 95 % interval")
    axis.grid(axis="x")


def _by_category(report: Mapping[str, Any], kind: str) -> bytes:
    groups = report["groups"]
    benchmark = BENCHMARKS.get(str(report["benchmark"]))
    best = 1.0 if benchmark is None else benchmark.best
    with _figure(1, 1.0 + 0.3 * len(groups)) as (figure, (axis,)):
        _bars(axis, groups, best)
        axis.set_title(str(report["benchmark"]), loc="left", fontweight="bold")
        return _saved(figure, kind)


def _of_world(result: Mapping[str, Any], kind: str) -> bytes:
    """What `arm eval world` wrote: a panel for each benchmark that has categories."""
    names = {"geneval": "tags", "gedit": "kinds", "vqa": "kinds"}
    found = {name: result[name][part] for name, part in names.items() if name in result}
    with _figure(len(found), 3.4) as (figure, axes):
        for axis, (name, scores) in zip(axes, found.items(), strict=True):
            _bars(axis, scores, RANGE[name])
            axis.set_title(f"world-{name}", loc="left", fontweight="bold")
        return _saved(figure, kind)


def _curve(
    axis: Any, points: Sequence[tuple[float, Mapping[str, float]]], color: str, label: str = ""
) -> None:
    """A line through scores with a band of their intervals."""
    ordered = sorted(points, key=lambda point: point[0])
    x = [p[0] for p in ordered]
    low, value, high = ([p[1][key] for p in ordered] for key in ("low", "value", "high"))
    axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    axis.plot(x, value, "o-", color=color, markersize=4, label=label or None)


def _swept(result: Mapping[str, Any], kind: str) -> bytes:
    """Temperature along the axis, a line for each scale of guidance."""
    rows = [(match, result[name]) for name in result if (match := SWEPT.fullmatch(name))]
    scales = sorted({float(match["text"]) for match, _ in rows})
    with _figure(2) as (figure, axes):
        for axis, (task, title) in zip(axes, TASKS.items(), strict=True):
            for scale, color in zip(scales, COLORS * len(scales), strict=False):
                points = [
                    (float(match["temperature"]), row[task])
                    for match, row in rows
                    if float(match["text"]) == scale
                ]
                _curve(axis, points, color, f"guidance {scale:g}")
            _finish(axis, title, "temperature", f"world-{task}")
        axes[0].legend(frameon=False)
        return _saved(figure, kind)


def _guided(result: Mapping[str, Any], kind: str) -> bytes:
    with _figure(2) as (figure, axes):
        for axis, (task, title), color in zip(axes, TASKS.items(), COLORS, strict=False):
            points = [
                (float(match["text"]), result[name][task])
                for name in result
                if (match := GUIDED.fullmatch(name))
            ]
            _curve(axis, points, color)
            _finish(axis, title, "guidance by the text", f"world-{task}")
        return _saved(figure, kind)


def _differences(result: Mapping[str, Any], kind: str) -> bytes:
    """What `arm eval compare` wrote: the difference of each category, left and right of none."""
    groups = {"all items": result["difference"], **result["groups"]}
    with _figure(1, 1.0 + 0.3 * len(groups)) as (figure, (axis,)):
        _bars(axis, groups, 0.0)
        axis.axvline(0, color=INK, linewidth=1)
        axis.set_xlabel("A - B, 95 % interval")
        axis.set_title(f"{result['benchmark']}: difference", loc="left", fontweight="bold")
        return _saved(figure, kind)


def _synergy(result: Mapping[str, Any], kind: str) -> bytes:
    """What `arm train synergy:...` wrote: each path's gain over SFT and its interval, a grey point a seed."""
    rows, names = result["to_sft"], {**TASKS, "vqa": "understanding"}
    places = np.arange(len(rows))[::-1]
    with _figure(3, 1.2 + 0.32 * len(rows)) as (figure, axes):
        for axis, (task, title) in zip(axes, names.items(), strict=True):
            for place, row in zip(places, rows.values(), strict=True):
                found = row[task]
                seeds = np.array(found["seeds"]) - result["sft"][task]
                axis.plot(
                    seeds, np.full(len(seeds), place), "o", color=INK, alpha=0.35, markersize=3
                )
                errors = np.abs([[found["value"] - found["low"]], [found["high"] - found["value"]]])
                holds = COLORS[0] if found["p_holm"] < 0.05 else "white"
                axis.errorbar(
                    found["value"], place, xerr=errors, fmt="o", color=COLORS[0], markersize=5,
                    capsize=2, markerfacecolor=holds,
                )  # fmt: skip
            axis.axvline(0, color=INK, linewidth=1)
            axis.locator_params(axis="x", nbins=5)
            axis.set_yticks(places, list(rows) if axis is axes[0] else [""] * len(rows))
            axis.set_title(title, loc="left", fontweight="bold")
            axis.set_xlabel(f"world-{task}: difference to SFT ({result['sft'][task]:.3g})")
            axis.grid(axis="x")
        return _saved(figure, kind)


def _finish(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, loc="left", fontweight="bold")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid()


def _smooth(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each value and those before it in the window."""
    sums = np.cumsum(np.insert(np.asarray(values, dtype=np.float64), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _trained(lines: Sequence[Mapping[str, float]], kind: str) -> bytes:
    """Rewards of each step with their running mean, and the held-out scores beside them."""
    rewards = sorted({key for line in lines for key in line if key.endswith("/reward")})
    held_out = sorted({key for line in lines for key in line if key.startswith("held_out/")})
    with _figure(1 + bool(held_out)) as (figure, axes):
        for name, color in zip(rewards, COLORS, strict=False):
            points = [(line["step"], line[name]) for line in lines if name in line]
            x, y = [p[0] for p in points], [p[1] for p in points]
            axes[0].plot(x, y, color=color, alpha=0.25, linewidth=0.8)
            label = name.removesuffix("/reward")
            axes[0].plot(x, _smooth(y, max(1, len(y) // 20)), color=color, label=label)
        _finish(axes[0], "reward", "step", "reward, and its running mean")
        axes[0].legend(frameon=False)
        for name, color in zip(held_out, COLORS, strict=False):
            task = name.removeprefix("held_out/")
            best = RANGE.get(task, 1.0)
            points = [(line["step"], line[name] / best) for line in lines if name in line]
            label = f"world-{task}" + (f", of {best:g}" if best != 1 else "")
            axes[1].plot(*zip(*points, strict=True), "o-", color=color, markersize=4, label=label)
        if held_out:
            _finish(axes[1], "held-out combinations", "step", "share of the best score")
            axes[1].legend(frameon=False)
        return _saved(figure, kind)


def _has(value: Any, key: str) -> bool:
    return isinstance(value, Mapping) and key in value


def _is_scores(value: Any, *tasks: str) -> bool:
    return all(_has(value, task) and _has(value[task], "value") for task in tasks)


def painter_of(data: Any, source: Path) -> Callable[[Any, str], bytes]:
    """What draws this data. Raises InputError where it is none of what the commands write."""
    if isinstance(data, list) and all(isinstance(line, Mapping) for line in data):
        if any(key.endswith("/reward") for line in data for key in line):
            return _trained
        raise InputError(
            f"{source} has no rewards to draw: it is the log of a run without reinforcement learning"
        )
    if isinstance(data, Mapping):
        if "to_sft" in data and "sft" in data:
            return _synergy
        if "difference" in data and "groups" in data:
            return _differences
        if "benchmark" in data and data.get("groups"):
            return _by_category
        for pattern, painter in ((SWEPT, _swept), (GUIDED, _guided)):
            rows = [value for name, value in data.items() if pattern.fullmatch(name)]
            if rows and all(_is_scores(row, *TASKS) for row in rows):
                return painter
        if _has(data.get("geneval"), "tags") and _has(data.get("gedit"), "kinds"):
            return _of_world
    raise InputError(
        f"{source} holds nothing that can be drawn: give a run of `arm eval` or of reinforcement learning, or "
        "the --json file of `arm eval world`, sweep, guidance or compare, or the table of a synergy run"
    )


def read_source(source: Path) -> Any:
    """A run's report or log, or a file of either. Raises InputError or DataError."""
    if source.is_dir():
        names = ("report.json", "metrics.jsonl")
        found = next((source / name for name in names if (source / name).is_file()), None)
        if found is None:
            raise InputError(f"{source} is no run: it has neither {' nor '.join(names)}")
        source = found
    if not source.is_file():
        raise InputError(f"{source} does not exist")
    if source.suffix == ".jsonl":
        try:
            # The last line of a run that is still writing may be half there.
            whole = source.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
            return [json.loads(line) for line in whole]
        except (OSError, ValueError):
            return [
                line for _, line in read_json_lines(source)
            ]  # names what is wrong, and the line
    return read_json(source)


def plot(source: Path, out: Path) -> None:
    """Draws a file or a run to an .svg or .png file. Raises InputError or DataError in one line."""
    kind = out.suffix.removeprefix(".").lower()
    if kind not in ("svg", "png"):
        raise InputError(f"{out} is neither .svg nor .png")
    data = read_source(source)
    try:
        drawn = painter_of(data, source)(data, kind)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{source} is damaged or of another version ({error!r})") from None
    try:
        with atomic_write(out, keep_mode=True) as temporary:
            temporary.write_bytes(drawn)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error})") from None


def lacking() -> str | None:
    """Why a page has no plot, in one line; None where it has one."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return f"the page has no plot: {NO_MATPLOTLIB}"
    return None


def inline(report: Mapping[str, Any]) -> str:
    """The plot of a report or comparison for an HTML page, in the page's own ink; without matplotlib a
    paragraph that says so.
    """
    if without := lacking():
        return f'<p class="soft">{escape(without)}</p>'
    svg = painter_of(report, Path("report"))(report, "svg").decode()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(COLORS[0], "var(--accent)")
    # A link in an RDF block is no request, but a page that is to have none should not have it either.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg role="img" aria-label="scores by category" ', 1)
