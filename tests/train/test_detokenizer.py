"""Decoders that start from published transformers, trained on a user's pictures, exported and loaded."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arm.data.images import GridWeight
from arm.errors import ConfigError, WeightsError
from arm.model_directory import load_detokenizer
from arm.models import flow
from arm.models.dit import DiTConfig
from arm.models.latent import FluxPainter, LatentDetokenizer, SanaPainter
from arm.models.pretrained import Pretrained, load_vae
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.models.weights import load_tensors
from arm.train import parallel
from arm.train.detokenizer import DetokenizerRun, PretrainedPainter, Sana, check_grids, main
from arm.train.export import export_painter
from arm.train.optim import Optim
from arm.train.sharding import Parallel
from arm.train.training import Loop
from arm.world.domain import World
from checkpoints import WIDTH, dc_ae, flux, flux_vae, gemma_like, naflex_towers, sana, save
from shades import folder_of

KINDS = {"flux": (flux, flux_vae, FluxPainter), "sana": (sana, dc_ae, SanaPainter)}


def run_of(tmp_path: Path, name: str, **changes: Any) -> DetokenizerRun:
    make, vae, _ = KINDS[name]
    save(tmp_path / "towers", naflex_towers(), gemma_like())
    save(tmp_path / f"{name}_pipeline/transformer", make())
    save(tmp_path / f"{name}_pipeline/vae", vae())
    torch.manual_seed(0)
    pixel = DiTConfig(width=16, num_blocks=1, num_heads=2)
    config = TokenizerConfig(code_bits=5, width=16, num_blocks=1, num_heads=2, pixel=pixel)
    VisualTokenizer(config, naflex_towers().vision_model).save(tmp_path / "tokenizer")
    run = DetokenizerRun(
        out=tmp_path / name,
        pretrained=Pretrained(
            siglip=str(tmp_path / "towers"),
            caption_lm="none",
            vae=f"{tmp_path}/{name}_pipeline:vae",
        ),
        tokenizer=tmp_path / "tokenizer",
        painter=PretrainedPainter(f"{tmp_path}/{name}_pipeline:transformer"),
        grids=(GridWeight(4, 4), GridWeight(4, 6)),
        scale=1,
        batch=3,
        drop_condition=0.1,
        num_steps=2,
        guidance_scale=1.5,
        timestep_power=1.0,
        loop=Loop(steps=2, log_every=1),
        optim=Optim(lr=1e-3, warmup=1),
        data=(str(folder_of(tmp_path / "data", 24, 16)),),
        eval_every=2,
        eval_pictures=4,
    )
    return replace(run, **changes)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends the group of one process that sharding makes, and forgets the one for checkpoints."""
    monkeypatch.setattr(parallel, "_CHECKPOINT_GROUP", [])
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", KINDS)
def test_a_published_transformer_learns_on_users_pictures(name: str, tmp_path: Path):
    run = run_of(tmp_path, name)
    main(run)
    lines = [json.loads(x) for x in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert 0.5 < lines[0]["loss"] < 20 and lines[-1]["pictures"] == 3 and lines[-1]["psnr"] > 0
    stored = load_tensors(
        tmp_path / f"{name}_pipeline/transformer/diffusion_pytorch_model.safetensors"
    )
    found = load_tensors(run.out / "model/painter.safetensors")
    # everything that was there is there, a few small steps away; the maps of z_q alone are new
    own = {k for k in found if not k.startswith("transformer.")}
    assert own == {"flux": {"condition.weight", "condition.bias", "pool.weight", "pool.bias"},
                   "sana": {"condition.weight", "condition.bias"}}[name]  # fmt: skip
    assert {f"transformer.{k}" for k in stored} == found.keys() - own
    moved = {k: (found[f"transformer.{k}"] - v).abs().max() for k, v in stored.items()}
    assert 0 < max(moved.values()) < 0.01
    # the file loads as a decoder, with the sampler's numbers of the run
    tokenizer = VisualTokenizer.load(run.tokenizer, naflex_towers().vision_model)
    decoder = LatentDetokenizer.load(run.out / "model", tokenizer, load_vae(run.pretrained.vae))
    assert (decoder.name, decoder.num_steps, decoder.guidance_scale) == (name, 2, 1.5)
    assert decoder.decode(torch.zeros(1, 4, 6, dtype=torch.long)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("name", KINDS)
def test_all_weights_are_kept(name: str, tmp_path: Path):
    make, _, kind = KINDS[name]
    source = save(tmp_path, make())
    channels = 4 if name == "flux" else 8
    painter: Any = PretrainedPainter(source).build(WIDTH, channels)
    assert type(painter) is kind
    kept = painter.transformer.state_dict()
    assert all(torch.equal(kept[k], v) for k, v in make().state_dict().items())
    assert painter.transformer.gradient_checkpointing
    assert all(p.requires_grad for p in painter.parameters())
    save(tmp_path / "brain", make().bfloat16())
    dtypes = [
        PretrainedPainter(f"{tmp_path}/brain", bf16=bf16).build(WIDTH, channels).transformer.dtype
        for bf16 in (False, True)
    ]
    assert dtypes == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("name", KINDS)
def test_the_noise_level_is_exact_under_bf16(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: None
):
    """FSDP rounds what it is given: of t = .9977 in bf16, 1 - t would be .0039 in the place of .0023."""
    seen: list[float] = []
    kind: Any = type(KINDS[name][0]())
    forward = kind.forward

    def told(self: Any, *args: Any, timestep: torch.Tensor, **more: Any) -> Any:
        seen.extend(timestep.tolist())
        return forward(self, *args, timestep=timestep, **more)

    monkeypatch.setattr(kind, "forward", told)
    monkeypatch.setattr(flow, "sample_timesteps", lambda batch, *_: torch.full((batch,), 0.9977))
    loop = Loop(steps=1, parallel=Parallel(shard=True, bf16=True))
    main(run_of(tmp_path, name, loop=loop, eval_every=0))
    assert seen == pytest.approx([0.0023 if name == "flux" else 2.3] * 3, rel=0.01)


def test_a_transformer_of_another_autoencoder(tmp_path: Path):
    source = save(tmp_path / "flux", flux())
    with pytest.raises(WeightsError, match=r"takes latents of 4 channels, the autoencoder has 8;"):
        PretrainedPainter(source).build(WIDTH, 8)
    sprint = save(tmp_path / "sprint", sana(guidance_embeds=True))
    with pytest.raises(WeightsError, match="is a SANA-Sprint, which is not a rectified flow"):
        PretrainedPainter(sprint).build(WIDTH, 8)
    with pytest.raises(WeightsError, match="'AutoencoderKL', not FluxTransformer2DModel or Sana"):
        PretrainedPainter(save(tmp_path / "vae", flux_vae())).build(WIDTH, 4)


def test_grids_that_do_not_fit(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"grids has 4x5 tokens of 4 pixels: .* multiples of 8;"):
        main(run_of(tmp_path, "sana", grids=(GridWeight(4, 4), GridWeight(4, 5))))
    painter = FluxPainter(flux(), WIDTH)
    check_grids((GridWeight(4, 6),), 4, flux_vae(), painter)
    with pytest.raises(ConfigError, match="3x4 latents, but Flux needs even sides"):
        check_grids((GridWeight(3, 4),), 4, flux_vae(), painter)
    pairs = Sana(1, 2, 8, condition_dim=20, sample_size=4).build(WIDTH, 8)  # patches of 2x2 latents
    check_grids((GridWeight(4, 8),), 4, dc_ae(), pairs)
    for grid in (GridWeight(4, 6), GridWeight(6, 4)):
        with pytest.raises(
            ConfigError, match="latents, but this Sana needs sides that are multiples of 2"
        ):
            check_grids((grid,), 4, dc_ae(), pairs)
        check_grids((grid,), 4, dc_ae(), SanaPainter(sana(), WIDTH))  # patches of one latent


def test_a_decoder_brings_the_autoencoder_that_others_do_not_share(tmp_path: Path):
    """FLUX's and SANA's latents are of two autoencoders; one model holds both decoders."""
    runs = {name: run_of(tmp_path, name, data=(), domain=World(), eval_every=0) for name in KINDS}
    model = tmp_path / "model"
    for name, run in runs.items():
        main(replace(run, loop=Loop(steps=1), grids=(GridWeight(8, 8),), scale=1))
        export_painter(
            run.out / "model", model / f"detokenizer_{name}", runs["flux"].pretrained.vae
        )
    load_vae(runs["flux"].pretrained.vae).half().save_pretrained(model / "vae")
    assert not (model / "detokenizer_flux/vae").exists()
    tokenizer = VisualTokenizer.load(tmp_path / "tokenizer", naflex_towers().vision_model)
    codes = torch.arange(16).view(1, 4, 4)
    painted = {}
    for name, run in runs.items():
        found: Any = load_detokenizer(model, tokenizer, name)
        assert type(found.vae) is type(load_vae(run.pretrained.vae))
        painted[name] = found.decode(codes).numpy()
        assert painted[name].shape == (1, 3, 16, 16)
    assert not np.array_equal(painted["flux"], painted["sana"])
