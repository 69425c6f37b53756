"""Traced steps beside measured ones: bytes at the fullest moment, and FLOPs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.configs import micro
from arm.errors import DataError
from arm.plan.estimates import Mix
from arm.plan.language_model import compare
from arm.plan.trace import step_cost, trace_step
from arm.train.finetune import Finetune
from arm.train.lm import Backbone, LMRun
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.training import Loop
from conftest import TinyChain

SIZES = Backbone(64, 176, 3, 4, 2, tie_embeddings=False, text_size=300)


def small(recompute: Any = "nothing", **changes: Any) -> LMRun:
    """Grouped heads, own text head, codes by bits and places; fp32."""
    loop = Loop(steps=1, parallel=Parallel(recompute=recompute))
    run = replace(
        micro.lm_pt(), text_tokenizer=Path("nowhere"), backbone=SIZES, rows=4, row_length=128, code_bits=8, max_side=8,
        loop=loop, optim=Optim(lr=1e-3)
    )  # fmt: skip
    return replace(run, **changes)


TIED = replace(SIZES, text_size=6000, tie_embeddings=True)


def frozen(*freeze: str) -> Finetune:
    return Finetune(freeze=freeze)


BLOCKS, TABLES = r"^layers\.", "embed"
CASES = {
    "masked": small(),
    "selective documents": small("selective", attention="documents"),
    "all, chunked, in pieces": small("all", attention="documents", loss_chunk=32, micro_rows=2),
    "large tied table": small(backbone=TIED, loss_chunk=16, micro_rows=1),
    "Muon and average": small(optim=Optim(lr=1e-3, muon=True, ema=0.9)),
    "code tables": small("selective", share_bits=False, grid_positions=False, code_bits=12),
    "LoRA": small("all", finetune=Finetune(lora_rank=4), attention="documents"),
    "LoRA above frozen blocks": small(
        finetune=Finetune(lora_rank=4, full=("lm_head",), freeze=(r"^layers\.[01]\.",))
    ),
    "frozen blocks": small(finetune=frozen(BLOCKS)),
    "frozen blocks, selective": small("selective", finetune=frozen(BLOCKS)),
    "frozen blocks and tables": small(finetune=frozen(BLOCKS, TABLES)),
    "frozen blocks, tables and text head": small(
        "selective", finetune=frozen(BLOCKS, TABLES, "lm_head")
    ),
    "frozen from below": small(
        "all", finetune=frozen(r"^layers\.[01]\.", TABLES), attention="documents", loss_chunk=32
    ),
    "frozen MLPs and visual heads": small(
        finetune=frozen("mlp", r"^visual\.(head|bit_head)\."), attention="documents"
    ),
    "biases alone": small(finetune=frozen("weight$")),
}


def check(run: LMRun, mix: Mix) -> str:
    """Compares the trace with a real step; returns what batch it was."""
    result = compare(run, mix)
    assert result.predicted_flops == pytest.approx(result.measured.flops, rel=0.01)
    assert result.predicted_bytes == pytest.approx(result.measured.peak_bytes, rel=0.02)
    return result.batch


@pytest.fixture
def group_of_one() -> Iterator[None]:
    """Leaves the process group that a sharded model of one process joins."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("run", CASES.values(), ids=CASES.keys())
def test_a_trace_needs_what_a_step_needs(run: LMRun):
    if run.finetune.lora_rank:
        pytest.importorskip("peft")
    check(run, Mix(document=60))


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("tune", [Finetune(), frozen(BLOCKS)], ids=["all trains", "frozen blocks"])
def test_sharded_in_bf16(tune: Finetune):
    parallel = Parallel(shard=True, bf16=True, recompute="all")
    run = small(attention="documents", loss_chunk=32, micro_rows=1, finetune=tune)
    check(replace(run, loop=Loop(steps=1, parallel=parallel)), Mix(document=60))


def test_the_runs_own_data_are_used_if_they_exist(chain: TinyChain):
    run: Any = chain.lm_run
    batch = check(replace(run, loop=replace(run.loop, bf16=False)), Mix())
    assert batch.startswith("the run's own data")


def test_data_of_other_codes_are_one_clear_line(chain: TinyChain):
    run: Any = chain.lm_run
    with pytest.raises(DataError, match=r"do not fit it: codes must be in 0\.\.15"):
        compare(replace(run, code_bits=4), Mix())


SHARDED = Loop(steps=1, parallel=Parallel(shard=True, bf16=True, recompute="selective"))
DEEP = {
    "nothing recomputed": small(),
    "all recomputed": small("all", attention="documents", micro_rows=2),
    "sharded": small(loop=SHARDED, attention="documents"),
}


@pytest.mark.parametrize("run", DEEP.values(), ids=DEEP.keys())
def test_few_layers_tell_the_cost_of_many(run: LMRun):
    """Extrapolated from 3 and 4 layers to 9, beside a trace of all 9."""
    deep = replace(run, backbone=replace(SIZES, num_layers=9))
    batch = Mix().batch(run.row_length, run.rows)
    quick, whole = (make(deep, 300, batch, processes=4) for make in (step_cost, trace_step))
    assert quick.total_flops == whole.total_flops
    assert quick.fullest[0] == whole.fullest[0]
    assert quick.peak_bytes == pytest.approx(whole.peak_bytes, rel=0.01)


def test_layers_that_are_not_alike_are_all_traced():
    deep = small(
        backbone=replace(SIZES, num_layers=6), finetune=frozen(r"^layers\.[0-3]\.", TABLES)
    )
    batch = Mix().batch(deep.row_length, 1)
    assert step_cost(deep, 300, batch) == trace_step(deep, 300, batch)


def test_shards_divide_parameters_and_state_and_gather_blocks():
    run, batch = small(loop=SHARDED, attention="documents"), Mix().batch(128, 4)
    (_, one), (_, four) = (trace_step(run, 300, batch, n).fullest for n in (1, 4))
    for kind in ("parameters", "optimiser state"):
        assert four[kind] == pytest.approx(one[kind] / 4, rel=0.01)
    assert four["sharding buffers"] > 0


def test_every_process_averages_whole_gradients_of_a_model_that_is_not_sharded():
    run, batch = small(backbone=TIED, row_length=16, rows=1), Mix().batch(16, 1)
    one, two = (trace_step(run, 300, batch, n).peak_bytes for n in (1, 2))
    parameters = trace_step(run, 300, batch).fullest[1]["parameters"]
    # The gradients in one message, a copy that is summed, and their mean, beside the gradients.
    assert two - one > parameters
