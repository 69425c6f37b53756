"""Backbones on disk: written, read, begun from a published Qwen2, and refused where a file is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2Config as HFConfig
from transformers import Qwen2ForCausalLM

from arm.errors import WeightsError
from arm.models.backbone import (
    backbone_hash,
    load_backbone,
    load_qwen2,
    save_backbone,
    with_text_size,
)
from arm.models.qwen2 import Qwen2
from arm.vocab import Vocab
from closeness import assert_close_fp32
from old_layout import old_backbone
from tiny import TEXT, VISUAL, build, seeded

VOCAB = Vocab(text_size=21, num_codes=16, max_side=5)  # 21 + 6 + 2 * 5 = 37 text rows


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_backbone(build(VISUAL), VOCAB, tmp_path)
    return tmp_path


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) < 1000


# Written and read


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", [5_000_000_000, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [None, 12])
def test_round_trip_is_exact(
    tmp_path: Path, tied: bool, shard: int, dtype: torch.dtype, head_dim: int | None
):
    config = replace(VISUAL, tie_embeddings=tied, head_dim=head_dim)
    model = build(config).to(dtype)
    save_backbone(model, VOCAB, tmp_path, max_shard_bytes=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == 5000)
    back, vocab = load_backbone(tmp_path, dtype=None)
    assert vocab == VOCAB and not back.training
    assert replace(back.config, head_dim=head_dim) == config
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == back.state_dict()[name].dtype
        assert torch.equal(tensor, back.state_dict()[name]), name


def test_sixteen_bits_are_read_as_fp32(tmp_path: Path):
    save_backbone(build(VISUAL).to(torch.bfloat16), VOCAB, tmp_path)
    assert {p.dtype for p in load_backbone(tmp_path)[0].parameters()} == {torch.float32}


def test_writing_again_replaces_every_older_weight(tmp_path: Path):
    old_backbone_files = ("visual.safetensors", "vocab.json")
    for name in old_backbone_files:
        (tmp_path / name).write_text("{}")
    for seed, shard in ((1, 5000), (2, 5_000_000_000), (3, 5000)):
        newer = build(VISUAL, seed=seed)
        save_backbone(newer, VOCAB, tmp_path, max_shard_bytes=shard)
        found, _ = load_backbone(tmp_path)
        assert torch.equal(found.embed_tokens.weight, newer.embed_tokens.weight)
    assert not any((tmp_path / name).exists() for name in old_backbone_files)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_loaded_model_can_be_written_over_its_own_files(saved: Path):
    model, vocab = load_backbone(saved)
    with torch.no_grad():
        model.embed_tokens.weight.add_(1.0)
    save_backbone(model, vocab, saved)
    assert torch.equal(load_backbone(saved)[0].embed_tokens.weight, model.embed_tokens.weight)


@pytest.mark.parametrize("tied", [False, True])
def test_the_release_before_is_read(tmp_path: Path, tied: bool):
    model = build(replace(VISUAL, tie_embeddings=tied))
    save_backbone(model, VOCAB, tmp_path / "new")
    old_backbone(tmp_path / "new", tmp_path / "model/backbone")
    for directory in (tmp_path / "model", tmp_path / "model/backbone"):
        back, vocab = load_backbone(directory)
        assert vocab == VOCAB
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, back.state_dict()[name]), name
    (tmp_path / "model/backbone/visual.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"weights are missing: .*visual\.safetensors"):
        load_backbone(tmp_path / "model")


def test_the_hash_is_of_the_weights_alone(saved: Path):
    before = backbone_hash(saved)
    (saved / "config.json").write_text((saved / "config.json").read_text() + "\n")
    (saved / "other.safetensors").write_bytes(b"")
    assert backbone_hash(saved) == before
    save_backbone(build(VISUAL, seed=9), VOCAB, saved)
    assert backbone_hash(saved) != before


# Files that are wrong


def test_missing_files(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"config\.json does not exist") as error:
        load_backbone(tmp_path)
    assert one_line(error)
    save_backbone(build(VISUAL), VOCAB, tmp_path, max_shard_bytes=5000)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(WeightsError, match=shard.name) as error:
        load_backbone(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize(
    "text",
    [
        "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "{}",
        '{"weight_map": {"a": "../model.safetensors"}}', '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": "pytorch_model.bin"}}',
    ],
)  # fmt: skip
def test_an_index_that_names_no_files_beside_it(tmp_path: Path, text: str):
    save_backbone(build(VISUAL), VOCAB, tmp_path, max_shard_bytes=5000)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"index\.json (has no weight_map|names)") as error:
        load_backbone(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_truncated_file(saved: Path, kept: int):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a whole safetens") as error:
        load_backbone(saved)
    assert one_line(error)


def changed(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: value(tensors[name])})


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(UP), r"lacks the tensor layers\.1\.mlp\.up_proj\.weight .*\(48, 32\)"),
        (changed(UP, lambda x: x[:, 1:].contiguous()), r"\(48, 31\), the model needs \(48, 32\)"),
        (lambda t: t.update({"model.layers.2.norm": torch.zeros(3)}), r"model\.layers\.2\.norm"),
        (changed(UP, lambda x: x.fill_(torch.nan)), "holds NaN or infinite values"),
        (changed(UP, lambda x: x.index_fill(0, torch.tensor(3), -torch.inf)), "infinite values"),
        (changed(UP, lambda x: x.to(torch.int32)), f"{UP} is stored in I32; fp8 and other 8-bit"),
        (changed(UP, lambda x: x > 0), f"{UP} is stored in BOOL"),
        (changed(UP, lambda x: x.to(torch.float8_e4m3fn)), f"{UP} is stored in F8_E4M3; fp8"),
    ],
)
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_weights_that_do_not_fit(
    saved: Path, change: Callable[[dict[str, Tensor]], None], message: str, dtype: Any
):
    file = saved / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=message) as error:
        load_backbone(saved, dtype=dtype)
    assert one_line(error)


# Text tables that grow


@pytest.mark.parametrize("tied", [False, True])
def test_room_for_a_larger_tokenizer_moves_no_other_row(tied: bool):
    """Three ids more: the text's keep their rows, special and shape ids are three ids further on."""
    model = build(replace(VISUAL, tie_embeddings=tied))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grown, vocab = with_text_size(model, VOCAB, 24, seeded())
    assert vocab == replace(VOCAB, text_size=24)
    for name, tensor in grown.state_dict().items():
        if name in ("embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(tensor[:21], before[name][:21])
            assert torch.equal(tensor[24:], before[name][21:])
            away = (tensor[21:24] - before[name][:21].mean(0)).abs().max()
            assert float(away) < float(before[name].std())
        else:
            assert torch.equal(tensor, before[name]), name
    ids = torch.tensor([[3, 20, vocab.user, vocab.end]])
    old = torch.tensor([[3, 20, VOCAB.user, VOCAB.end]])
    hidden = grown(grown.embed(ids), torch.arange(4)[None])
    again = build(replace(VISUAL, tie_embeddings=tied))
    assert_close_fp32(hidden, again(again.embed(old), torch.arange(4)[None]))
    assert grown.text_logits(hidden).shape[-1] == vocab.first_code


# A published Qwen2


def random_ids(*shape: int, seed: int = 3) -> Tensor:
    return torch.randint(0, TEXT.vocab_size, shape, generator=seeded(seed))


@torch.no_grad()
def logits(model: Qwen2, ids_BT: Tensor) -> Tensor:
    positions_BT = torch.arange(ids_BT.shape[1]).expand(ids_BT.shape)
    return model.text_logits(model(model.embed(ids_BT), positions_BT))


@torch.no_grad()
def hf_logits(directory: Path, ids_BT: Tensor, **options: Any) -> Tensor:
    model = Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model(ids_BT, **options).logits


def published(path: Path, tied: bool = False, kv_heads: int = 2, shard: str = "5GB") -> Path:
    """A tiny random Qwen2 that transformers wrote."""
    torch.manual_seed(0)
    config = HFConfig(
        vocab_size=37,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.2)
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    model.save_pretrained(path, max_shard_size=shard)
    return path


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_equal_transformers(tmp_path: Path, tied: bool, kv_heads: int):
    directory = published(tmp_path, tied, kv_heads)
    ids_BT = random_ids(2, 11)
    model = load_qwen2(directory)
    assert (model.lm_head is None) == tied and model.visual is None
    assert model.config.rope_theta == 5000.0
    assert_close_fp32(logits(model, ids_BT), hf_logits(directory, ids_BT))


@torch.no_grad()
def test_logits_at_far_positions_equal_transformers(tmp_path: Path):
    directory = published(tmp_path)
    ids_BT, positions_BT = random_ids(1, 6), torch.tensor([[3, 4, 9, 10, 100, 2000]])
    model = load_qwen2(directory)
    ours = model.text_logits(model(model.embed(ids_BT), positions_BT))
    # an explicit mask, because transformers reads position jumps as packed documents
    options = {"position_ids": positions_BT, "attention_mask": torch.ones(1, 6)}
    assert_close_fp32(ours, hf_logits(directory, ids_BT, **options))


def test_reads_shards_and_the_old_rope_theta(tmp_path: Path):
    directory = published(tmp_path, shard="5KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    ids_BT = random_ids(2, 7)
    expected = hf_logits(directory, ids_BT)
    config = json.loads((directory / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (directory / "config.json").write_text(json.dumps(config))
    assert_close_fp32(logits(load_qwen2(directory), ids_BT), expected)


@pytest.mark.parametrize("tied", [False, True])
def test_extra_rows_are_near_the_mean_and_change_no_old_logit(tmp_path: Path, tied: bool):
    directory = published(tmp_path / "hf", tied)
    old = load_qwen2(directory)
    new = load_qwen2(directory, extra_rows=5, generator=seeded())
    assert new.config.vocab_size == new.embed_tokens.num_embeddings == 42
    old_VD, new_VD = old.embed_tokens.weight.detach(), new.embed_tokens.weight.detach()
    assert torch.equal(new_VD[:37], old_VD)
    assert 0 < (new_VD[37:] - old_VD.mean(0)).abs().max() < 0.5 * old_VD.std()
    ids_BT = random_ids(1, 6)
    assert_close_fp32(logits(new, ids_BT)[..., :37], logits(old, ids_BT))
    assert logits(new, torch.tensor([[41, 37]])).shape == (1, 2, 42)
    with pytest.raises(ValueError, match="extra_rows"):
        load_qwen2(directory, extra_rows=-1)


def test_a_fresh_visual_part_follows_the_generator_and_is_trainable(tmp_path: Path):
    directory = published(tmp_path)
    sizes = replace(VISUAL, max_side=0)
    first, second = (load_qwen2(directory, sizes, generator=seeded(5)) for _ in range(2))
    assert first.visual is not None and second.visual is not None
    assert torch.equal(first.visual.head.weight, second.visual.head.weight)
    assert 0.01 < first.visual.head.weight.std() < 0.03
    assert all(parameter.requires_grad for parameter in first.parameters())


def test_a_published_model_with_unknown_keys_is_refused(tmp_path: Path):
    file = published(tmp_path) / "model.safetensors"
    save_file({**load_file(file), "model.layers.3.norm": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match=r"model\.layers\.3\.norm") as error:
        load_qwen2(tmp_path)
    assert one_line(error)
