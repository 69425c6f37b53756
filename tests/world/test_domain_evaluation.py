"""What is reported is measured on the split test by known weights, and what is chosen is chosen on others."""

import inspect
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from arm.data.images import GridWeight
from arm.domain import Canvas, Split
from arm.evals import decoders, guidance, reconstruction
from arm.model_directory import find_model
from arm.rl import grpo, rates
from arm.world.domain import World, evaluate, model_hash
from arm.world.sampling import (
    DEV,
    HELD_OUT_COLORED,
    HELD_OUT_COUNTS,
    HELD_OUT_RELATIONS,
    HELD_OUT_TOGETHER,
    held_out_combinations,
)
from arm.world.scene import RELATIONS, SHAPES
from arm.world.scoring import TAGS, knowledge_facts

CANVAS = Canvas((GridWeight(7, 7),), 8)
WORLD = World()


def test_dev_and_test_have_half_of_each_kind_of_combination():
    together = {tuple(sorted(pair, key=SHAPES.index)) for pair in HELD_OUT_TOGETHER}
    for held_out in (HELD_OUT_COLORED, HELD_OUT_COUNTS, together, HELD_OUT_RELATIONS):
        assert abs(len(held_out) - 2 * len(DEV & held_out)) <= 1
    for relation in RELATIONS:
        of_relation = {c for c in HELD_OUT_RELATIONS if c[1] == relation}
        assert abs(len(of_relation) - 2 * len(DEV & of_relation)) <= 1
    for n in (2, 3, 4):
        assert sum(c[0] == n for c in DEV & HELD_OUT_COUNTS) == 1


def test_facts_of_dev_and_test_are_others():
    splits = [set(knowledge_facts(split)) for split in ("train", "dev", "test")]
    assert not any(splits[i] & splits[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    for held_out in splits[1:]:
        assert {fact.kind for fact in held_out} == {"color", "shape", "number"}


def stated(split: Split) -> set[str]:
    """Prompts without what they begin with; those of single_object have nothing to hold out."""
    tasks = [t for t in WORLD.prompts(split, 100, 3) if t.kind != "single_object"]
    return {repr((t.kind, t.truth.wanted, t.truth.relation)) for t in tasks}


def test_prompts_of_dev_and_test_are_disjoint():
    assert len(TAGS) == 6
    assert not stated("dev") & stated("test") and not stated("train") & stated("test")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_pictures_show_combinations_of_their_split_alone(split: Split):
    scenes = [t for n in range(3) for t in WORLD.pictures(split, 1, n, 16, CANVAS).truths]
    edits = [edit.truth for edit in WORLD.edits(split, 4, 1, CANVAS)]
    scenes += [scene for edit in edits for scene in (edit.source, edit.target)]
    shown = set().union(*map(held_out_combinations, scenes))
    assert shown and all((combination in DEV) == (split == "dev") for combination in shown)


def splits_named(source: str) -> set[str]:
    return {split for split in ("train", "dev", "test") if f'"{split}"' in source}


@pytest.mark.parametrize(
    ("chooses", "splits"),
    [
        (guidance.sweep, {"train"}),
        (grpo.held_out_scores, {"dev"}),
        (reconstruction.quick_scores, {"dev"}),
    ],
)
def test_what_is_chosen_by_is_never_what_is_reported(chooses: object, splits: set[str]):
    assert splits_named(inspect.getsource(chooses)) == splits  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("module", [rates])
def test_rates_are_chosen_by_what_was_watched(module: ModuleType):
    assert "held_out/" in inspect.getsource(module) and not splits_named(inspect.getsource(module))


@pytest.mark.parametrize("reports", [evaluate, guidance.measure, decoders.compare])
def test_what_is_reported_is_measured_on_test(reports: object):
    assert inspect.signature(reports).parameters["split"].default == "test"  # pyright: ignore[reportArgumentType]


def test_the_hash_of_a_model_is_that_of_its_tensors(tmp_path: Path):
    micro = find_model("micro")
    copy = Path(shutil.copytree(micro, tmp_path / "model"))
    assert model_hash(copy) == model_hash("micro") != model_hash("micro-sft")
    path = copy / "tokenizer.safetensors"
    tensors = load_file(path)
    save_file({f"renamed.{name}": tensor for name, tensor in tensors.items()}, path)
    assert model_hash(copy) == model_hash("micro")
    first = next(iter(tensors))
    tensors[first] = tensors[first] + torch.ones_like(tensors[first])
    save_file(tensors, path)
    assert model_hash(copy) != model_hash("micro")


@pytest.mark.parametrize("name", ["micro", "micro-sft"])
def test_shipped_scores_are_of_the_shipped_weights(name: str):
    """New weights need new scores: `arm eval world --model NAME --json scores.json`."""
    made_by = json.loads((find_model(name) / "scores.json").read_text())["made_by"]
    assert (made_by["weights"], made_by["split"]) == (model_hash(name), "test")
