"""Pretrained parts from files in the Hugging Face layout, and one clear line for each that is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arm.errors import WeightsError
from arm.models.pretrained import (
    PARTS,
    Pretrained,
    load_caption_lm,
    load_siglip,
    load_text_tokenizer,
    load_vae,
    locate,
)
from checkpoints import (
    caption_lm,
    dc_ae,
    fixed_size_towers,
    flux_vae,
    gemma_like,
    naflex_towers,
    qwen_like,
    save,
)

Make = Callable[[], Any]
LOADERS = [
    (load_siglip, fixed_size_towers),
    (load_siglip, naflex_towers),
    (load_caption_lm, caption_lm),
    (load_vae, flux_vae),
    (load_vae, dc_ae),
]


def only_weights(directory: Path) -> Path:
    (found,) = directory.glob("*.safetensors")
    return found


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("load", "make"), LOADERS)
def test_every_tensor_comes_back(load: Callable[..., Any], make: Make, tmp_path: Path):
    wanted = make()
    found = load(save(tmp_path, wanted))
    assert type(found) is type(wanted) and not found.training
    assert found.state_dict().keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize(("load", "make"), LOADERS)
def test_16_bits_become_fp32_but_bf16_may_stay(
    load: Callable[..., Any], make: Make, tmp_path: Path
):
    half, brain = make().half(), make().bfloat16()
    assert load(save(tmp_path / "half", half), keep_bf16=True).dtype == torch.float32
    assert load(save(tmp_path / "brain", brain)).dtype == torch.float32
    assert load(tmp_path / "brain", keep_bf16=True).dtype == torch.bfloat16


def test_shards_are_read(tmp_path: Path):
    wanted = caption_lm()
    wanted.save_pretrained(tmp_path, max_shard_size="8KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    found = load_caption_lm(tmp_path)
    assert all(torch.equal(found.state_dict()[k], v) for k, v in wanted.state_dict().items())
    shards[1].unlink()
    with pytest.raises(WeightsError, match=rf"^weights are missing: .*{shards[1].name}"):
        load_caption_lm(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weights": []}')
    with pytest.raises(WeightsError, match=r"index\.json has no weight_map"):
        load_caption_lm(tmp_path)


def test_a_subfolder_of_a_pipeline(tmp_path: Path):
    save(tmp_path / "pipeline/vae", flux_vae())
    assert load_vae(f"{tmp_path}/pipeline:vae").config.latent_channels == 4
    with pytest.raises(
        WeightsError, match=r"^weights are missing: .*pipeline/unet does not exist$"
    ):
        load_vae(f"{tmp_path}/pipeline:unet")


def hub_with(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """The folder in which the hub's cache keeps a model that was fetched before."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    return folder / "snapshots" / ("0" * 40)


def test_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    snapshot = hub_with(tmp_path, monkeypatch, "someone/towers")
    save(snapshot, naflex_towers(), gemma_like())
    save(snapshot / "vae", dc_ae())
    assert load_siglip("someone/towers").config.model_type == "siglip2"
    assert len(load_text_tokenizer("someone/towers")) == 31
    assert load_vae("someone/towers:vae").config.latent_channels == 8
    with pytest.raises(
        WeightsError, match=r"^no-one/nothing is no directory, and the hub"
    ) as error:
        load_siglip("no-one/nothing")
    assert "\n" not in str(error.value)


def test_no_pickle_is_fetched():
    assert not [part for part in PARTS if part.endswith((".bin", ".pt", ".pth", ".ckpt", "*"))]


def test_a_missing_directory_and_file(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"^weights are missing: .*nothing does not exist$"):
        load_siglip(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"^weights are missing: .*empty/config.json"):
        load_siglip(tmp_path / "empty")
    save(tmp_path / "towers", fixed_size_towers())
    only_weights(tmp_path / "towers").unlink()
    with pytest.raises(WeightsError, match=r"^weights are missing: .* has no model.safetensors"):
        load_siglip(tmp_path / "towers")
    with pytest.raises(WeightsError, match=r"^weights are missing: .*towers/tokenizer.json"):
        load_text_tokenizer(tmp_path / "towers")


@pytest.mark.parametrize(("load", "make"), LOADERS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.ckpt", "diffusion_pytorch_model.bin"])
def test_a_pickle_is_never_opened(
    load: Callable[..., Any], make: Make, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path, make())
    only_weights(tmp_path).rename(tmp_path / name)

    def opened(*args: Any, **options: Any) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", opened)
    with pytest.raises(WeightsError, match=f"holds only {name}, .* loads safetensors alone$"):
        load(tmp_path)


@pytest.mark.parametrize(("load", "make"), LOADERS)
def test_a_file_that_was_cut_off(load: Callable[..., Any], make: Make, tmp_path: Path):
    save(tmp_path, make())
    path = only_weights(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"safetensors is not a whole safetensors file") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("load", "make"), LOADERS)
def test_a_file_that_lacks_a_tensor_or_has_one_too_many(
    load: Callable[..., Any], make: Make, tmp_path: Path
):
    """The libraries would fill the gap with noise and drop the rest, with no more than a warning."""
    save(tmp_path, make())
    path = only_weights(tmp_path)
    tensors = load_file(path)
    gone = max(tensors)
    save_file({k: v for k, v in tensors.items() if k != gone}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=f"lacks the tensor .*{gone.split('.')[-1]}$"):
        load(tmp_path)
    save_file({**tensors, "more.weight": torch.ones(2)}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"holds more\.weight, which is no part of it$"):
        load(tmp_path)


def test_a_wrong_key_in_the_configuration(tmp_path: Path):
    save(tmp_path / "lm", caption_lm())
    config = json.loads((tmp_path / "lm/config.json").read_text())
    config["hidden_sise"] = config.pop("hidden_size")
    (tmp_path / "lm/config.json").write_text(json.dumps(config))
    with pytest.raises(
        WeightsError, match=r"lm and its config\.json do not belong together.*shape"
    ):
        load_caption_lm(tmp_path / "lm")
    save(tmp_path / "towers", fixed_size_towers())
    change_config(tmp_path / "towers", vision_config={"hidden_size": "wide"})
    with pytest.raises(WeightsError, match="towers cannot be loaded as SiglipModel: ") as error:
        load_siglip(tmp_path / "towers")
    assert "\n" not in str(error.value)
    (tmp_path / "towers/config.json").write_text("[1, 2]")
    with pytest.raises(WeightsError, match=r"config\.json is not a JSON object$"):
        load_siglip(tmp_path / "towers")


def test_other_architectures_are_named(tmp_path: Path):
    save(tmp_path / "lm", caption_lm())
    save(tmp_path / "vae", flux_vae())
    with pytest.raises(
        WeightsError, match="model_type is 'qwen2', towers are 'siglip' or 'siglip2'"
    ):
        load_siglip(tmp_path / "lm")
    change_config(tmp_path / "lm", model_type="llama")
    with pytest.raises(WeightsError, match="model_type is 'llama', a captioning model is 'qwen2'"):
        load_caption_lm(tmp_path / "lm")
    change_config(tmp_path / "vae", _class_name="AutoencoderTiny")
    with pytest.raises(WeightsError, match="'AutoencoderTiny', not AutoencoderKL or AutoencoderDC"):
        load_vae(tmp_path / "vae")


def test_tables_of_positions_may_be_too_many(tmp_path: Path):
    """Older transformers saved what newer ones compute."""
    save(tmp_path, fixed_size_towers())
    path = only_weights(tmp_path)
    more = {"text_model.embeddings.position_ids": torch.arange(64)[None]}
    saved = load_file(path)
    save_file({**saved, **more}, path, {"format": "pt"})
    assert load_siglip(tmp_path).state_dict().keys() >= saved.keys()


def test_a_text_tokenizer(tmp_path: Path):
    save(tmp_path, qwen_like())
    assert load_text_tokenizer(tmp_path).eos_token_id == 0
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"tokenizer_config\.json names no eos_token$"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"tokenizer\.json is no tokenizer: ") as error:
        load_text_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_the_standins_lie_under_one_directory(tmp_path: Path):
    save(tmp_path / "siglip", fixed_size_towers(), gemma_like())
    found = Pretrained.under(tmp_path)
    assert found == Pretrained(*(f"{tmp_path}/{name}" for name in ("siglip", "caption_lm", "vae")))
    assert locate(found.siglip) == tmp_path / "siglip"
    shutil.rmtree(tmp_path / "siglip")
    with pytest.raises(WeightsError, match="siglip does not exist"):
        locate(found.siglip)


@pytest.mark.parametrize(("load", "make"), LOADERS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_config_that_names_a_pickle(
    load: Callable[..., Any], make: Make, nested: bool, tmp_path: Path, monkeypatch: Any
):
    """transformers would open what `transformers_weights` names in the place of the safetensors."""
    save(tmp_path, make())
    torch.save({}, tmp_path / "evil.bin")
    named = {"transformers_weights": "evil.bin"}
    change_config(tmp_path, **({"text_config": named} if nested else named))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(WeightsError, match=r"names 'evil\.bin' as transformers_weights") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.bin"])
def test_an_adapter_beside_a_tower(name: str, tmp_path: Path):
    save(tmp_path, fixed_size_towers())
    (tmp_path / name).write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    with pytest.raises(WeightsError, match=f"holds an adapter .{name}.; merge it into the model"):
        load_siglip(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": {"type": "WordLevel", "vocab": {"a": 2**40}, "unk_token": "a"}},
        {"model": {"type": "WordLevel", "vocab": {"a": 4_000_000_000}, "unk_token": "a"}},
        {"model": {"type": "Unigram", "unk_id": 7, "vocab": []}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["b", "c"]]}},
        {"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 64}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}},
        {"decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 2000}]}},
        {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": 3}},
    ],
)  # fmt: skip
def test_tokenizers_that_panic_or_grow(changes: dict[str, Any], tmp_path: Path):
    save(tmp_path, qwen_like())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(WeightsError, match=r"is no tokenizer: |its ids are not 0\.\.") as error:
        load_text_tokenizer(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
