"""Plans against published sizes, FLOPs worked out by hand, and what a user is told."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from arm.cli import app
from arm.config import load_run
from arm.configs import micro
from arm.errors import ConfigError
from arm.plan.estimates import Estimates, Memory, Mix, planned_flops
from arm.plan.hardware import GPU, Cluster, gpu_named
from arm.plan.language_model import parameter_counts, plan
from arm.train.finetune import Finetune
from arm.train.lm import Backbone, Conversations, LMRun
from arm.train.optim import Optim
from arm.train.parallel import shard_batch
from arm.train.sharding import Parallel, Recompute
from arm.train.training import Loop

QWEN = Backbone(3584, 18944, 28, 28, 4, 1e6, tie_embeddings=False, text_size=152064)


def large(recompute: Recompute = "all", rows: int = 200, layers: int = 2) -> LMRun:
    """Qwen2.5-7B's sizes, with few layers, and 65,536 codes on rows of 80K tokens."""
    parallel = Parallel(shard=True, bf16=True, recompute=recompute)
    return replace(
        micro.lm_pt(), shards=(), conversations=(Conversations(Path("nowhere")),),
        backbone=replace(QWEN, num_layers=layers), code_bits=16, max_side=64, grid_positions=False,
        share_bits=False, row_length=81920, rows=rows, micro_rows=1, attention="documents",
        loss_chunk=4096, optim=Optim(lr=2e-4), loop=Loop(steps=100_000, parallel=parallel),
    )  # fmt: skip


def estimated(run: LMRun, processes: int, rows: int = 1) -> Memory:
    """Memory of a process with `rows` rows, one at a time."""
    return Estimates(run, QWEN.text_size, processes, Mix()).memory(1, rows)


def small_gpu(memory: float) -> GPU:
    return GPU("small", 1e12, memory, "a test")


def small(**changes: object) -> LMRun:
    """One block of 8 wide, worked out by hand below."""
    run = replace(
        micro.lm_pt(), backbone=Backbone(8, 16, 1, 2, 1, text_size=10), rows=2, row_length=4,
        code_bits=2, max_side=1, grid_positions=False, share_bits=False, loop=Loop(steps=9),
        optim=Optim(lr=1e-3),
    )  # fmt: skip
    return replace(run, **changes)


def test_parameters_of_the_published_size():
    own = {n: c.total for n, c in parameter_counts(large(layers=28), QWEN.text_size).items()}
    special = 6 + 2 * 64
    text = own["text table"] + own["text head"] + own["blocks"] + own["last norm"]
    assert text == 7_615_616_512 + 2 * special * 3584
    assert own["visual part"] == 2 * 65536 * 3584


def test_model_flops_by_hand():
    mix = Mix(code=0.5, text=0.25, document=4)
    made = plan(small(attention="documents"), Cluster(gpu_named("a100")), mix)
    blocks = 6 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16)
    attention = 3 * 4 * 8 * 2.5
    words, codes = 6 * 0.25 * 18 * 8, 6 * 0.5 * 4 * 8
    assert made.flops_per_token == pytest.approx(blocks + attention + words + codes)
    assert made.tokens_per_step == 8
    assert made.tokens_per_second == pytest.approx(0.4 * 312e12 / made.flops_per_token)
    assert made.hours == pytest.approx(9 * 8 / made.tokens_per_second / 3600)


def test_frozen_parts_have_fewer_products_by_hand():
    """A block has 64 + 2 * 32 + 64 + 3 * 128 weights, and attention looks at 2.5 tokens on average."""
    mix = Mix(code=0.5, text=0.25, document=4)

    def found(*freeze: str) -> list[float]:
        run = small(attention="documents", finetune=Finetune(freeze=freeze))
        return list(plan(run, Cluster(gpu_named("a100")), mix).flops.by_kind().values())

    def expected(blocks: int, attention: int, words: int, codes: int) -> list[float]:
        """Of 8 tokens, by products."""
        weights = [
            blocks * 576,
            attention * 2 * 8 * 2.5,
            words * 0.25 * 18 * 8,
            codes * 0.5 * 4 * 8,
        ]
        return [2 * 8 * each for each in weights]

    assert found() == pytest.approx(expected(3, 3, 3, 3))
    # The tables train below the blocks, so a gradient goes through them.
    assert found(r"^layers\.") == pytest.approx(expected(2, 3, 3, 3))
    # Nothing trains below the blocks, but the last norm does: a gradient goes through both heads, of
    # which that of text is the frozen table.
    assert found(r"^layers\.", "embed") == pytest.approx(expected(1, 1, 2, 3))
    assert found(r"^layers\.", "embed", "^norm") == pytest.approx(expected(1, 1, 1, 2))


def test_recomputation_is_hardware_work_alone():
    flops = {}
    for what in ("nothing", "selective", "all"):
        estimates = Estimates(large(what), QWEN.text_size, 200, Mix())
        flops[what] = planned_flops(estimates, 1, 1)
    assert len({each.model for each in flops.values()}) == 1
    wide = 2 * 2 * 2 * 3584 * 18944 * 81920
    assert flops["selective"].hardware - flops["nothing"].hardware == pytest.approx(wide)
    assert flops["all"].hardware > flops["selective"].hardware


def test_shards_divide_the_state():
    one, many = (estimated(large(), n).kinds for n in (1, 8))
    trained = sum(c.trained for c in parameter_counts(large(), QWEN.text_size).values())
    assert many["parameters"] == pytest.approx(one["parameters"] / 8, rel=1e-4)  # uneven rows
    assert many["optimiser state"] == pytest.approx(one["optimiser state"] / 8, rel=1e-4)
    assert one["optimiser state"] == pytest.approx(8 * trained, rel=1e-6)


def test_what_does_not_fit_names_what_to_change():
    runs = {what: large(what, rows=8) for what in ("selective", "all")}
    more, less = (estimated(run, 8).total for run in runs.values())
    cluster = Cluster(small_gpu((more + less) / 2), 8)
    made = plan(runs["selective"], cluster)
    assert not made.fits and made.largest_micro_rows == 0
    assert "DOES NOT FIT" in made.headline
    assert made.headline.endswith("Set loop.parallel.recompute=all")
    assert plan(runs["all"], cluster).fits


def test_the_largest_micro_batch_fits_and_one_more_does_not():
    gpu = small_gpu(2.2e9)
    run = replace(small(), rows=512, row_length=512)
    most = plan(run, Cluster(gpu)).largest_micro_rows
    assert 0 < most < 512
    assert plan(replace(run, micro_rows=most), Cluster(gpu)).fits
    beyond = plan(replace(run, micro_rows=most + 1), Cluster(gpu))
    assert not beyond.fits and f"micro_rows={most}" in beyond.headline


def test_a_smaller_row_is_the_last_resort():
    run = large(rows=8, layers=1)
    needed = estimated(replace(run, row_length=20480), 8, rows=2).total
    made = plan(run, Cluster(small_gpu(1.01 * needed), 8))
    assert "Set row_length=20480" in made.headline
    none = plan(run, Cluster(small_gpu(3e9), 8))
    assert "Set a smaller backbone" in none.headline


@pytest.mark.parametrize("shard", ["false", "true"])
def test_a_batch_counted_in_samples_is_counted_in_rows_where_shards_go_by_micro_rows(shard: str):
    size = {"hidden_size": 4096, "intermediate_size": 16384, "num_layers": 1, "num_heads": 32}
    sizes = [f"backbone.{k}={v}" for k, v in {**size, "num_kv_heads": 32, "text_size": 200}.items()]
    sizes.append(f"loop.parallel.shard={shard}")
    gpu = small_gpu(5e9)
    made = plan(load_run("lm:micro_pt", sizes), Cluster(gpu))
    words = made.headline.partition("Set ")[2].split()
    assert any(word.startswith("rows=") for word in words) and "micro_rows=1" in words
    # What it says can be done: the run is one, and so many GPUs hold it.
    gpus = int(words[words.index("--gpus") + 1])
    told = load_run("lm:micro_pt", [*sizes, *(word for word in words if "=" in word)])
    assert plan(told, Cluster(gpu, gpus)).fits


def test_a_sharded_batch_of_samples_that_fits_by_fewer_rows():
    run = replace(micro.lm_pt(), backbone=Backbone(8, 16, 1, 2, 1, text_size=10), row_length=4096)
    sharded = replace(run, samples=64, loop=replace(run.loop, parallel=Parallel(shard=True)))
    made = plan(sharded, Cluster(small_gpu(3e9)))
    words = made.headline.partition("Set ")[2].split()
    assert words[0] == "rows=32" and words[1] == f"micro_rows={made.largest_micro_rows}"


@pytest.mark.parametrize(
    "wrong", [{"code": math.nan}, {"text": math.nan}, {"code": 0.9}, {"sample": -1}]
)
def test_a_mix_that_means_nothing(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="shares of code and text must be 0 or more"):
        Mix(**wrong)  # pyright: ignore[reportArgumentType]


def test_the_fullest_gpu_has_the_rows_that_do_not_come_out_even(monkeypatch: pytest.MonkeyPatch):
    """32 samples of half a row are 16 rows; of 3 processes the first takes 6. FLOPs are an average."""
    gpus, run = Cluster(gpu_named("h100"), 3), replace(small(), row_length=512, samples=32)
    uneven, even = plan(replace(run, rows=0), gpus), plan(replace(run, rows=18), gpus)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert uneven.micro_rows == len(shard_batch(torch.zeros(16, 1))) == 6
    assert uneven.memory == even.memory
    assert uneven.flops.model == pytest.approx(even.flops.model * 16 / 18)
    assert uneven.tokens_per_step == 16 * 512
    pieces = replace(run, rows=0, micro_rows=4)
    assert plan(pieces, gpus).memory == plan(replace(pieces, rows=18), gpus).memory


def test_rows_that_cannot_be_divided():
    with pytest.raises(ConfigError, match="rows=200 cannot be shared by 3 GPUs; set rows=201"):
        plan(large(), Cluster(gpu_named("h100"), 3))


def test_unknown_words_are_asked_for():
    run = replace(large(), backbone=replace(QWEN, text_size=0), text_tokenizer=Path("nowhere"))
    with pytest.raises(ConfigError, match=r"set backbone\.text_size"):
        plan(run, Cluster(gpu_named("h100"), 200))


def test_command_line(tmp_path: Path):
    out = tmp_path / "plan.json"
    arguments = ["plan", "lm:micro_pt", "rows=8", "backbone.text_size=200", "--gpus", "2"]
    result = CliRunner().invoke(app, [*arguments, "--gpu", "a100", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "lm:micro_pt on 2 a100: fits" in result.output
    found = json.loads(out.read_text())
    assert found["tokens_per_step"] == 8 * 208
    assert found["gpu_hours"] == pytest.approx(2 * found["hours"])
    host = found["host_bytes"]
    assert host["/dev/shm"] == 0 and host["total"] > 0
    assert "host memory of a process" in result.output


def test_host_memory_by_hand():
    """2 rows of 4 tokens: 7 numbers a token, of which one has 4 bytes, and one a row."""
    run = small(loop=Loop(steps=9, workers=3))
    made = plan(run, Cluster(gpu_named("h100")))
    batch = 2 * (4 * (6 * 8 + 4) + 8)
    assert made.host.batch == batch
    assert made.host.shm == 3 * 2 * batch
    total = sum(count.total for count in made.parameters.values())
    assert made.host.loading == 4 * total
    # Parameters and AdamW's two moments, with a step count of each tensor.
    assert made.host.checkpoint == pytest.approx(12 * total, rel=0.05)
