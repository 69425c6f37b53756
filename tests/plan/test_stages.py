"""Plans of reinforcement learning, tokenizers and decoders, by hand."""

from dataclasses import replace

import pytest

from arm.configs import experiments, micro, paper
from arm.errors import ConfigError
from arm.files import read_json
from arm.model_directory import find_model
from arm.plan.hardware import Cluster, gpu_named
from arm.plan.stages import PROMPT_TOKENS, stage_plan
from arm.train.finetune import Finetune
from arm.train.sharding import Parallel


def test_a_grpo_run_by_hand():
    """micro_t2i keeps the head of the codes and that of their bits; the reference is all frozen."""
    run = experiments.grpo_t2i()
    sizes = read_json(find_model(run.model) / "config.json")
    heads = (sizes["num_codes"] + sizes["code_bits"]) * sizes["hidden_size"]
    made = stage_plan(run, Cluster(gpu_named("h100")))
    policy, reference = made.parts["policy"], made.parts["reference"]
    assert policy.total == reference.total > 0 and reference.trained == 0
    assert policy.trained == policy.total - heads
    encoder = made.parts["visual tokenizer, SigLIP and pixel decoder"].total
    assert encoder > 0
    frozen = heads + reference.total + encoder
    # fp32: a weight, its gradient and two moments of what trains, a weight alone of what does not.
    assert made.state["frozen parameters (fp32 at most)"] == 4 * frozen
    assert sum(made.state.values()) == 4 * 4 * policy.trained + 4 * frozen


def test_policy_and_reference_are_both_sharded():
    run, cluster = experiments.grpo_t2i(), Cluster(gpu_named("h100"), 4)
    whole = stage_plan(run, cluster)
    sharded = replace(run, loop=replace(run.loop, parallel=Parallel(shard=True, replicas=2)))
    half = stage_plan(sharded, cluster)
    encoder = 4 * whole.parts["visual tokenizer, SigLIP and pixel decoder"].total
    assert sum(half.state.values()) - encoder == pytest.approx(
        (sum(whole.state.values()) - encoder) / 2
    )
    # While it samples, a process holds the whole policy.
    assert whole.sampling["policy gathered for sampling"] == 0
    assert half.sampling["policy gathered for sampling"] == 4 * half.parts["policy"].total


def test_a_rollouts_cache_by_hand():
    """4 of 8 prompts a process, 2 streams each (guidance), 16 samples of 7x7 codes."""
    run = experiments.grpo_t2i()
    sizes = read_json(find_model(run.model) / "config.json")
    made = stage_plan(run, Cluster(gpu_named("h100"), 2))
    head = sizes["hidden_size"] // sizes["num_attention_heads"]
    per_token = 2 * sizes["num_hidden_layers"] * sizes["num_key_value_heads"] * head * 4
    cached = made.sampling["KV cache of rollouts"] / (4 * 2 * (1 + 16) * per_token)
    # The prompt's words and what surrounds them, then the codes, whose start may be aligned.
    assert PROMPT_TOKENS + 49 < cached < PROMPT_TOKENS + 49 + 12
    assert cached == int(cached)


def test_pictures_wait_in_shared_memory():
    run = paper.tokenizer()
    made = stage_plan(run, Cluster(gpu_named("h100"), 256))
    area = max(grid.height * grid.width for grid in run.grids) * 16**2
    assert made.host.shm % (run.loop.workers * 2 * run.batch * 3 * area) == 0
    assert made.host.shm > 0


def test_lora_adds_to_the_policy_alone():
    pytest.importorskip("peft")
    run = replace(experiments.grpo_t2i(), finetune=Finetune(lora_rank=2, full=()))
    parts = stage_plan(run, Cluster(gpu_named("h100"))).parts
    assert parts["policy"].total == parts["reference"].total + parts["policy"].trained
    assert parts["policy"].trained > 0


def test_other_runs_are_counted_or_refused():
    tok = stage_plan(paper.tokenizer(), Cluster(gpu_named("h100"), 256))
    assert tok.parts["captioning model"].total == 494_032_768
    assert any("not counted: SigLIP" in note for note in tok.notes)
    with pytest.raises(ConfigError, match="no plan is made of a run of EncodeRun"):
        stage_plan(micro.encode(), Cluster(gpu_named("h100")))
