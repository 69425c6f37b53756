"""The files that transformers needs in a model directory, and copies of whole models."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import arm.hf  # noqa: F401 - registers
from arm.errors import InputError, WeightsError
from arm.hf.files import added_names, copy_model, text_table
from arm.model_directory import shipped_models
from arm.models.backbone import load_backbone
from arm.models.pretrained import load_text_tokenizer
from arm.pipeline import Arm
from arm.vocab import Vocab
from conftest import TinyChain
from old_layout import old_export, old_model

CODES = [np.arange(49).reshape(7, 7)]
QUESTION = ["how many stars are there?"]


def entries(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def same_weights(a: Path, b: Path) -> bool:
    one, two = (load_backbone(path, dtype=None)[0].state_dict() for path in (a, b))
    return one.keys() == two.keys() and all(
        one[k].dtype == two[k].dtype and torch.equal(one[k], two[k]) for k in one
    )


# Copies


def test_a_copy_is_the_same_model(chain: TinyChain, tmp_path: Path):
    copy_model(chain.model, tmp_path / "copy")
    assert entries(tmp_path / "copy") == entries(chain.model)
    for name in entries(chain.model):
        assert (tmp_path / "copy" / name).read_bytes() == (chain.model / name).read_bytes(), name
    assert {p.name for p in tmp_path.iterdir()} == {"copy"}  # no temporary folder is left


@pytest.mark.parametrize("old", [old_model, old_export])
def test_a_model_of_the_release_before_is_copied_in_todays_layout(
    chain: TinyChain, tmp_path: Path, old
):
    source = old(chain.model, tmp_path / "old")
    copy_model(source, tmp_path / "new")
    assert entries(tmp_path / "new") == entries(chain.model)
    assert same_weights(tmp_path / "new", chain.model)
    before, after = Arm.from_pretrained(source), Arm.from_pretrained(tmp_path / "new")
    assert before.answer_codes(CODES, QUESTION) == after.answer_codes(CODES, QUESTION)


def test_an_export_of_the_release_before_is_read_by_transformers(chain: TinyChain, tmp_path: Path):
    source = old_export(chain.model, tmp_path / "old")
    model = AutoModelForCausalLM.from_pretrained(source)
    own, _ = load_backbone(chain.model, dtype=None)
    assert all(torch.equal(own.state_dict()[k], t) for k, t in model.model.state_dict().items())
    picture = AutoProcessor.from_pretrained(source).decode_images(
        torch.tensor(AutoProcessor.from_pretrained(chain.model).image_ids(CODES[0]))
    )[0]
    assert picture.tobytes() == Arm.from_pretrained(chain.model).decode(CODES[0]).tobytes()


def test_shipped_models_are_read_by_transformers_where_they_lie():
    for directory in shipped_models().values():
        model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False)
        own, vocab = load_backbone(directory, dtype=None)
        assert AutoProcessor.from_pretrained(directory).vocab == vocab == model.config.vocab
        for name, tensor in own.state_dict().items():
            assert torch.equal(model.model.state_dict()[name], tensor), name


def test_what_transformers_saves_is_a_model(exported: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert model.dtype == torch.float16
    with torch.no_grad():
        model.model.embed_tokens.weight += 1
    model.save_pretrained(tmp_path / "tuned", max_shard_size="20KB")
    with pytest.raises(WeightsError, match=r"no arm\.json \(transformers: save its processor too"):
        Arm.from_pretrained(tmp_path / "tuned")
    AutoProcessor.from_pretrained(exported).save_pretrained(tmp_path / "tuned")
    shutil.move(tmp_path / "tuned", tmp_path / "elsewhere")
    own = Arm.from_pretrained(tmp_path / "elsewhere").model
    assert torch.equal(own.embed_tokens.weight, model.model.embed_tokens.weight.float())
    copy_model(tmp_path / "elsewhere", tmp_path / "copy")
    assert same_weights(tmp_path / "elsewhere", tmp_path / "copy")


def test_a_backbone_may_have_its_own_text_tokenizer(chain: TinyChain, tmp_path: Path):
    source = shutil.copytree(chain.model, tmp_path / "source")
    (source / "text_tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(source / "siglip" / name, source / "text_tokenizer" / name)
    for target in (tmp_path / "once", tmp_path / "twice"):
        copy_model(source, target)
        assert entries(target) == entries(source)
        source = target
    assert Arm.from_pretrained(source).answer_codes(CODES, QUESTION)
    AutoProcessor.from_pretrained(source).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved/text_tokenizer/tokenizer.json").is_file()


def test_only_known_files_are_copied(chain: TinyChain, tmp_path: Path):
    source = shutil.copytree(chain.model, tmp_path / "source")
    (tmp_path / "private.txt").write_text("mine")
    for name in ("siglip/pytorch_model.bin", "optimizer.pt", "notes.txt", "vae/x.pkl", ".env"):
        (source / name).write_text("not a part of it")
    (source / "linked.json").symlink_to(tmp_path / "private.txt")
    (source / "siglip/special_tokens_map.json").symlink_to(tmp_path / "private.txt")
    (source / "detokenizer_mine").symlink_to(tmp_path)
    copy_model(source, tmp_path / "copy")
    assert entries(tmp_path / "copy") == entries(chain.model)


@pytest.mark.parametrize(
    "name", ["siglip/tokenizer_config.json", "vae", "tokenizer.safetensors", "model.safetensors"]
)
@pytest.mark.parametrize("inside", [True, False])
def test_links_are_refused(chain: TinyChain, tmp_path: Path, name: str, inside: bool):
    source = shutil.copytree(chain.model, tmp_path / "source")
    target = source / "moved" if inside else tmp_path / "outside"
    shutil.move(source / name, target)
    (source / name).symlink_to(target)
    Arm.from_pretrained(source)  # to read through a link does no harm
    with pytest.raises(WeightsError, match=r"is a link to .*; put the file itself there") as error:
        copy_model(source, tmp_path / "copy")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "copy").exists()


def test_a_snapshot_of_the_hub_is_copied(chain: TinyChain, tmp_path: Path):
    """The hub's cache keeps contents in `blobs` and links to them from `snapshots/REVISION`."""
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    for number, name in enumerate(sorted(entries(chain.model))):
        shutil.copyfile(chain.model / name, blobs / str(number))
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blobs / str(number), (snapshot / name).parent))
    copy_model(snapshot, tmp_path / "copy")
    assert entries(tmp_path / "copy") == entries(chain.model)
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))


def test_folders_are_not_overwritten(chain: TinyChain, tmp_path: Path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        copy_model(chain.model, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_a_damaged_model_is_not_copied(chain: TinyChain, tmp_path: Path):
    source = shutil.copytree(chain.model, tmp_path / "source")
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        copy_model(source, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_pickles_are_not_opened(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = shutil.copytree(exported, tmp_path / "model")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    config = json.loads((source / "config.json").read_text())
    named = {**config, "transformers_weights": "pytorch_model.bin"}
    (source / "config.json").write_text(json.dumps(named))
    for load in (AutoModelForCausalLM.from_pretrained, Arm.from_pretrained):
        with pytest.raises(WeightsError, match=r"names 'pytorch_model\.bin' as transformers_w"):
            load(source)
    (source / "config.json").write_text(json.dumps(config))
    (source / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"holds an adapter \(adapter_config\.json\)"):
        Arm.from_pretrained(source)
    (source / "adapter_config.json").unlink()
    (source / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"holds only pytorch_model\.bin"):
        Arm.from_pretrained(source)
    with pytest.raises(OSError):
        AutoModelForCausalLM.from_pretrained(source)


# The text table


def word_level(path: Path, ids: dict[str, int]) -> Path:
    """A tokenizer of whole words, whose `<pad>` and `<eos>` are its own."""
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(w, normalized=False) for w in ids if w[0] == "<"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    ).save_pretrained(path)
    return path


IDS = {"<pad>": 0, "<unk>": 1, "<eos>": 2, "a": 3, "star": 4}


def test_every_id_has_its_name(tmp_path: Path):
    vocab = Vocab(text_size=7, num_codes=16, max_side=2)
    text_table(word_level(tmp_path / "own", IDS), vocab).save_pretrained(tmp_path / "table")
    table = AutoTokenizer.from_pretrained(tmp_path / "table")
    expected = [
        *("<text:pad>", "<unk>", "<eos>", "a", "star", "<reserved_0>", "<reserved_1>"),
        *("<pad>", "<user>", "<assistant>", "<end>", "<image>", "</image>"),
        *("<h=1>", "<h=2>", "<w=1>", "<w=2>"),
    ]
    assert len(table) == vocab.first_code == len(expected)
    assert table.convert_ids_to_tokens(list(range(len(expected)))) == expected
    assert table.convert_tokens_to_ids(expected) == list(range(len(expected)))
    text = "<user>a star<end><assistant><image><h=2><w=1></image><end>"
    ids = [vocab.user, 3, 4, vocab.end, vocab.assistant, vocab.image, vocab.height(2)]
    ids += [vocab.width(1), vocab.image_end, vocab.end]
    assert table(text).input_ids == ids
    assert table(table.decode(ids)).input_ids == ids
    assert table.decode(ids, skip_special_tokens=True) == "a star"
    assert (table.pad_token_id, table.eos_token_id, table.unk_token_id) == (vocab.pad, vocab.end, 1)
    assert table(["a", "a star"], padding=True).input_ids == [[vocab.pad, 3], [3, 4]]


def test_text_has_the_ids_of_the_models_own_tokenizer(chain: TinyChain, exported: Path):
    table = AutoTokenizer.from_pretrained(exported)
    own = load_text_tokenizer(chain.model / "siglip")
    assert len(table) == load_backbone(chain.model)[1].first_code
    for text in ("a large red star left of a blue ring", "what color is the ring ?"):
        assert table(text).input_ids == own(text, add_special_tokens=False).input_ids
    assert set(own.get_vocab()) - set(table.get_vocab()) == set()
    assert table.convert_tokens_to_ids("<text:pad>") == own.convert_tokens_to_ids("<pad>")


def test_a_table_that_cannot_be(tmp_path: Path):
    with pytest.raises(WeightsError, match="has 5 ids, the model 4"):
        added_names(5, Vocab(text_size=4, num_codes=16, max_side=2))
    holes = word_level(tmp_path, {**IDS, "star": 9})
    with pytest.raises(WeightsError, match=r"its ids are not 0\.\.4"):
        text_table(holes, Vocab(text_size=7, num_codes=16, max_side=2))
