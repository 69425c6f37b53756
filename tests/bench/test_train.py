"""A training table's rows: all of them compute one step, and differ in what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.bench.rounds import measure
from arm.bench.train import (
    Shared,
    Step,
    Wanted,
    alone,
    differ,
    lack_of_memory,
    loss_positions,
    random_model,
    rows_of,
    trials,
)
from arm.configs import micro, paper
from arm.errors import ConfigError
from arm.models.weights import trained
from arm.train import measure as measuring
from arm.train.finetune import Finetune
from arm.train.lm import Backbone, LMRun, config_of
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.training import Loop

CPU = torch.device("cpu")
SIZES = Backbone(64, 96, 2, 4, 2, tie_embeddings=False, text_size=60)


def small(**changes: Any) -> LMRun:
    run = replace(
        micro.lm_pt(), text_tokenizer=Path("nowhere"), backbone=SIZES, rows=2, row_length=64, code_bits=6,
        max_side=6, loop=Loop(steps=1), optim=Optim(lr=1e-3, muon=True),
    )  # fmt: skip
    return replace(run, **changes)


def test_alone_is_one_process_that_learns_nothing():
    run = alone(paper.lm_pt(), Wanted(layers=3), torch.device("cuda"))
    how = run.loop.parallel
    assert (run.rows, run.micro_rows, run.backbone.num_layers, run.optim.lr) == (1, 0, 3, 0.0)
    assert (how.replicas, how.bf16, run.pretrained, run.loop.compile) == (1, True, None, False)
    assert alone(small(rows=8, micro_rows=2), Wanted(), CPU).rows == 2
    assert alone(small(), Wanted(), CPU).rows == 2


def test_rows_change_one_thing_each(monkeypatch: pytest.MonkeyPatch):
    run = alone(small(), Wanted(), CPU)
    _, vocab = config_of(run, 60)
    positions = loss_positions(measuring.random_batch(run, vocab, 2, 32))
    for module in ("arm.train.training", "arm.bench.train"):
        monkeypatch.setattr(f"{module}.has_bf16_units", lambda: True)
    names = [how.name for how in rows_of(run, positions, True, CPU)]
    chunk = -(-positions // 4)
    assert names == [
        "as the run is", "attention=documents", "recompute=selective", "recompute=all",
        f"loss_chunk={chunk}", "bf16 products", "torch.compile",
    ]  # fmt: skip
    chunked = replace(run, loss_chunk=4, loop=Loop(1, parallel=Parallel(recompute="all")))
    names = [how.name for how in rows_of(chunked, positions, False, CPU)][2:]
    assert names == ["recompute=nothing", "recompute=selective", "loss_chunk=0", "bf16 products"]
    sharded = replace(run, loop=Loop(1, parallel=Parallel(shard=True)))
    assert "bf16 products" not in [how.name for how in rows_of(sharded, positions, False, CPU)]


@pytest.mark.parametrize("lora", [0, 2])
def test_all_rows_compute_one_gradient(lora: int):
    if lora:
        pytest.importorskip("peft")
    run = alone(small(finetune=Finetune(lora_rank=lora)), Wanted(), CPU)
    shared, (_, vocab) = Shared(run, 60, CPU), config_of(run, 60)
    batch = measuring.random_batch(run, vocab, 2, 32)
    before = {name: p.detach().clone() for name, p in shared.model.named_parameters()}
    types = [type(module) for module in shared.model.modules()]
    found = {}
    for how in rows_of(run, loss_positions(batch), False, CPU):
        with shared.treated(how):
            treated = any("forward" in vars(block) for block in shared.model.layers)
            assert treated == how.name.startswith("recompute")
            state = (shared.model, shared.optimizer, shared.averages)
            loss, norm = measuring.take_step(how.run, *state, batch)
        grads = [p.grad for p in trained(shared.model).values()]
        flat = torch.cat([g.flatten() for g in grads if g is not None])
        found[how.name] = (how.bf16, Step(float(loss), float(norm), how.bf16), flat)
    assert len(found) >= 5
    _, first, gradient = found["as the run is"]
    assert float(gradient.abs().max()) > 0
    for bf16, step, other in found.values():
        assert differ(first, step) == ""
        apart = float((other - gradient).norm() / gradient.norm())
        assert apart < (0.05 if bf16 else 1e-4)
    after = dict(shared.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [type(module) for module in shared.model.modules()] == types
    assert not any("forward" in vars(block) for block in shared.model.layers)


def test_steps_that_differ():
    first = Step(2.0, 1.0, False)
    assert "its loss is 2.1, the first row's 2" in differ(first, Step(2.1, 1.0, False))
    assert "its norm is 1.01" in differ(first, Step(2.0, 1.01, False))
    assert differ(first, Step(2.02, 1.01, True)) == ""


def test_random_weights_need_nothing_but_sizes():
    a, b = (random_model(alone(small(), Wanted(), CPU), 60, CPU) for _ in range(2))
    same = zip(a.state_dict().items(), b.state_dict().values(), strict=True)
    assert all(torch.equal(mine, its) for (_, mine), its in same)
    assert float(a.layers[0].mlp.up_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert (
        float(a.norm.weight.detach().mean()) == 1.0
        and float(a.layers[0].self_attn.q_proj.bias.detach().abs().sum()) == 0
    )


def test_a_table_a_length(monkeypatch: pytest.MonkeyPatch):
    tables = []
    for trial in trials(small(), Wanted(tokens=(32, 64), document=16, side=16), CPU):
        tables.append(measure(trial, 1, CPU, lambda: 0.0))
    assert [table.title.partition(" (")[0] for table in tables] == [
        "1 x 32 tokens", "1 x 64 tokens"
    ]  # fmt: skip
    for table, tokens in zip(tables, (32, 64), strict=True):
        assert all(row.amount == tokens and not row.left_out for row in table.rows)
        assert all(row.peak_bytes and row.peak_bytes > 0 for row in table.rows)
        assert len({row.flops for row in table.rows}) == 1


def test_what_does_not_fit_is_left_out_before_a_weight_is_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("arm.bench.train.free_bytes", lambda device: 1e9)
    made = paper.lm_pt()
    for trial in trials(made, Wanted(layers=1, tokens=(512,), side=16), CPU):
        assert all("GB, 1.0 GB are free" in variant.left_out for variant in trial.variants)
    run = alone(small(), Wanted(), CPU)
    _, vocab = config_of(run, 60)
    batch = measuring.random_batch(run, vocab, 2, 32)
    how = next(rows_of(run, loss_positions(batch), False, CPU))
    assert lack_of_memory(how, 60, batch, CPU, 1e9) == ""
    assert "it needs about" in lack_of_memory(how, 60, batch, CPU, 1e3)


def test_one_process_alone_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="start it without torchrun"):
        next(trials(small(), Wanted(), CPU))


@pytest.mark.gpu
def test_on_a_gpu():
    cuda = torch.device("cuda")
    wanted = Wanted(layers=1, tokens=(512,), document=256)
    size = replace(paper.lm_pt().backbone, hidden_size=512, intermediate_size=1024, num_heads=8)
    run = replace(paper.lm_pt(), backbone=replace(size, text_size=2000), code_bits=10)
    try:
        (table,) = [
            measure(trial, 2, cuda, iter(range(1000)).__next__)
            for trial in trials(run, wanted, cuda)
        ]
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert table.yardstick is not None and "bf16" in table.yardstick.name
    assert all(row.seconds and row.peak_bytes for row in table.rows)
