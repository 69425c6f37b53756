"""Latent decoders: both autoencoders, both painters, files that load again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.errors import InputError, WeightsError
from arm.models.dit import DiTConfig
from arm.models.latent import (
    FluxPainter,
    LatentDetokenizer,
    SanaPainter,
    from_latents,
    latent_shape,
    save_painter,
    to_latents,
)
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from checkpoints import WIDTH, dc_ae, fixed_size_towers, flux, flux_vae, sana
from closeness import assert_close_fp32

SAMPLER = {"num_steps": 3, "guidance_scale": 1.5}


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tokenizer() -> VisualTokenizer:
    torch.manual_seed(0)
    pixel = DiTConfig(width=16, num_blocks=1, num_heads=2)
    config = TokenizerConfig(code_bits=5, width=16, num_blocks=1, num_heads=2, pixel=pixel)
    return VisualTokenizer(config, fixed_size_towers().vision_model).eval()


@torch.no_grad()
def test_latents_of_the_flux_vae():
    vae, images = flux_vae(), pictures(2, 3, 16, 24)
    latents = to_latents(vae, images)
    assert latents.shape[1:] == latent_shape(vae, 16, 24) == (4, 4, 6)
    # as FluxPipeline: (z - shift) * scale in, z / scale + shift out
    mean = vae.encode(images).latent_dist.mean
    assert_close_fp32(latents, (mean - 0.1159) * 0.3611)
    assert_close_fp32(from_latents(vae, latents), vae.decode(mean).sample)


@torch.no_grad()
def test_latents_of_dc_ae():
    vae, images = dc_ae(), pictures(2, 3, 16, 24)
    latents = to_latents(vae, images)
    assert latents.shape[1:] == latent_shape(vae, 16, 24) == (8, 2, 3)
    raw = vae.encode(images).latent
    assert_close_fp32(latents, raw * 0.41407)
    assert_close_fp32(from_latents(vae, latents), vae.decode(raw).sample)


def test_a_size_that_the_autoencoder_cannot_take():
    assert latent_shape(flux_vae(), 20, 16) == (4, 5, 4)
    with pytest.raises(InputError, match=r"16x20 does not fit .* multiples of 8;") as error:
        latent_shape(dc_ae(), 20, 16)
    assert "\n" not in str(error.value)


@torch.no_grad()
def test_flux_reads_the_condition_at_its_place():
    """A changed code reaches every place, and each place by its distance: positions are read."""
    painter = FluxPainter(flux(), WIDTH).eval()
    z_q = torch.zeros(1, 12, WIDTH)
    latents, sigma = torch.zeros(1, 4, 6, 8), torch.tensor([0.7])
    before = painter(latents, sigma, z_q, (3, 4))
    assert before.shape == latents.shape
    z_q[0, 5] = 1.0  # row 1, column 1: latents [2:4, 2:4]
    changed = (painter(latents, sigma, z_q, (3, 4)) - before).abs().sum(1)[0]
    assert changed.min() > 0
    # no two packed patches change alike, though all latents and all other codes are equal
    packed = changed.view(3, 2, 4, 2).sum((1, 3)).flatten()
    assert packed.unique().numel() == 12


@torch.no_grad()
def test_sana_reads_codes_on_a_finer_grid_than_its_latents():
    """DC-AE has a quarter as many latents as there are codes; each code is told its own place."""
    painter = SanaPainter(sana(), WIDTH).eval()
    latents, sigma = pictures(1, 8, 2, 3), torch.tensor([0.7])
    z_q = pictures(1, 24, WIDTH)
    out = painter(latents, sigma, z_q, (4, 6))
    assert out.shape == latents.shape
    swapped = z_q.clone()
    swapped[0, [0, 23]] = z_q[0, [23, 0]]
    assert (painter(latents, sigma, swapped, (4, 6)) - out).abs().max() > 1e-5
    # the same codes as another grid are another picture
    assert (painter(latents, sigma, z_q, (6, 4)) - out).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("painter", "vae"),
    [(lambda: FluxPainter(flux(), WIDTH), flux_vae), (lambda: SanaPainter(sana(), WIDTH), dc_ae)],
)
class TestBoth:
    def test_files_load_again(self, painter: Any, vae: Any, tmp_path: Path):
        made, tok, auto = painter(), tokenizer(), vae()
        codes = torch.arange(24).view(1, 4, 6)
        save_painter(made, tmp_path, SAMPLER)
        # Frozen, as what is loaded: on some processors torch then takes other kernels.
        frozen = made.eval().requires_grad_(False)
        wanted = LatentDetokenizer(tok, frozen, auto, 3, 1.5).decode(codes, seed=1)
        assert wanted.shape == (1, 3, 16, 24)
        loaded = LatentDetokenizer.load(tmp_path, tok, auto)
        assert (loaded.num_steps, loaded.guidance_scale) == (3, 1.5)
        assert torch.equal(loaded.decode(codes, seed=1), wanted)
        assert not torch.equal(loaded.decode(codes, seed=2), wanted)

    def test_bf16_weights_paint(self, painter: Any, vae: Any):
        tok, auto = tokenizer(), vae()
        codes, low = torch.arange(24).view(1, 4, 6), painter().eval()
        low.transformer.bfloat16()
        a, b = (LatentDetokenizer(tok, p, auto, 3).decode(codes) for p in (painter().eval(), low))
        assert a.dtype == b.dtype == torch.float32
        assert 0 < (a - b).abs().mean() < 0.05 * a.abs().mean()
        assert low.transformer.dtype == torch.bfloat16  # one that trains stays as it is

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_16_bits_stay_until_they_are_needed(
        self, painter: Any, vae: Any, tmp_path: Path, dtype: torch.dtype
    ):
        save_painter(painter(), tmp_path, SAMPLER, dtype)
        tok, auto = tokenizer(), vae()
        codes = torch.arange(24).view(1, 4, 6)
        exact, kept, moved = (
            LatentDetokenizer.load(tmp_path, tok, auto, as_stored=k) for k in (False, True, True)
        )
        assert {p.dtype for p in exact.painter.transformer.parameters()} == {torch.float32}
        assert {p.dtype for p in kept.painter.transformer.parameters()} == {dtype}
        moved.to("cpu")
        wanted = exact.decode(codes)
        for decoder in (kept, moved):
            assert torch.equal(decoder.decode(codes), wanted)
            assert decoder.painter.transformer.dtype == torch.float32

    def test_guidance_leaves_the_condition_behind(self, painter: Any, vae: Any):
        """At scale s the velocity is v0 + s (v1 - v0), so that scale 0 knows nothing of the codes."""
        decoder = LatentDetokenizer(tokenizer(), painter().eval(), vae(), num_steps=1)
        some, other = torch.arange(24).view(1, 4, 6), torch.arange(24).flip(0).view(1, 4, 6)
        free = decoder.decode(some, guidance_scale=0.0)
        assert_close_fp32(free, decoder.decode(other, guidance_scale=0.0))
        assert not torch.equal(decoder.decode(some, guidance_scale=1.0), free)

    def test_a_wrong_file_is_one_line(self, painter: Any, vae: Any, tmp_path: Path):
        save_painter(painter(), tmp_path, SAMPLER)
        path = tmp_path / "painter.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-10])
        with pytest.raises(WeightsError, match=r"painter\.safetensors is not a whole safetensors"):
            LatentDetokenizer.load(tmp_path, tokenizer(), vae())
        (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
        path.write_bytes(whole)
        with pytest.raises(WeightsError, match="'UNet2DModel' is none of Flux"):
            LatentDetokenizer.load(tmp_path, tokenizer(), vae())

    @pytest.mark.parametrize(
        ("file", "change", "message"),
        [
            ("config.json", None, r"config\.json is not a JSON object"),
            (
                "config.json",
                {"_class_name": ["Flux"]},
                r"config\.json: '\['Flux'\]' is none of Flux",
            ),
            (
                "config.json",
                {"num_layers": "two"},
                r"config\.json is of no (Flux|Sana)Transformer2D",
            ),
            (
                "config.json",
                {"num_layers": 3},
                r"painter\.safetensors lacks the tensor transformer",
            ),
            ("sampler.json", None, r"sampler\.json is not a JSON object"),
            ("sampler.json", {"steps": 3}, r"sampler\.json: unknown key 'steps'"),
            ("sampler.json", {"num_steps": "three"}, r"sampler\.json: num_steps='three'"),
            ("sampler.json", {"num_steps": 0}, r"sampler\.json: .*num_steps must be 1 to 1000"),
        ],
    )
    def test_settings_changed_by_hand(
        self, painter: Any, vae: Any, tmp_path: Path, file: str, change: Any, message: str
    ):
        save_painter(painter(), tmp_path, SAMPLER)
        path = tmp_path / file
        data = json.loads(path.read_text())
        path.write_text("3" if change is None else json.dumps(data | change))
        with pytest.raises(WeightsError, match=message) as error:
            LatentDetokenizer.load(tmp_path, tokenizer(), vae())
        assert "\n" not in str(error.value)


def test_a_grid_that_dc_ae_cannot_paint():
    decoder = LatentDetokenizer(tokenizer(), SanaPainter(sana(), WIDTH), dc_ae(), 1)
    with pytest.raises(InputError, match="20x16 does not fit the autoencoder"):
        decoder.decode(torch.zeros(1, 4, 5, dtype=torch.long))
