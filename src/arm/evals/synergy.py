"""The table of the synergy experiment, made from the scores of every single item without any model.

`rl/synergy.py` trains and measures the models and keeps their scores; this file reads, writes and
compares them.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arm.errors import WeightsError
from arm.evals.statistics import equivalent, holm, paired, pooled_spread
from arm.files import atomic_write

SUPERVISED = "SFT"
CONTINUED = "SFT continued"
TASKS = ("geneval", "gedit", "wise", "vqa")
MARGIN = 0.02
"""Understanding counts as kept where its accuracy is shown to lie within two points."""
ALPHA = 0.05
"""Differences with a smaller p-value after Holm's correction are printed in bold."""


def read_scores(path: Path) -> dict[str, Any]:
    """The scores of every model that has been measured; {} where there is no file yet.

    A key is `seedN/STAGES`, as "seed0/t2i-edit"; "seed0/start" is the supervised model. A value holds
    `start` (the hash of the weights that training started from), `made_by` (the settings that the scores
    depend on) and `scores`: for each setting the scores of the items of each task, the best temperature
    of each task, and the answers (1 or 0) of `vqa`. Raises WeightsError for a damaged file.
    """
    if not path.exists():
        return {}
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise WeightsError(f"{path} is not gzipped JSON ({error}); restore or delete it") from None


def write_scores(scores: Mapping[str, Any], path: Path) -> None:
    """Writes what `read_scores` reads, completely or not at all. Equal scores give equal bytes:
    models are sorted by key and no time is recorded.
    """
    text = json.dumps(dict(sorted(scores.items())), separators=(",", ":"))
    with atomic_write(path, keep_mode=True) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def at_best(scores: Mapping[str, Any], task: str) -> list[float]:
    """The items' scores at the temperature that was best on training combinations."""
    if task == "vqa":
        return scores["vqa"]
    best = scores["best"]["gedit" if task == "gedit" else "geneval"]
    return scores["settings"][f"t{best:g}"][task]


def table(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Compares models. scores: for each model those of every seed; "SFT" must be among them.

    Returns `means` (by model, setting and task), `best` (temperatures), `sft` (means of the supervised
    model at its best temperature), `to_sft` (paired differences to it: 95 % interval, p-value, p-value
    after Holm's correction over all models and tasks, mean of each seed, and for "vqa" whether it is
    kept) and, where it was measured, `to_continued`: differences to continued supervision, without
    correction. The spread of seeds is pooled over the models.
    """
    result: dict[str, Any] = {
        "means": {name: _means(seeds) for name, seeds in scores.items()},
        "to_sft": {},
        "best": {name: [seed["best"] for seed in seeds] for name, seeds in scores.items()},
    }
    items = {
        task: {name: np.array([at_best(s, task) for s in seeds]) for name, seeds in scores.items()}
        for task in TASKS
    }
    spreads = {task: pooled_spread(models.values()) for task, models in items.items()}
    p_values = {}
    for name in scores:
        if name == SUPERVISED:
            continue
        result["to_sft"][name] = {}
        for task in TASKS:
            ours, theirs, spread = items[task][name], items[task][SUPERVISED], spreads[task]
            difference = paired(ours, theirs, spread=spread)
            row: dict[str, Any] = {"mean": float(ours.mean()), **difference.to_dict()}
            row["seeds"] = ours.mean(1).tolist()
            p_values[f"{name}|{task}"] = difference.p
            if task == "vqa":
                row["kept"], row["kept_p"] = equivalent(ours, theirs, MARGIN, spread=spread)
            result["to_sft"][name][task] = row
    for key, p_holm in holm(p_values).items():
        name, task = key.split("|")
        result["to_sft"][name][task]["p_holm"] = p_holm
    if CONTINUED in scores:
        result["to_continued"] = {
            name: {
                task: paired(
                    items[task][name], items[task][CONTINUED], spread=spreads[task]
                ).to_dict()
                for task in TASKS
            }
            for name in scores
            if name not in (SUPERVISED, CONTINUED)
        }
    result["sft"] = {task: float(models[SUPERVISED].mean()) for task, models in items.items()}
    return result


def _means(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean scores over seeds and items, by setting and task; "vqa" has no settings."""
    means: dict[str, Any] = {
        setting: {
            task: float(np.mean([seed["settings"][setting][task] for seed in seeds]))
            for task in TASKS
            if task != "vqa"
        }
        for setting in seeds[0]["settings"]
    }
    means["vqa"] = float(np.mean([seed["vqa"] for seed in seeds]))
    return means


def markdown(result: Mapping[str, Any]) -> str:
    """The Markdown table of what `table` returns: means with the interval of the difference to SFT at its
    best temperature, in bold where the difference holds after Holm's correction.
    """
    lines = [
        "| | geneval | gedit O | wise | vqa | vqa kept |",
        "|---|---|---|---|---|---|",
        "| SFT, best temperature | {geneval:.3f} | {gedit:.2f} | {wise:.3f} | {vqa:.3f} | |".format(
            **result["sft"]
        ),
    ]
    for name, row in result["to_sft"].items():
        cells = []
        for task in TASKS:
            score = row[task]
            text = f"{score['mean']:.3f} ({score['low']:+.3f} to {score['high']:+.3f})"
            cells.append(f"**{text}**" if score["p_holm"] < ALPHA else text)
        kept = "yes" if row["vqa"]["kept"] else "not shown"
        lines.append(f"| {name} | {' | '.join(cells)} | {kept} |")
    return "\n".join(lines)
