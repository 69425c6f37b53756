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
from arm.configs import experiments, micro, paper
from arm.errors import ConfigError, InputError
from arm.files import read_json
from arm.model_directory import find_model
from arm.train.finetune import Finetune
from arm.train.gpus import GPU, gpu_named
from arm.train.lm import Backbone, Conversations, LMRun
from arm.train.optim import Optim
from arm.train.parallel import shard_batch
from arm.train.plan import Cluster, Mix, plan
from arm.train.plan_flops import by_kind
from arm.train.plan_parts import parts_plan
from arm.train.sharding import Parallel, Recompute
from arm.train.training import Loop

QWEN = Backbone(3584, 18944, 28, 28, 4, 1e6, tie_embeddings=False, text_size=152064)


def large(recompute: Recompute = "all", rows: int = 200) -> LMRun:
    """Qwen2.5-7B with 65,536 codes on rows of 80K tokens."""
    parallel = Parallel(shard=True, bf16=True, recompute=recompute)
    return replace(
        micro.lm_pt(), shards=(), conversations=(Conversations(Path("nowhere")),), backbone=QWEN,
        code_bits=16, max_side=64, grid_positions=False, share_bits=False, row_length=81920,
        rows=rows, micro_rows=1, attention="documents", loss_chunk=4096, optim=Optim(lr=2e-4),
        loop=Loop(steps=100_000, parallel=parallel),
    )  # fmt: skip


def small(**changes: object) -> LMRun:
    """One block of 8 wide, worked out by hand below."""
    run = replace(
        micro.lm_pt(), backbone=Backbone(8, 16, 1, 2, 1, text_size=10), rows=2, row_length=4,
        code_bits=2, max_side=1, grid_positions=False, share_bits=False, loop=Loop(steps=9),
        optim=Optim(lr=1e-3),
    )  # fmt: skip
    return replace(run, **changes)


def test_parameters_of_the_published_size():
    made = plan(large(), Cluster(gpu_named("h100"), 200))
    own = {name: count.total for name, count in made.parameters.items()}
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
        return list(by_kind(plan(run, Cluster(gpu_named("a100")), mix).flops).values())

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


def test_making_again_is_hardware_work_alone():
    of = {what: plan(large(what), Cluster(gpu_named("h200"), 200)).flops for what in ("nothing", "selective", "all")}  # fmt: skip
    assert len({flops.model for flops in of.values()}) == 1
    wide = 28 * 2 * 2 * 3584 * 18944 * 81920
    assert of["selective"].hardware - of["nothing"].hardware == pytest.approx(wide)
    assert of["all"].hardware > of["selective"].hardware


def test_shards_divide_the_state():
    one, many = (plan(large(rows=n), Cluster(gpu_named("b200"), n)).memory for n in (1, 8))
    assert many.parameters == pytest.approx(one.parameters / 8)
    assert many.optimizer == pytest.approx(one.optimizer / 8)
    assert one.optimizer == 8 * 8_086_339_072


def test_what_does_not_fit_names_what_to_change():
    made = plan(large("selective"), Cluster(gpu_named("h100"), 200))
    assert not made.fits and made.largest_micro_rows == 0
    assert "DOES NOT FIT" in made.headline
    assert made.headline.endswith("Set loop.parallel.recompute=all")
    assert plan(large("all"), Cluster(gpu_named("h100"), 200)).fits


def test_the_largest_micro_batch_fits_and_one_more_does_not():
    gpu = GPU("small", 1e12, 2.2e9, "a test")
    run = replace(small(), rows=512, row_length=512)
    most = plan(run, Cluster(gpu)).largest_micro_rows
    assert 0 < most < 512
    assert plan(replace(run, micro_rows=most), Cluster(gpu)).fits
    beyond = plan(replace(run, micro_rows=most + 1), Cluster(gpu))
    assert not beyond.fits and f"micro_rows={most}" in beyond.headline


def test_a_smaller_row_is_the_last_resort():
    made = plan(large(rows=8), Cluster(GPU("small", 1e12, 40e9, "a test"), 8))
    assert "Set row_length=20480" in made.headline
    none = plan(large(rows=8), Cluster(GPU("smaller", 1e12, 16e9, "a test"), 8))
    assert "Set a smaller backbone" in none.headline


@pytest.mark.parametrize("shard", ["false", "true"])
def test_a_batch_counted_in_samples_is_counted_in_rows_where_shards_go_by_micro_rows(shard: str):
    size = {"hidden_size": 4096, "intermediate_size": 16384, "num_layers": 40, "num_heads": 32}
    sizes = [f"backbone.{k}={v}" for k, v in {**size, "num_kv_heads": 32, "text_size": 200}.items()]
    sizes.append(f"loop.parallel.shard={shard}")
    made = plan(load_run("lm:micro_pt", sizes), Cluster(gpu_named("h100")))
    words = made.headline.partition("Set ")[2].split()
    assert any(word.startswith("rows=") for word in words) and "micro_rows=1" in words
    # What it says can be done: the run is one, and so many GPUs hold it.
    gpus = int(words[words.index("--gpus") + 1])
    told = load_run("lm:micro_pt", [*sizes, *(word for word in words if "=" in word)])
    assert plan(told, Cluster(gpu_named("h100"), gpus)).fits


def test_a_sharded_batch_of_samples_that_fits_by_fewer_rows():
    run = replace(micro.lm_pt(), backbone=Backbone(8, 16, 1, 2, 1, text_size=10), row_length=4096)
    sharded = replace(run, samples=64, loop=replace(run.loop, parallel=Parallel(shard=True)))
    made = plan(sharded, Cluster(GPU("small", 1e12, 3e9, "a test")))
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
    monkeypatch.setattr("arm.train.parallel.world_size", lambda: 3)
    assert uneven.micro_rows == len(shard_batch(torch.zeros(16, 1))) == 6
    assert uneven.memory == even.memory
    assert uneven.flops.model == pytest.approx(even.flops.model * 16 / 18)
    assert uneven.tokens_per_step == 16 * 512
    pieces = replace(run, rows=0, micro_rows=4)
    assert plan(pieces, gpus).memory == plan(replace(pieces, rows=18), gpus).memory


def test_rows_that_cannot_be_shared():
    with pytest.raises(ConfigError, match="rows=200 cannot be shared by 3 GPUs; set rows=201"):
        plan(large(), Cluster(gpu_named("h100"), 3))


def test_unknown_words_are_asked_for():
    run = replace(large(), backbone=replace(QWEN, text_size=0), text_tokenizer=Path("nowhere"))
    with pytest.raises(ConfigError, match=r"set backbone\.text_size"):
        plan(run, Cluster(gpu_named("h100"), 200))


def test_gpus():
    assert gpu_named("H100").memory == 80e9
    with pytest.raises(InputError, match="Did you mean 'h100'"):
        gpu_named("h10")


def test_a_grpo_run_by_hand():
    """micro_t2i keeps the head of the codes and that of their bits; the reference is all frozen."""
    run = experiments.grpo_t2i()
    sizes = read_json(find_model(run.model) / "config.json")
    heads = (sizes["num_codes"] + sizes["code_bits"]) * sizes["hidden_size"]
    made = parts_plan(run, Cluster(gpu_named("h100")))
    policy, reference = made.parts["policy"], made.parts["reference"]
    assert policy.total == reference.total > 0 and reference.trained == 0
    assert policy.trained == policy.total - heads
    # fp32: a weight, its gradient and two moments of what trains, a weight alone of what does not.
    assert made.state["frozen parameters (fp32 at most)"] == 4 * (heads + reference.total)
    assert made.total == 4 * 4 * policy.trained + 4 * (heads + reference.total)


def test_policy_and_reference_are_both_shared_out():
    run = experiments.grpo_t2i()
    whole = parts_plan(run, Cluster(gpu_named("h100"), 4)).state
    sharded = replace(run, loop=replace(run.loop, parallel=Parallel(shard=True, replicas=2)))
    half = parts_plan(sharded, Cluster(gpu_named("h100"), 4)).state
    assert half == {name: pytest.approx(size / 2) for name, size in whole.items()}


def test_lora_adds_to_the_policy_alone():
    pytest.importorskip("peft")
    run = replace(experiments.grpo_t2i(), finetune=Finetune(lora_rank=2, full=()))
    parts = parts_plan(run, Cluster(gpu_named("h100"))).parts
    assert parts["policy"].total == parts["reference"].total + parts["policy"].trained
    assert parts["policy"].trained > 0


def test_other_runs_are_counted_or_refused():
    tok = parts_plan(paper.tokenizer(), Cluster(gpu_named("h100"), 256))
    assert tok.parts["captioning model"].total == 494_032_768
    assert any("not counted: SigLIP" in note for note in tok.notes)
    with pytest.raises(ConfigError, match="no plan is made of a run of EncodeRun"):
        parts_plan(micro.encode(), Cluster(gpu_named("h100")))


def test_command_line(tmp_path: Path):
    out = tmp_path / "plan.json"
    arguments = ["plan", "lm:micro_pt", "rows=8", "backbone.text_size=200", "--gpus", "2"]
    result = CliRunner().invoke(app, [*arguments, "--gpu", "a100", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "lm:micro_pt on 2 a100: fits" in result.output
    found = json.loads(out.read_text())
    assert found["tokens_per_step"] == 8 * 208
    assert found["gpu_hours"] == pytest.approx(2 * found["hours"])
