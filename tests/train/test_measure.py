"""The check that plans exist for: predicted FLOPs and memory beside those of a real step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from arm.configs import micro
from arm.errors import DataError
from arm.train.finetune import Finetune
from arm.train.lm import Backbone, LMRun
from arm.train.measure import ATTENTION, LiveStorages, compare
from arm.train.optim import Optim
from arm.train.plan import Mix
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


@pytest.mark.parametrize("run", CASES.values(), ids=CASES.keys())
def test_predicted_within_15_percent_of_measured(run: LMRun):
    if run.finetune.lora_rank:
        pytest.importorskip("peft")
    found = compare(run, Mix(document=60))
    assert found.measured.flops == pytest.approx(found.predicted_flops, rel=0.01)
    assert found.measured.peak_bytes == pytest.approx(found.predicted_bytes, rel=0.15)


@pytest.mark.parametrize("tune", [Finetune(), frozen(BLOCKS)], ids=["all trains", "frozen blocks"])
def test_sharded_in_bf16(tune: Finetune):
    parallel = Parallel(shard=True, bf16=True, recompute="all")
    run = small(attention="documents", loss_chunk=32, micro_rows=1, finetune=tune)
    try:
        found = compare(replace(run, loop=Loop(steps=1, parallel=parallel)), Mix(document=60))
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert found.measured.flops == pytest.approx(found.predicted_flops, rel=0.01)
    assert found.measured.peak_bytes == pytest.approx(found.predicted_bytes, rel=0.15)


def test_the_runs_own_data_are_used_where_they_are(chain: TinyChain):
    run: Any = chain.lm_run
    found = compare(replace(run, loop=replace(run.loop, bf16=False)), Mix())
    assert found.batch.startswith("the run's own data")
    assert found.measured.flops == pytest.approx(found.predicted_flops, rel=0.01)
    assert found.measured.peak_bytes == pytest.approx(found.predicted_bytes, rel=0.15)


def test_data_of_other_codes_are_one_clear_line(chain: TinyChain):
    run: Any = chain.lm_run
    with pytest.raises(DataError, match=r"do not fit it: codes must be in 0\.\.15"):
        compare(replace(run, code_bits=4), Mix())


def test_grouped_heads_of_the_gpus_kernel_by_hand():
    """4 query heads on 2 pairs of keys and values; shapes alone, so no GPU is needed."""
    q_BNTH, k_BKSH = (torch.empty(1, heads, 8, 16, device="meta") for heads in (4, 2))
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        torch.ops.aten._scaled_dot_product_flash_attention(q_BNTH, k_BKSH, k_BKSH)
    assert counter.get_total_flops() == 2 * (2 * 4 * 8 * 8 * 16)  # scores, and what they weigh


def test_live_storages_by_hand():
    storages, w = LiveStorages(), torch.zeros(10, 10, requires_grad=True)
    storages.see(w)
    assert storages.now == 400
    with storages:
        a = torch.ones(10, 10)
        view = a.view(100)
        product = a @ w
        assert storages.now == 1200  # a view has no bytes of its own
        del a, view
        assert storages.now == 1200  # the backward pass needs it
        product.sum().backward()
        del product
        assert storages.now == 1200 - 400 * 2 + 400 and w.grad is not None
    assert storages.peak >= 1600
