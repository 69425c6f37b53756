"""The stage of the language model: where it starts, what of it trains, and what on."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from arm.config import load_run
from arm.configs import experiments, paper
from arm.data.code_shards import write_code_shard
from arm.data.conversation import parse_conversation
from arm.data.packing import packed_batch
from arm.errors import ConfigError, DataError, WeightsError
from arm.files import write_json
from arm.model_directory import find_model
from arm.models.backbone import load_backbone
from arm.models.pretrained import load_text_tokenizer
from arm.models.text import TextTokenizer, with_words
from arm.models.weights import load_tensors
from arm.pipeline import Arm
from arm.runs import list_runs
from arm.sequence import PackedBatch
from arm.train import lm, next_token
from arm.train.finetune import Finetune, merge_lora, prepare
from arm.train.lm import Backbone, Conversations, LMRun
from arm.train.sharding import Parallel
from arm.train.training import Loop
from arm.world.chains import read_shards
from arm.world.training import world_samples
from closeness import assert_close_fp32
from conftest import TinyChain

LOOP = Loop(steps=3, log_every=1, save_every=1)


@pytest.fixture
def group() -> Iterator[None]:
    """Ends the group of one process that sharding makes."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture
def run(chain: TinyChain, tmp_path: Path) -> LMRun:
    assert isinstance(chain.lm_run, LMRun)
    return replace(chain.lm_run, out=tmp_path / "run", loop=LOOP)


def batch_of(run: LMRun, text_tokenizer: TextTokenizer, vocab) -> PackedBatch:
    chains = list(read_shards(run.shards[0]))
    mix = world_samples(chains, run.ratios, run.dropout, text_tokenizer.ids)
    return packed_batch(0, 0, 8, run.row_length, mix, run.weights, vocab)


def gradients(run: LMRun, text_tokenizer: TextTokenizer) -> tuple[float, dict[str, torch.Tensor]]:
    model, vocab = lm.build(run, text_tokenizer.size)
    losses = lm.step_losses(run, model, batch_of(run, text_tokenizer, vocab))
    if losses["loss"].requires_grad:
        losses["loss"].backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(losses["loss"].detach()), found


@pytest.mark.parametrize(
    "changes", [{"micro_rows": 1}, {"loss_chunk": 5}, {"attention": "documents"}]
)
def test_other_ways_to_the_same_gradient(run: LMRun, changes: dict):
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    loss, expected = gradients(run, text_tokenizer)
    other, found = gradients(replace(run, **changes), text_tokenizer)
    assert other == pytest.approx(loss, abs=1e-4)
    assert expected.keys() == found.keys()
    assert all(torch.allclose(expected[k], found[k], atol=1e-5) for k in expected)


# Where it starts


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def pretrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5 as its authors publish it: more rows than the tokenizer has words, several files."""
    directory = tmp_path_factory.mktemp("qwen")
    config = Qwen2Config(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=request.param,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(directory, max_shard_size="20KB")
    return directory


def from_pretrained(run: LMRun, directory: Path) -> LMRun:
    tied = json.loads((directory / "config.json").read_text())["tie_word_embeddings"]
    sizes = Backbone(32, 48, 2, 4, 2, rope_theta=1e6, tie_embeddings=tied, text_size=320)
    return replace(run, pretrained=str(directory), backbone=sizes, share_bits=False, max_side=12)


def test_a_run_starts_from_a_published_checkpoint(run: LMRun, pretrained: Path):
    assert len(list(pretrained.glob("*.safetensors"))) > 1
    run = from_pretrained(run, pretrained)
    model, vocab = lm.build(run, 200)
    reference = Qwen2ForCausalLM.from_pretrained(pretrained, dtype=torch.float32)
    assert vocab.text_size == 320 and vocab.first_code == 320 + 6 + 24
    assert model.embed_tokens.weight.shape == (350, 32)
    ids = torch.randint(0, 320, (1, 7), generator=torch.Generator().manual_seed(0))
    hidden = model(model.embed(ids), torch.arange(7)[None])
    with torch.no_grad():
        assert_close_fp32(model.text_logits(hidden)[..., :320], reference(ids).logits)
    # New rows lie about the mean of the old, so that no new id is likely from the start.
    new, old = model.embed_tokens.weight[320:], model.embed_tokens.weight[:320]
    assert float((new.mean(0) - old.mean(0)).detach().abs().max()) < float(old.std().detach())
    lm.main(run)
    again, found = load_backbone(run.out / "model")
    assert found == vocab and not again.config.share_bits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 3}, "has num_layers 2, the run has backbone.num_layers=3"),
        ({"text_size": 400}, "has vocab_size 320, the run has backbone.text_size=400"),
    ],
)
def test_a_checkpoint_of_another_size_is_told(
    run: LMRun, pretrained: Path, changes: dict, message: str
):
    run = from_pretrained(run, pretrained)
    with pytest.raises(WeightsError, match=message):
        lm.build(replace(run, backbone=replace(run.backbone, **changes)), 200)


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ({"hidden_size": 64}, {}, "has hidden_size 32, the run has backbone.hidden_size=64; set"),
        ({"num_layers": 2}, {}, "the run has backbone.num_layers=2; set backbone.num_layers=1, or"),
        (
            {"rope_theta": 1e6},
            {},
            "has rope_theta 10000.0, the run has backbone.rope_theta=1000000",
        ),
        ({"tie_embeddings": False}, {}, "has tie_embeddings True, the run has backbone.tie_embed"),
        (
            {},
            {"grid_positions": False},
            "has grid_positions True, the run has grid_positions=False",
        ),
        ({}, {"share_bits": False}, "share_bits=False; set share_bits=True, or name other weights"),
    ],
)
def test_a_stage_before_of_another_size_is_told(
    run: LMRun, chain: TinyChain, size: dict, changes: dict, message: str
):
    run = replace(run, init_from=chain.root / "lm/model")
    lm.build(run, 180)
    with pytest.raises(WeightsError, match=message) as error:
        lm.build(replace(run, backbone=replace(run.backbone, **size), **changes), 180)
    assert "\n" not in str(error.value)


def test_a_head_of_another_width_is_told(run: LMRun, pretrained: Path, tmp_path: Path):
    run, config = from_pretrained(run, pretrained), tmp_path / "config.json"
    write_json({**json.loads((pretrained / "config.json").read_text()), "head_dim": 16}, config)
    with pytest.raises(WeightsError, match=r"has head_size 16, .*[.]hidden_size/num_heads=8;"):
        lm.build(replace(run, pretrained=str(tmp_path)), 200)


def test_the_runs_that_ship_have_the_sizes_of_what_they_start_from():
    made = {name: load_run(name) for name in list_runs() if name.startswith("lm:")}
    before = {run.out / "model": run for run in made.values()}
    later = [run for run in made.values() if run.init_from in before]
    assert len(later) == 9
    for run in later:
        configs = [lm.config_of(each, 200)[0] for each in (run, before[run.init_from])]
        assert lm.sizes_of(configs[0]) == lm.sizes_of(configs[1]), run.out
    sft = replace(experiments.synergy().sft, init_from=find_model("micro-sft"))
    for run in (made["lm:micro_finetune"], sft):
        model, vocab = lm.build(run, 180)
        assert (vocab.text_size, model.config.hidden_size) == (180, 192)


def test_a_tokenizer_with_more_words_than_rows(run: LMRun, pretrained: Path):
    with pytest.raises(ConfigError, match="text_size=320 is less than the tokenizer's 500 ids"):
        lm.build(from_pretrained(run, pretrained), 500)


def test_missing_weights_are_named(run: LMRun, tmp_path: Path):
    with pytest.raises(WeightsError, match="nothing"):
        lm.build(replace(run, pretrained=str(tmp_path / "nothing")), 200)


def test_the_papers_model_is_the_published_one():
    """On the meta device: Qwen2.5-7B's parameters, and a table and a head of 65,536 codes."""
    config, vocab = lm.config_of(paper.lm_pt(), 152_064)
    with torch.device("meta"):
        model = lm.Qwen2(config)
    size = sum(p.numel() for p in model.parameters())
    special = vocab.first_code - vocab.text_size
    assert size == 7_615_616_512 + 2 * 3584 * (special + 65_536)


# What trains


def test_lora_trains_beside_frozen_weights(run: LMRun, chain: TinyChain):
    start = chain.root / "lm/model"
    run = replace(
        run, init_from=start, finetune=Finetune(lora_rank=2, lora_targets=("q_proj", "down_proj"))
    )
    lm.main(run)
    names = load_tensors(run.out / "step_00000003/state.safetensors").keys()
    trained = {name.removeprefix("model.") for name in names if name.startswith("model.")}
    assert {name for name in trained if "lora_" not in name} == {
        name for name in trained if name.startswith("visual.")
    }
    assert any("q_proj.lora_A" in name for name in trained)
    before, after = (load_tensors(d / "model.safetensors") for d in (start, run.out / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    changed = {name for name in changed if not name.startswith("model.visual.")}
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "down_proj"}
    assert all(name.endswith("weight") for name in changed)
    # The largest rank of a change is LoRA's.
    delta = (after[(name := sorted(changed)[0])] - before[name]).float()
    assert int((torch.linalg.svdvals(delta) > 1e-4).sum()) <= 2


def test_lora_resumes_bit_equal_and_only_on_its_start(run: LMRun, tmp_path: Path):
    first = replace(run, out=tmp_path / "start", loop=replace(LOOP, steps=1))
    lm.main(first)
    start = tmp_path / "start/model"
    run = replace(run, init_from=start, finetune=Finetune(lora_rank=2))
    lm.main(run)
    # A run of which only the checkpoint of step 2 is left.
    half = replace(run, out=tmp_path / "half")
    half.out.mkdir()
    (run.out / "step_00000002").rename(half.out / "step_00000002")
    lm.main(half)
    one, two = (load_tensors(r.out / "model/model.safetensors") for r in (run, half))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    lm.main(replace(first, loop=replace(LOOP, steps=2)))
    with pytest.raises(WeightsError, match="trained with another start"):
        lm.main(half)


def test_frozen_parameters_stay(run: LMRun, chain: TinyChain):
    start = chain.root / "lm/model"
    run = replace(run, init_from=start, finetune=Finetune(freeze=(r"^layers\.", "embed")))
    lm.main(run)
    before, after = (load_tensors(d / "model.safetensors") for d in (start, run.out / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in changed if "visual" not in name} == {"model.norm.weight"}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            Finetune(lora_rank=2, lora_targets=("query",)),
            "no linear layer 'query' for LoRA; it has",
        ),
        (Finetune(freeze=("nothing",)), "no parameter matches 'nothing'"),
        (Finetune(freeze=("",)), "leaves nothing to train"),
    ],
)
def test_faults_of_a_partial_training_are_told(run: LMRun, how: Finetune, message: str):
    with pytest.raises(ConfigError, match=message):
        prepare(lm.build(run, 200)[0], how)


def test_merging_changes_no_output(run: LMRun):
    model, _ = lm.build(run, 200)
    prepare(model, Finetune(lora_rank=3))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    ids, positions = torch.arange(6)[None], torch.arange(6)[None]
    before = model(model.embed(ids), positions)
    names = {name for name, _ in lm.build(run, 200)[0].named_parameters()}
    merge_lora(model)
    assert {name for name, _ in model.named_parameters()} == names
    assert_close_fp32(model(model.embed(ids), positions), before)


# What it trains on


def test_a_users_conversations(run: LMRun, tmp_path: Path):
    """Code shards of one's own; what cannot be used is counted and named."""
    rng = np.random.default_rng(0)
    records = [
        {"messages": [{"role": "user", "content": "a red star"},
                      {"role": "assistant", "content": "<image>"}], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "<image> what color is the star ?"},
                      {"role": "assistant", "content": "red"}], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "<image> zebra"},
                      {"role": "assistant", "content": "red"}], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "a ring"},
                      {"role": "assistant", "content": "<image>"}], "images": ["b.png"]},
    ]  # fmt: skip
    items = []
    for number, record in enumerate(records):
        side = 12 if number == 3 else 6
        codes = rng.integers(0, 4096, (side, side)).astype(np.uint16)
        items.append((parse_conversation(record, f"line {number}"), [codes]))
    write_code_shard(tmp_path / "codes", 0, items)
    own = (Conversations(tmp_path / "codes", 2.0),)
    run = replace(run, conversations=own, row_length=120, samples=0, rows=4)
    lm.main(replace(run, shards=()))
    lines = [json.loads(line) for line in (run.out / "skipped.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    reasons = " ".join(line["reason"] for line in lines)
    assert "does not know the word 'zebra'" in reasons
    assert "tokens do not fit a row of 120" in reasons
    lm.main(replace(run, out=tmp_path / "both", row_length=208))


def test_a_finetuned_model_with_new_words_is_a_whole_model(
    run: LMRun, chain: TinyChain, tmp_path: Path
):
    """A word that the shipped tokenizer lacks gets a row, and the result draws and answers with it."""
    grown, new = with_words(load_text_tokenizer(run.text_tokenizer), ["zebra"])
    assert new == ["zebra"]
    grown.save_pretrained(tmp_path / "words")
    record = {"messages": [{"role": "user", "content": "a zebra"},
                           {"role": "assistant", "content": "<image>"}], "images": ["a.png"]}  # fmt: skip
    codes = np.zeros((6, 6), dtype=np.uint16)
    write_code_shard(tmp_path / "codes", 0, [(parse_conversation(record, "line 1"), [codes])])
    lm.main(
        replace(
            run,
            shards=(),
            conversations=(Conversations(tmp_path / "codes"),),
            init_from=chain.root / "lm/model",
            text_tokenizer=tmp_path / "words",
            parts=str(chain.model),
        )
    )
    arm = Arm.from_pretrained(run.out / "arm")
    assert arm.vocab.text_size == Arm.from_pretrained(chain.model).vocab.text_size + 1
    assert arm.create("a zebra", size=(48, 48))[0].size == (48, 48)


def test_rows_that_conversations_trained_are_not_composed(
    run: LMRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    record = {"messages": [{"role": "user", "content": "a star"},
                           {"role": "assistant", "content": "<image>"}], "images": ["a.png"]}  # fmt: skip
    codes = np.full((6, 6), 7, dtype=np.uint16)
    write_code_shard(tmp_path / "codes", 0, [(parse_conversation(record, "line 1"), [codes])])
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(lm, "compose_rare_rows", lambda _, counts, __: seen.append(counts) or 0)
    run = replace(run, min_count=20)
    lm.main(run)
    own = Conversations(tmp_path / "codes")
    lm.main(replace(run, out=tmp_path / "both", conversations=(own,)))
    alone, both = seen
    assert int((both - alone)[7]) == 36 == int((both - alone).sum())


def test_codes_of_another_tokenizer_than_the_parts(run: LMRun, chain: TinyChain, tmp_path: Path):
    record = {
        "messages": [{"role": "user", "content": "star"}, {"role": "assistant", "content": "a"}]
    }
    write_code_shard(tmp_path / "codes", 0, [(parse_conversation(record, "line 1"), [])])
    write_json({"tokenizer": "another"}, tmp_path / "codes/manifest.json")
    run = replace(run, shards=(), conversations=(Conversations(tmp_path / "codes"),))
    with pytest.raises(ConfigError, match="holds codes of another tokenizer than that of parts="):
        lm.main(replace(run, parts=str(chain.model)))


def test_conversations_of_which_none_fits(run: LMRun, tmp_path: Path):
    record = {
        "messages": [{"role": "user", "content": "zebra"}, {"role": "assistant", "content": "a"}]
    }
    write_code_shard(tmp_path / "codes", 0, [(parse_conversation(record, "line 1"), [])])
    run = replace(run, shards=(), conversations=(Conversations(tmp_path / "codes"),))
    with pytest.raises(DataError, match="100 conversations in a row cannot be used; the last"):
        lm.main(run)


def test_conversations_that_do_not_fit_and_answers_without_loss_are_reported(
    run: LMRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Five of six conversations are too long, and answers in words have weight 0."""

    def talk(words: str) -> tuple:
        record = {"messages": [{"role": "user", "content": words},
                               {"role": "assistant", "content": "red"}]}  # fmt: skip
        return parse_conversation(record, "line 1"), []

    long = " ".join(["star"] * 60)
    write_code_shard(tmp_path / "codes", 0, [talk("star"), *[talk(long)] * 5])
    own = (Conversations(tmp_path / "codes"),)
    silent = replace(run.weights, text=0.0)
    run = replace(run, shards=(), conversations=own, row_length=40, weights=silent)
    lm.main(run)
    lines = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert len(lines) == 2
    assert "about 83% of the conversations are skipped: they do not fit a row of 40" in lines[0]
    assert "step 1: none of its" in lines[1] and "carries a loss (0%)" in lines[1]


def test_a_run_needs_data(run: LMRun):
    with pytest.raises(ValueError, match="shards, conversations or both"):
        replace(run, shards=())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"samples": 0}, "one of samples and rows"),
        ({"code_bits": 0}, "code_bits must be at least 1"),
        ({"image_stride": 0}, "max_side and image_stride must be at least 1"),
        ({"micro_rows": 1, "loop": replace(LOOP, parallel=Parallel(shard=True))}, "set rows"),
    ],
)
def test_batches_that_cannot_be(run: LMRun, changes: dict, fault: str):
    with pytest.raises(ValueError, match=fault):
        replace(run, **changes)


def test_a_source_without_weight():
    with pytest.raises(ValueError, match="codes: its weight must be above 0"):
        Conversations(Path("codes"), 0.0)


def test_sizes_that_do_not_fit_together(run: LMRun):
    odd = replace(run, backbone=replace(run.backbone, hidden_size=191))
    with pytest.raises(ConfigError, match="backbone: hidden_size 191 is no multiple of num_heads"):
        lm.config_of(odd, 60)


def test_totals_are_not_rounded_in_bf16(run: LMRun, monkeypatch: pytest.MonkeyPatch, group: None):
    """bf16 knows 256 and 258, not 257: a sharded model's losses are divided by what they should be."""
    how = Parallel(shard=True, bf16=True)
    run = replace(run, loop=replace(LOOP, parallel=how))
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    model, vocab = lm.ready(run, text_tokenizer.size)
    batch, found = batch_of(run, text_tokenizer, vocab), []
    for total in (256.0, 257.0):
        monkeypatch.setattr(
            next_token, "token_weights", lambda batch, t=total: torch.tensor([t, t])
        )
        found.append(float(lm.step_losses(run, model, batch)["code"].detach()))
    assert found[0] / found[1] == pytest.approx(257 / 256, rel=1e-4)


def test_a_pattern_that_is_none():
    with pytest.raises(ValueError, match=r"freeze: '\(' is no regular expression"):
        Finetune(freeze=("(",))


def test_parts_that_are_not_there_are_told_before_training(run: LMRun):
    with pytest.raises(WeightsError, match="there is no model 'nope'"):
        lm.main(replace(run, parts="nope"))
    assert not run.out.exists()


def test_a_folder_that_cannot_be(run: LMRun, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another `out`"):
        lm.main(replace(run, out=tmp_path / "file"))
