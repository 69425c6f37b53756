"""Model directories made from the outputs of runs, or around the files of another model."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arm.configs import micro as recipe
from arm.errors import WeightsError
from arm.models.backbone import save_backbone
from arm.models.dit import DiTConfig
from arm.models.latent import FluxPainter, save_painter
from arm.models.pretrained import Pretrained
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.models.weights import load_tensors
from arm.pipeline import Arm
from arm.train.export import main, replace_backbone
from arm.vocab import Vocab
from checkpoints import WIDTH, flux, flux_vae, gemma_like, naflex_towers, qwen_like, save
from conftest import TinyChain
from tiny import VISUAL, build
from tiny_stages import stages

GREY = Image.fromarray(np.full((56, 56, 3), 90, dtype=np.uint8))


def test_another_backbone_beside_the_same_parts(chain: TinyChain, tmp_path: Path):
    replace_backbone(chain.model, chain.model, tmp_path / "one")
    replace_backbone(tmp_path / "one", tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    whole, copy = Arm.from_pretrained(chain.model), Arm.from_pretrained(tmp_path / "two")
    assert copy.directory == tmp_path / "two"
    assert np.array_equal(whole.encode(GREY), copy.encode(GREY))
    assert whole.ask(GREY, "how many stars are there ?") == copy.ask(
        GREY, "how many stars are there ?"
    )


def test_weights_are_linked_and_settings_are_not(chain: TinyChain, tmp_path: Path):
    replace_backbone(chain.model, chain.model, tmp_path / "model")
    for name in ("tokenizer.safetensors", "siglip/model.safetensors"):
        assert (tmp_path / "model" / name).samefile(chain.model / name)
    for name in ("siglip/config.json", "visual_tokenizer.json", "siglip/tokenizer.json"):
        assert not (tmp_path / "model" / name).samefile(chain.model / name)


def test_an_export_around_the_files_of_another_model(chain: TinyChain, tmp_path: Path):
    run = stages(chain.root)["export"]
    defaults = replace(run.defaults, detokenizer="flux")
    main(
        replace(
            run,
            out=tmp_path / "model",
            parts=chain.model,
            defaults=defaults,
            tokenizer=Path("gone"),
        )
    )
    arm = Arm.from_pretrained(tmp_path / "model")
    assert arm.defaults == defaults and arm.directory == tmp_path / "model"


def test_a_model_is_replaced_whole_or_not_at_all(
    chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace_backbone(chain.model, chain.model, tmp_path / "model")
    before = {p: p.read_bytes() for p in (tmp_path / "model").rglob("*") if p.is_file()}

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("arm.train.export.write_transformers_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        replace_backbone(chain.model, chain.model, tmp_path / "model")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_model_of_published_parts(tmp_path: Path):
    """NaFlex towers with Gemma's tokenizer, a backbone with Qwen2's and a few rows more than it has ids."""
    vocab = Vocab(text_size=60, num_codes=32, max_side=6)
    backbone = replace(VISUAL, vocab_size=vocab.first_code, num_codes=32, code_bits=5, max_side=6)
    save_backbone(build(backbone), vocab, tmp_path / "lm")
    parts = Pretrained(
        siglip=save(tmp_path / "towers", naflex_towers(), gemma_like()),
        caption_lm="none",
        vae=save(tmp_path / "vae", flux_vae()),
    )
    pixel = DiTConfig(width=16, num_blocks=1, num_heads=2)
    config = TokenizerConfig(code_bits=5, width=16, num_blocks=1, num_heads=2, pixel=pixel)
    VisualTokenizer(config, naflex_towers().vision_model).save(tmp_path / "tokenizer")
    save_painter(
        FluxPainter(flux(), WIDTH),
        tmp_path / "flux/model",
        {"num_steps": 1, "guidance_scale": 1.5},
        torch.bfloat16,
    )
    micro = recipe.export_sft()
    run = replace(
        micro,
        out=tmp_path / "model",
        pretrained=parts,
        tokenizer=tmp_path / "tokenizer",
        backbone=tmp_path / "lm",
        detokenizers=(tmp_path / "flux/model",),
        defaults=replace(micro.defaults, grids=((4, 4), (4, 6)), detokenizer="flux"),
        text_tokenizer=save(tmp_path / "words", qwen_like()),
    )
    main(run)
    # bf16 stays bf16, whose range is wider; all else is fp16
    painter = load_tensors(tmp_path / "model/detokenizer_flux/painter.safetensors")
    assert {t.dtype for t in painter.values()} == {torch.bfloat16}
    own = load_tensors(tmp_path / "model/tokenizer.safetensors")
    assert {t.dtype for t in own.values()} == {torch.float16}
    arm = Arm.from_pretrained(tmp_path / "model")
    assert arm.text_tokenizer.ids("aB") == (1, 28) and arm.vocab.text_size == 60
    picture = Image.new("RGB", (24, 16), "red")
    codes = arm.encode(picture)
    assert codes.shape == (4, 6) and arm.decode(codes).size == (24, 16)
    assert arm.create("a", size=(16, 16))[0].size == (16, 16)
    assert isinstance(arm.ask(picture, "b"), str)
    replace_backbone(tmp_path / "model", tmp_path / "lm", tmp_path / "other")
    assert Arm.from_pretrained(tmp_path / "other").text_tokenizer.ids("aB") == (1, 28)
    with pytest.raises(WeightsError, match="31 words and 32 codes beside a backbone"):
        (tmp_path / "model/text_tokenizer/tokenizer.json").unlink()
        Arm.from_pretrained(tmp_path / "model")


def test_a_part_that_is_missing_or_damaged_leaves_the_model_that_is_there(
    chain: TinyChain, tmp_path: Path
):
    out = shutil.copytree(chain.model, tmp_path / "model")
    (out / "README.md").write_text("its card")
    painter = shutil.copytree(chain.root / "sana/model", tmp_path / "sana/model")
    run = replace(stages(chain.root)["export"], out=out)
    run = replace(run, detokenizers=(*run.detokenizers[:1], painter))
    run = replace(run, defaults=replace(run.defaults, detokenizer="sana"))

    def files() -> dict[str, bytes]:
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    before = files()
    (painter / "painter.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        main(run)
    (painter / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"first finish the run that writes .*sana/model"):
        main(run)
    assert files() == before
    main(replace(run, detokenizers=run.detokenizers[:1]))
    after = files()
    assert after.keys() == before.keys() and after["README.md"] == b"its card"
    assert b'"sana"' in after["arm.json"]
    modes = {p.stat().st_mode for p in out.rglob("*.safetensors")}
    assert modes == {(out / "arm.json").stat().st_mode}
