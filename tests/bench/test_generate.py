"""Tables of generation: their variants give the same greedy tokens."""

import pytest
import torch

from arm.bench.generate import differ, trials
from arm.bench.rounds import measure
from arm.pipeline import Arm
from arm.world.domain import World
from conftest import TinyChain

CPU = torch.device("cpu")


def test_all_variants_of_a_kind_give_the_same_tokens(arm: Arm, chain: TinyChain):
    found = list(trials(arm, World(), str(chain.model), (1, 3), 2, True, CPU))
    assert [trial.title.partition(",")[0] for trial in found] == [
        "arm by batch size", *["drawing 7 x 7 codes", "drawing 7 x 7 codes", "answering"] * 2,
        "2 samples of one edit",
    ]  # fmt: skip
    for trial in found:
        first: dict[str, list[list[int]]] = {}
        for variant in trial.variants:
            ids = variant.run()
            reference = first.setdefault(variant.kind, ids)
            both = min(len(ids), len(reference))
            assert ids[:both] == reference[:both], f"{trial.title}: {variant.name}"
            assert variant.amount == sum(map(len, ids)) > 0
        assert len(trial.variants) > len(first)


def test_guidance_changes_the_tokens(arm: Arm, chain: TinyChain):
    plain, guided = list(trials(arm, World(), str(chain.model), (2,), 2, True, CPU))[1:3]
    assert "no guidance" in plain.title and "guidance" in guided.title
    assert plain.variants[0].run() != guided.variants[0].run()


def test_without_the_peer_and_measured(arm: Arm):
    by_batch, sharing = trials(arm, World(), "no such model", (1,), 2, False, CPU)
    assert [v.name.partition(",")[0] for v in by_batch.variants] == [
        "drawing",
        "drawing",
        "answering",
    ]
    table = measure(sharing, 1, CPU, iter(range(100)).__next__)
    assert [row.left_out for row in table.rows] == ["", "", ""]
    weights = sum(p.numel() * 4 for p in arm.model.parameters())
    assert all(row.peak_bytes and row.peak_bytes > weights for row in table.rows)


def test_other_tokens_are_told():
    assert differ([[1], [2]], [[1], [2], [3]]) == ""
    assert differ([[1], [2]], [[1], [3]]) == "its greedy tokens are others in 1 of 2 rows"


@pytest.mark.gpu
def test_on_a_gpu(chain: TinyChain):
    cuda = torch.device("cuda")
    for trial in trials(
        Arm.from_pretrained(chain.model), World(), str(chain.model), (2,), 2, True, cuda
    ):
        table = measure(trial, 1, cuda, iter(range(100)).__next__)
        assert table.rows[0].peak_bytes
