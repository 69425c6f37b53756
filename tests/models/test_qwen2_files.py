"""The decoder against transformers' Qwen2 by way of its files, both ways, and files that are wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2Config as HFConfig
from transformers import Qwen2ForCausalLM

from arm.errors import WeightsError
from arm.models.qwen2 import Qwen2
from arm.models.qwen2_files import from_hf, to_hf
from closeness import assert_close_fp32
from tiny import TEXT, VISUAL, build, seeded


def random_ids(*shape: int, seed: int = 3) -> Tensor:
    return torch.randint(0, TEXT.vocab_size, shape, generator=seeded(seed))


def positions(batch: int, tokens: int) -> Tensor:
    return torch.arange(tokens).expand(batch, tokens)


def logits(model: Qwen2, ids_BT: Tensor) -> Tensor:
    return model.text_logits(model(model.embed(ids_BT), positions(*ids_BT.shape)))


def hf_logits(directory: Path, ids_BT: Tensor) -> Tensor:
    return Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()(ids_BT).logits


def hf_directory(path: Path, tied: bool = False, kv_heads: int = 2, shard: str = "5GB") -> Path:
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


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_equal_transformers(tmp_path, tied, kv_heads):
    directory = hf_directory(tmp_path, tied, kv_heads)
    ids_BT = random_ids(2, 11)
    model = from_hf(directory)
    assert (model.lm_head is None) == tied
    assert model.config.rope_theta == 5000.0
    assert_close_fp32(logits(model, ids_BT), hf_logits(directory, ids_BT))


def test_logits_at_far_positions_equal_transformers(tmp_path):
    directory = hf_directory(tmp_path)
    ids_BT, positions_BT = random_ids(1, 6), torch.tensor([[3, 4, 9, 10, 100, 2000]])
    reference = Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    model = from_hf(directory)
    ours = model.text_logits(model(model.embed(ids_BT), positions_BT))
    # an explicit mask, because transformers reads position jumps as packed documents
    theirs = reference(ids_BT, position_ids=positions_BT, attention_mask=torch.ones(1, 6)).logits
    assert_close_fp32(ours, theirs)


def test_reads_shards_and_the_old_rope_theta(tmp_path):
    directory = hf_directory(tmp_path, shard="5KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    ids_BT = random_ids(2, 7)
    expected = hf_logits(directory, ids_BT)
    config = json.loads((directory / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (directory / "config.json").write_text(json.dumps(config))
    assert_close_fp32(logits(from_hf(directory), ids_BT), expected)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("max_shard_size", [None, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [None, 12])
def test_round_trip_is_exact(tmp_path, tied, max_shard_size, dtype, head_dim):
    config = replace(VISUAL, tie_embeddings=tied, head_dim=head_dim)
    model = build(config).to(dtype)
    to_hf(model, tmp_path, max_shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (max_shard_size is not None)
    back = from_hf(tmp_path, num_codes=16, code_bits=4, max_side=5)
    assert replace(back.config, head_dim=head_dim) == config
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == back.state_dict()[name].dtype
        assert torch.equal(tensor, back.state_dict()[name]), name
    assert from_hf(tmp_path).visual is None


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("max_shard_size", [None, 5000])
def test_transformers_loads_what_we_write(tmp_path, tied, max_shard_size):
    model = build(replace(VISUAL, tie_embeddings=tied, head_dim=12))
    to_hf(model, tmp_path, max_shard_size)
    loaded, report = cast(
        tuple[Any, Any], Qwen2ForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(
        loaded.model.layers[1].mlp.down_proj.weight,
        model.state_dict()["layers.1.mlp.down_proj.weight"],
    )
    assert loaded.config.rope_parameters["rope_theta"] == 10_000.0
    ids_BT = random_ids(2, 9)
    assert_close_fp32(loaded.eval()(ids_BT).logits, logits(model, ids_BT))


def test_writing_again_replaces_every_older_weight(tmp_path):
    to_hf(build(VISUAL, seed=1), tmp_path)
    newer = build(TEXT, seed=2)
    for max_shard_size in (5000, None):
        to_hf(newer, tmp_path, max_shard_size)
        assert torch.equal(from_hf(tmp_path).embed_tokens.weight, newer.embed_tokens.weight)
    assert not (tmp_path / "visual.safetensors").exists()
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(ValueError, match="max_shard_size"):
        to_hf(newer, tmp_path, 0)


def test_a_loaded_model_can_be_written_over_its_own_files(tmp_path):
    to_hf(build(TEXT), tmp_path)
    model = from_hf(tmp_path)
    model.embed_tokens.weight.add_(1.0)
    to_hf(model, tmp_path)
    assert torch.equal(from_hf(tmp_path).embed_tokens.weight, model.embed_tokens.weight)


@pytest.mark.parametrize("tied", [False, True])
def test_extra_rows_are_near_the_mean_and_change_no_old_logit(tmp_path, tied):
    directory = hf_directory(tmp_path / "hf", tied)
    old, new = from_hf(directory), from_hf(directory, extra_rows=5, generator=seeded())
    assert new.config.vocab_size == new.embed_tokens.num_embeddings == 42
    old_VD, new_VD = old.embed_tokens.weight, new.embed_tokens.weight
    assert torch.equal(new_VD[:37], old_VD)
    assert 0 < (new_VD[37:] - old_VD.mean(0)).abs().max() < 0.5 * old_VD.std()
    ids_BT = random_ids(1, 6)
    assert_close_fp32(logits(new, ids_BT)[..., :37], logits(old, ids_BT))
    assert logits(new, torch.tensor([[41, 37]])).shape == (1, 2, 42)
    to_hf(new, tmp_path / "grown")
    assert_close_fp32(hf_logits(tmp_path / "grown", ids_BT), logits(new, ids_BT))
    with pytest.raises(ValueError, match="extra_rows"):
        from_hf(directory, extra_rows=-1)


def test_a_fresh_visual_part_follows_the_generator_and_is_trainable(tmp_path):
    directory = hf_directory(tmp_path)
    first, second = (
        from_hf(directory, num_codes=16, code_bits=4, generator=seeded(5)) for _ in range(2)
    )
    assert first.visual is not None and second.visual is not None
    assert torch.equal(first.visual.head.weight, second.visual.head.weight)
    assert 0.01 < first.visual.head.weight.std() < 0.03
    assert all(parameter.requires_grad for parameter in first.parameters())


# Files that are wrong


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> bool:
    return "\n" not in str(error.value)


def test_missing_files(tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json") as error:
        from_hf(tmp_path)
    assert one_line(error)
    to_hf(build(TEXT), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        from_hf(tmp_path)


def test_missing_shard(tmp_path):
    to_hf(build(TEXT), tmp_path, max_shard_size=5000)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(WeightsError, match=shard.name) as error:
        from_hf(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize("text", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "{}"])
def test_an_index_that_names_no_files(tmp_path, text):
    to_hf(build(TEXT), tmp_path, max_shard_size=5000)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"index\.json has no weight_map") as error:
        from_hf(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_fp8_is_not_supported(tmp_path, dtype, scales):
    to_hf(build(TEXT), tmp_path)
    file, key = tmp_path / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(file)
    tensors[key] = tensors[key].to(torch.float8_e4m3fn)
    scale = {f"{key}_scale": torch.tensor(1.0)} if scales else {}
    save_file(tensors | scale, file)
    with pytest.raises(WeightsError, match=rf"{key} is stored in F8_E4M3; fp8 and other") as error:
        from_hf(tmp_path, dtype=dtype)
    assert one_line(error)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_truncated_file(tmp_path, kept):
    to_hf(build(TEXT), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(
        WeightsError, match=r"model\.safetensors is not a whole safetensors file"
    ) as error:
        from_hf(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "'llama'"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"use_sliding_window": True}, "sliding"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary"),
        ({"num_attention_heads": 3}, "multiple"),
        ({"hidden_size": None}, r"config\.json"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two', not a whole number"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5, not a whole number"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None, not a number"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', not true or false"),
        ({"rope_parameters": [1]}, r"its rotary positions are \[1\], not a JSON object"),
        ({"rope_parameters": {"rope_theta": "1e6"}}, "rope_theta is '1e6', not a number"),
    ],
)
def test_configurations_that_are_refused(tmp_path, change, message):
    to_hf(build(TEXT), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message) as error:
        from_hf(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"model_type": "qwen2"}'])
def test_broken_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json") as error:
        from_hf(tmp_path)
    assert one_line(error)


def test_missing_wrong_and_unknown_keys(tmp_path):
    to_hf(build(TEXT), tmp_path)
    file, key = tmp_path / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    good = load_file(file)

    def refused(tensors: dict[str, Tensor], message: str) -> None:
        save_file(tensors, file)
        with pytest.raises(WeightsError, match=message) as error:
            from_hf(tmp_path)
        assert one_line(error)

    refused({name: tensor for name, tensor in good.items() if name != key}, rf"{key} .*\(48, 32\)")
    refused(good | {key: torch.zeros(48, 31)}, rf"{key} .*\(48, 31\).*\(48, 32\)")
    refused(good | {"model.layers.2.norm": torch.zeros(3)}, r"model\.layers\.2\.norm")


def test_visual_file_of_another_shape(tmp_path):
    to_hf(build(VISUAL), tmp_path)
    with pytest.raises(WeightsError, match=r"visual\.safetensors.*\(32, 4\).*\(32, 5\)"):
        from_hf(tmp_path, num_codes=32, code_bits=5, max_side=5)
    with pytest.raises(
        WeightsError, match=r"visual\.safetensors.*row_embedding|visual\.safetensors.*col_embedding"
    ):
        from_hf(tmp_path, num_codes=16, code_bits=4)
