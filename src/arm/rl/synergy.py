"""A small version of the paper's Table 8: how reinforcement learning of one task affects the others.

Each path of stages starts from the same supervised model and is trained once per seed; paths share their common
prefixes. Three controls rule out other explanations of a gain: the supervised model at its own best temperature
(sharper sampling), continued supervised training with the same FLOPs (more training), and reinforcement learning
with shuffled rewards (any change at all). All models get the same prompts, edits and questions about held-out
combinations.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arm.config import MAY_CHANGE, to_json, with_defaults
from arm.data.packing import packed_batch
from arm.errors import ConfigError
from arm.evals import tasks
from arm.evals.painting import canvas_of
from arm.evals.report import fill_block
from arm.evals.synergy import CONTINUED, markdown, read_scores, table, write_scores
from arm.files import write_json
from arm.generate import Guidance
from arm.model_directory import find_model, model_files
from arm.models.backbone import backbone_hash
from arm.models.pretrained import load_text_tokenizer
from arm.models.text import TextTokenizer
from arm.pipeline import Arm
from arm.rl import grpo
from arm.rl.grpo import GRPORun, Trainer
from arm.sampling import GREEDY, Sampling
from arm.train import lm as train_lm
from arm.train import merge, parallel
from arm.train.lm import LMRun
from arm.train.measure import flop_counter
from arm.train.merge import MergeRun

SHARED = True
"""Whether all processes run this stage (`train/chain.py`)."""
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
"""Models whose weights are the mean of the final models of other paths (`train/merge.py`)."""


@dataclass(frozen=True)
class SynergyRun:
    """model: the supervised model that every path starts from. t2i, edit, joint: the stages of
    reinforcement learning; their `out`, `model` and seed are set here.

    sft: the supervised stage that is continued for as many steps as the FLOPs of `t2i` allow.
    temperatures: the candidates from which each model's best one is chosen on training combinations.
    table: the name of the table, which is written to `out`/NAME.json and to the block of that name in
    each Markdown file of `into`.
    """

    out: Path = field(metadata=MAY_CHANGE)
    model: str
    t2i: GRPORun
    edit: GRPORun
    joint: GRPORun
    sft: LMRun
    size: tasks.EvalSize
    seeds: tuple[int, ...] = (0, 1, 2)
    temperatures: tuple[float, ...] = (0.0, 0.3, 0.6)
    paths: tuple[str, ...] = (*PATHS, *AVERAGED)
    into: tuple[Path, ...] = field(default=(), metadata=MAY_CHANGE)
    table: str = "synergy"

    def __post_init__(self) -> None:
        known = [*PATHS, *AVERAGED]
        unknown = set(self.paths) - set(known)
        if unknown or "SFT" not in self.paths:
            raise ValueError(f"paths are SFT and any of {', '.join(known)}; unknown: {unknown}")
        if self.t2i.domain is None or self.sft.domain is None:
            raise ValueError("t2i and sft need a domain, whose tasks all models are scored on")


def rl_flops(run: GRPORun) -> float:
    """FLOPs of one step over all processes: sampling, decoding, policy and reference, backward pass."""
    arm = Arm.from_pretrained(run.model)
    arm.model.requires_grad_(True)
    # A temporary folder, since a step whose journal exists would not be sampled again.
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(run, out=Path(folder)), arm)
        with flop_counter() as counter:
            trainer.losses(trainer.batch(0))
    flops = torch.tensor(float(counter.get_total_flops()), dtype=torch.float64)
    return float(parallel.all_reduce_mean(flops)) * parallel.world_size()


def sft_flops(run: LMRun) -> int:
    """FLOPs of the forward and backward pass of one supervised step over all processes. Raises
    ConfigError for a run with a fixed number of rows, whose FLOPs depend on how full the rows are.
    """
    if run.rows:
        raise ConfigError("continued SFT at equal compute is counted in samples: set sft.rows=0")
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    model, vocab = train_lm.build(run, text_tokenizer.size)
    assert run.domain is not None  # `LMRun` demands one beside shards
    chains = [c for _, c in zip(range(256), run.domain.read_chains(run.shards[0]), strict=False)]
    mix = train_lm.samples_of(run, chains, text_tokenizer, vocab)
    batch = packed_batch(0, 0, run.samples, run.row_length, mix, run.weights, vocab)
    with flop_counter() as counter:
        train_lm.step_losses(run, model, batch)["loss"].backward()
    return counter.get_total_flops()


def train_path(run: SynergyRun, seed: int, path: Sequence[str]) -> Path:
    """Trains the stages of a path that are not finished and returns the directory of its final model."""
    source: str | Path = run.model
    for depth, stage in enumerate(path):
        out = run.out / f"seed{seed}" / "-".join(path[: depth + 1])
        if stage == "sft":
            paid = rl_flops(replace(run.t2i, model=str(source)))
            whole = find_model(str(source))
            begun = replace(
                run.sft,
                init_from=whole,
                text_tokenizer=model_files(whole).text_tokenizer,
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
    """The training stages of a model of the table; for an average, those of all models it averages."""
    return [stage for part in AVERAGED.get(name, (name,)) for stage in PATHS[part]]


def trained(run: SynergyRun, seed: int, name: str) -> Path:
    """The directory of the final model of a path, or of the average of several, trained if necessary."""
    if name in PATHS:
        return train_path(run, seed, PATHS[name])
    parts = tuple(str(train_path(run, seed, PATHS[part])) for part in AVERAGED[name])
    out = run.out / f"seed{seed}" / name
    if parallel.is_main():
        merge.main(MergeRun(out, run.model, parts, (1 / len(parts),) * len(parts)))
    parallel.barrier()
    return out / "model"


def settings(run: SynergyRun) -> list[tasks.SamplingSetting]:
    """Sampled and greedy without guidance, then each temperature with the model's default guidance."""
    plain, warm = Guidance(1.0, 1.0), Sampling(0.7)
    bare = [
        tasks.SamplingSetting("unguided, sampled", warm, warm, plain),
        tasks.SamplingSetting("unguided, greedy", GREEDY, GREEDY, plain),
    ]
    warmth = [tasks.SamplingSetting(f"t{t:g}", Sampling(t), Sampling(t)) for t in run.temperatures]
    return bare + warmth


def score_model(run: SynergyRun, directory: Path) -> dict[str, Any]:
    """Measures a model in every setting. Returns `scores` as `evals.synergy.read_scores` describes it."""
    arm = Arm.from_pretrained(directory)
    size, by_setting = run.size, {}
    domain, canvas, images = run.t2i.domain, canvas_of(arm), size.images_per_prompt
    assert domain is not None  # `SynergyRun` demands one
    referee = domain.referee(canvas)
    prompts = domain.prompts("test", size.prompts_per_tag, size.seed)
    knowledge = domain.knowledge_prompts("test", size.wise_prompts, size.seed)
    edits = domain.edits("test", size.edits_per_kind, size.seed, canvas)
    for setting in settings(run):
        drawn = tasks.draw_and_check(arm, referee, prompts, images, setting, size.seed)
        edited = tasks.edit_and_score(arm, referee, edits, setting, size.seed)
        known = tasks.draw_and_check(arm, referee, knowledge, images, setting, size.seed)
        by_setting[setting.name] = {
            "geneval": [x for v in drawn.values() for x in v],
            "gedit": [round(s.overall, 4) for v in edited.values() for s in v],
            "wise": [x for v in known.values() for x in v],
        }
    trained = domain.prompts("train", size.prompts_per_tag, size.seed)
    trained_edits = domain.edits("train", size.edits_per_kind, size.seed, canvas)
    best = {}
    for task in ("geneval", "gedit"):
        by_temperature = {}
        for t in run.temperatures:
            setting = tasks.SamplingSetting("", Sampling(t), Sampling(t))
            if task == "geneval":
                right = tasks.draw_and_check(arm, referee, trained, 1, setting, size.seed + 1)
                by_temperature[t] = np.mean([x for v in right.values() for x in v])
            else:
                edited = tasks.edit_and_score(arm, referee, trained_edits, setting, size.seed + 1)
                by_temperature[t] = np.mean([s.overall for v in edited.values() for s in v])
        best[task] = max(by_temperature, key=lambda t: float(by_temperature[t]))
    questions = domain.questions("test", size.questions_per_kind, size.seed, canvas)
    answers = tasks.answer_questions(arm, questions)
    vqa = [float(task.answer == said) for task, said in zip(questions, answers, strict=True)]
    return {"settings": by_setting, "best": best, "vqa": vqa}


def scores_file(run: SynergyRun) -> Path:
    """The file that `evals.synergy.read_scores` reads: the scores of every model of the run."""
    return run.out / "scores.json.gz"


def scored(run: SynergyRun, seed: int, name: str) -> dict[str, Any]:
    """The scores of the final model of a path, which is trained and measured unless they are on file."""
    stages = stages_of(name)
    seed = seed if stages else 0
    key = f"seed{seed}/{name if name in AVERAGED else '-'.join(stages) or 'start'}"
    # Only the settings that these scores depend on: those of other paths may change.
    everything = to_json(run)
    settings_of = {"placebo": ("t2i",), "sft": ("sft", "t2i")}
    of_stages = [name for stage in stages for name in settings_of.get(stage, (stage,))]
    made_by = {field: everything[field] for field in ("size", "temperatures", *of_stages)}
    start = backbone_hash(find_model(run.model))
    kept = read_scores(scores_file(run)).get(key)
    if kept and kept["start"] == start:
        recorded = {k: with_defaults(v, getattr(run, k)) for k, v in kept["made_by"].items()}
        if recorded == made_by:
            return kept["scores"]
    directory = trained(run, seed, name)
    if parallel.is_main():
        print(f"scoring {name}, seed {seed}", flush=True)
        entry = {"start": start, "made_by": made_by, "scores": score_model(run, directory)}
        write_scores({**read_scores(scores_file(run)), key: entry}, scores_file(run))
    parallel.barrier()
    return read_scores(scores_file(run))[key]["scores"]


def tables(run: SynergyRun) -> dict[str, Any]:
    """Trains and measures what is missing and returns the table of `evals.synergy.table`."""
    return table(
        {
            name: [scored(run, seed, name) for seed in (run.seeds if stages_of(name) else (0,))]
            for name in run.paths
        }
    )


def main(run: SynergyRun) -> None:
    """Trains and measures what is missing, then writes and prints the table."""
    parallel.init_processes()
    result = tables(run)
    if not parallel.is_main():
        return
    write_json(result, run.out / f"{run.table}.json")
    print(markdown(result), flush=True)
    for path in run.into:
        fill_block(path, run.table, markdown(result))
