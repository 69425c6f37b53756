"""The paper's Table 8 in small: what reinforcement learning of one task does to the others.

Every path of stages starts at one supervised model and is trained once a seed; a path's prefix is
shared. Beside them stand what could explain a gain away: the supervised model at its own best
temperature (sharper sampling), supervised training continued at equal compute (more training), and
reinforcement learning by shuffled rewards (any movement at all). All models are asked the same
prompts, edits and questions of held-out combinations.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from arm.config import to_json, with_defaults
from arm.data.mixture import packed_batch
from arm.data.shards import read_shards
from arm.errors import ConfigError
from arm.evals import world
from arm.evals.compare import equivalent, holm, paired, pooled_spread
from arm.evals.report import fill_block
from arm.generate import Guidance
from arm.model_directory import find_model, text_tokenizer_directory
from arm.models.pretrained import load_text_tokenizer
from arm.models.text import TextTokenizer
from arm.models.weights import read_json, weights_hash, write_json
from arm.pipeline import Arm
from arm.sampling import Sampling
from arm.train import grpo, merge, parallel
from arm.train import lm as train_lm
from arm.train.grpo import GRPORun, Trainer
from arm.train.lm import LMRun
from arm.train.measure import ATTENTION
from arm.train.merge import MergeRun

SHARED = True
"""Several processes may run it together (`train/chain.py`)."""
CONTINUED = "SFT continued"
PATHS: dict[str, tuple[str, ...]] = {
    "SFT": (),
    CONTINUED: ("sft",),
    "T2I RL": ("t2i",),
    "Edit RL": ("edit",),
    "T2I -> Edit": ("t2i", "edit"),
    "Edit -> T2I": ("edit", "t2i"),
    "T2I -> Edit -> Joint": ("t2i", "edit", "joint"),
    "shuffled rewards": ("placebo",),
}
AVERAGED = {"averaged": ("T2I -> Edit -> Joint", "Edit RL")}
"""Models that are the mean of the ends of other paths (`train/merge.py`)."""
TASKS = ("geneval", "gedit", "wise", "vqa")
MARGIN = 0.02
"""Understanding counts as kept within two points."""


@dataclass(frozen=True)
class SynergyRun:
    """model: where all start. t2i, edit, joint: the stages; their out, model and seed are set here.

    sft: the supervised stage that is continued, over as many steps as the FLOPs of `t2i` pay for.
    temperatures: of the sweep by which each model's best one is found, on training combinations. table:
    the name of the table, `out`/NAME.json and the block of that name in the Markdown files `into`.
    """

    out: Path
    model: str
    t2i: GRPORun
    edit: GRPORun
    joint: GRPORun
    sft: LMRun
    size: world.Size
    seeds: tuple[int, ...] = (0, 1, 2)
    temperatures: tuple[float, ...] = (0.0, 0.3, 0.6)
    paths: tuple[str, ...] = (*PATHS, *AVERAGED)
    into: tuple[Path, ...] = ()
    table: str = "synergy"

    def __post_init__(self) -> None:
        known = [*PATHS, *AVERAGED]
        unknown = set(self.paths) - set(known)
        if unknown or "SFT" not in self.paths:
            raise ValueError(f"paths are SFT and any of {', '.join(known)}; unknown: {unknown}")


def rl_flops(run: GRPORun) -> float:
    """FLOPs of one step of all processes: sampling, painting, both networks and the backward pass."""
    arm = Arm.from_pretrained(run.model)
    arm.model.requires_grad_(True)
    # In a folder of its own: what a journal holds already would not be sampled again.
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(run, out=Path(folder)), arm)
        counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
        with counter:
            trainer.losses(trainer.batch(0))
    flops = torch.tensor(float(counter.get_total_flops()), dtype=torch.float64)
    return float(parallel.mean(flops)) * parallel.world_size()


def sft_flops(run: LMRun) -> int:
    """FLOPs of one forward and backward pass of a supervised step, which all processes share. Raises
    ConfigError for a run that counts rows: their cost depends on how full they are.
    """
    if run.rows:
        raise ConfigError("continued SFT at equal compute is counted in samples: set sft.rows=0")
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    model, vocab = train_lm.build(run, text_tokenizer.size)
    chains = [c for _, c in zip(range(256), read_shards(run.shards[0]), strict=False)]
    draw = train_lm.samples_of(run, chains, text_tokenizer, vocab)
    batch = packed_batch(0, 0, run.samples, run.row_length, draw, run.weights, vocab)
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    with counter:
        train_lm.step_losses(run, model, batch)["loss"].backward()
    return counter.get_total_flops()


def train_path(run: SynergyRun, seed: int, path: Sequence[str]) -> Path:
    """The model directory at the end of a path; stages that are done are passed over."""
    source: str | Path = run.model
    for depth, stage in enumerate(path):
        out = run.out / f"seed{seed}" / "-".join(path[: depth + 1])
        if stage == "sft":
            paid = rl_flops(replace(run.t2i, model=str(source)))
            whole = find_model(str(source))
            begun = replace(
                run.sft,
                init_from=whole / "backbone",
                text_tokenizer=text_tokenizer_directory(whole),
                parts=str(source),
            )
            steps = round(run.t2i.loop.steps * paid / sft_flops(begun))
            loop = replace(run.sft.loop, steps=steps, seed=1000 + seed)
            train_lm.main(replace(begun, out=out, loop=loop))
            source = out / "arm"
            continue
        base = {"t2i": run.t2i, "edit": run.edit, "joint": run.joint}.get(stage, run.t2i)
        grpo.main(
            replace(
                base,
                out=out,
                model=str(source),
                shuffle_rewards=stage == "placebo",
                loop=replace(base.loop, seed=1000 * (depth + 1) + seed),
            )
        )
        source = out / "model"
    return find_model(str(source))


def stages_of(name: str) -> list[str]:
    """The stages that a model of the table was trained in, of an average those of all its parts."""
    return [stage for part in AVERAGED.get(name, (name,)) for stage in PATHS[part]]


def trained(run: SynergyRun, seed: int, name: str) -> Path:
    """The model directory at the end of a path, or the average of several."""
    if name in PATHS:
        return train_path(run, seed, PATHS[name])
    parts = tuple(str(train_path(run, seed, PATHS[part])) for part in AVERAGED[name])
    out = run.out / f"seed{seed}" / name
    if parallel.is_main():
        merge.main(MergeRun(out, run.model, parts, (1 / len(parts),) * len(parts)))
    parallel.wait()
    return out / "model"


def settings(run: SynergyRun) -> list[world.Setting]:
    """Sampled and greedy without guidance; then the temperatures with the model's own guidance."""
    plain, warm = Guidance(1.0, 1.0), Sampling(0.7)
    bare = [
        world.Setting("unguided, sampled", warm, warm, plain),
        world.Setting("unguided, greedy", world.GREEDY, world.GREEDY, plain),
    ]
    return bare + [world.Setting(f"t{t:g}", Sampling(t), Sampling(t)) for t in run.temperatures]


def score_model(run: SynergyRun, directory: Path) -> dict[str, Any]:
    """Every item's score in every setting, and the best temperature on training combinations."""
    arm = Arm.from_pretrained(directory)
    size, found = run.size, {}
    prompts, knowledge = world.geneval_prompts(size), world.wise_prompts(size)
    edits = world.sampled_edits(arm, size)
    for setting in settings(run):
        drawn = world.draw_and_check(arm, prompts, size.images_per_prompt, setting, size.seed)
        edited = world.edit_and_score(arm, edits, setting, size.seed)
        known = world.draw_and_check(arm, knowledge, size.images_per_prompt, setting, size.seed)
        found[setting.name] = {
            "geneval": [x for v in drawn.values() for x in v],
            "gedit": [round(s.overall, 4) for v in edited.values() for s in v],
            "wise": [x for v in known.values() for x in v],
        }
    trained = world.geneval_prompts(size, held_out=False)
    trained_edits = world.sampled_edits(arm, size, held_out=False)
    best = {}
    for task in ("geneval", "gedit"):
        by_temperature = {}
        for t in run.temperatures:
            setting = world.Setting("", Sampling(t), Sampling(t))
            if task == "geneval":
                right = world.draw_and_check(arm, trained, 1, setting, size.seed + 1)
                by_temperature[t] = np.mean([x for v in right.values() for x in v])
            else:
                edited = world.edit_and_score(arm, trained_edits, setting, size.seed + 1)
                by_temperature[t] = np.mean([s.overall for v in edited.values() for s in v])
        best[task] = max(by_temperature, key=lambda t: float(by_temperature[t]))
    vqa = [float(question.answer == said) for question, said in world.answered(arm, size)]
    return {"settings": found, "best": best, "vqa": vqa}


def scored(run: SynergyRun, seed: int, name: str) -> dict[str, Any]:
    """The scores of a path's model, trained and measured unless that is done."""
    stages = stages_of(name)
    seed = seed if stages else 0
    stem = name if name in AVERAGED else "-".join(stages) or "start"
    file = run.out / f"seed{seed}" / f"{stem}.scores.json"
    # What the scores stand on, and nothing else: other paths' settings may change.
    everything = to_json(run)
    settings_of = {"placebo": ("t2i",), "sft": ("sft", "t2i")}
    of_stages = [name for stage in stages for name in settings_of.get(stage, (stage,))]
    made_by = {key: everything[key] for key in ("size", "temperatures", *of_stages)}
    start = weights_hash(find_model(run.model) / "backbone")
    if file.is_file():
        kept = read_json(file)
        old = {k: with_defaults(v, getattr(run, k)) for k, v in kept["made_by"].items()}
        if kept.get("start") == start and old == made_by:
            return kept["scores"]
    directory = trained(run, seed, name)
    if parallel.is_main():
        print(f"scoring {name}, seed {seed}", flush=True)
        scores = score_model(run, directory)
        write_json({"start": start, "made_by": made_by, "scores": scores}, file)
    parallel.wait()
    return read_json(file)["scores"]


def at_best(scores: Mapping[str, Any], task: str) -> list[float]:
    """A task's items at the temperature that was best on training combinations."""
    if task == "vqa":
        return scores["vqa"]
    best = scores["best"]["gedit" if task == "gedit" else "geneval"]
    return scores["settings"][f"t{best:g}"][task]


def tables(run: SynergyRun) -> dict[str, Any]:
    """Means a setting, and differences to SFT at its own best temperature, tested, and to continued SFT; the
    spread of seeds is pooled over the paths.
    """
    every = {
        name: [scored(run, seed, name) for seed in (run.seeds if stages_of(name) else (0,))]
        for name in run.paths
    }
    result: dict[str, Any] = {"means": {}, "to_sft": {}, "best": {}}
    for name, seeds in every.items():
        result["best"][name] = [s["best"] for s in seeds]
        result["means"][name] = {
            setting: {
                task: float(np.mean([s["settings"][setting][task] for s in seeds]))
                for task in ("geneval", "gedit", "wise")
            }
            for setting in seeds[0]["settings"]
        }
        result["means"][name]["vqa"] = float(np.mean([s["vqa"] for s in seeds]))
    p_values = {}
    rows = {
        task: {name: np.array([at_best(s, task) for s in found]) for name, found in every.items()}
        for task in TASKS
    }
    spreads = {task: pooled_spread(models.values()) for task, models in rows.items()}
    for name in run.paths:
        if name == "SFT":
            continue
        result["to_sft"][name] = {}
        for task in TASKS:
            ours, theirs, spread = rows[task][name], rows[task]["SFT"], spreads[task]
            difference = paired(ours, theirs, spread=spread)
            row: dict[str, Any] = {"mean": float(ours.mean()), **difference.to_dict()}
            row["seeds"] = ours.mean(1).tolist()
            p_values[f"{name}|{task}"] = difference.p
            if task == "vqa":
                row["kept"], row["kept_p"] = equivalent(ours, theirs, MARGIN, spread=spread)
            result["to_sft"][name][task] = row
    for key, value in holm(p_values).items():
        name, task = key.split("|")
        result["to_sft"][name][task]["p_holm"] = value
    if (
        CONTINUED in run.paths
    ):  # more than as much supervision gives? Not corrected, not in the table
        result["to_continued"] = {
            name: {
                task: paired(
                    rows[task][name], rows[task][CONTINUED], spread=spreads[task]
                ).to_dict()
                for task in TASKS
            }
            for name in run.paths
            if name not in ("SFT", CONTINUED)
        }
    result["sft"] = {
        task: float(np.mean([at_best(s, task) for s in every["SFT"]])) for task in TASKS
    }
    return result


def markdown(result: Mapping[str, Any]) -> str:
    """Differences to SFT at its best temperature; bold where they hold after Holm's correction."""
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
            found = row[task]
            text = f"{found['mean']:.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
            cells.append(f"**{text}**" if found["p_holm"] < 0.05 else text)
        kept = "yes" if row["vqa"]["kept"] else "not shown"
        lines.append(f"| {name} | {' | '.join(cells)} | {kept} |")
    return "\n".join(lines)


def main(run: SynergyRun) -> None:
    """Trains and scores what is not done yet, writes the table, prints the table."""
    parallel.start()
    result = tables(run)
    if not parallel.is_main():
        return
    write_json(result, run.out / f"{run.table}.json")
    print(markdown(result), flush=True)
    for path in run.into:
        fill_block(path, run.table, markdown(result))
