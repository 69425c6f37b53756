"""The runs at the paper's size: its numbers (sections 1 and 2), and grids that every part can take."""

from dataclasses import replace

import pytest
import torch

from arm.configs import paper
from arm.configs.paper_data import grids_between
from arm.data.images import best_grid
from arm.models.tokenizer import VisualTokenizer
from arm.train.detokenizer import PretrainedPainter
from arm.train.tokenizer import LossWeights, Timesteps


def test_the_tokenizer():
    run = paper.tokenizer()
    assert run.pretrained.siglip == "google/siglip2-so400m-patch16-512"
    assert run.pretrained.caption_lm == "Qwen/Qwen2.5-0.5B"
    assert 2**run.model.code_bits == 65_536
    assert (run.model.num_blocks, run.model.pixel.num_blocks) == (6, 24)
    assert run.weights == LossWeights(cap=1, pix=5, sig=5, feat=1, local=0)
    assert run.timesteps == Timesteps(power=1, highest=1, velocity_weighting=True)
    assert (run.optim.lr, run.optim.betas) == (3e-4, (0.9, 0.95))
    pictures = 256 * run.batch  # on 256 processes
    assert pictures == 32_768
    assert pictures * run.loop.steps == pytest.approx(2.2e9, rel=0.01)
    small = paper.tokenizer_1gpu()
    assert replace(small, out=run.out, batch=128, loop=run.loop, optim=run.optim) == run


def test_the_decoders():
    flux, sana = paper.flux(), paper.sana()
    for run in (flux, sana):
        assert (run.num_steps, run.guidance_scale, run.timestep_power) == (28, 1.5, 1.0)
        assert isinstance(run.painter, PretrainedPainter) and run.data
        assert run.tokenizer == paper.tokenizer().out
        assert run.painter.source.partition(":")[0] == run.pretrained.vae.partition(":")[0]
    assert paper.export().detokenizers == (flux.out / "model", sana.out / "model")
    assert paper.export().pretrained.vae == flux.pretrained.vae


def test_grids_of_every_part():
    for grid in paper.GRIDS:
        height, width = 16 * grid.height, 16 * grid.width
        assert 900 <= grid.height * grid.width <= 1024
        assert (
            height % 32 == width % 32 == 0
        )  # SANA's autoencoder, and FLUX's with pairs of latents
    assert {grid.height / grid.width for grid in paper.GRIDS} >= {1.0}


def test_the_whole_tokenizer_on_the_meta_device():
    """512 px in, 32 x 32 codes, and the pixel DiT paints 512 px again."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    vision = SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
        patch_size=16, image_size=512,
    )  # fmt: skip
    run = paper.tokenizer()
    with torch.device("meta"):
        model = VisualTokenizer(run.model, SiglipVisionModel(vision))
        images = torch.empty(1, 3, 512, 512)
        z = model.features(images)
        z_q = model.deprojector(model.quantize(z, (32, 32)), (32, 32))
        painted = model.pixel(images, torch.empty(1), z_q)
    assert z.shape == z_q.shape == (1, 1024, 1152) and painted.shape == images.shape
    # six blocks of width 1152 are about 96 million parameters, 24 with their modulation 580
    assert sum(p.numel() for p in model.projector.parameters()) == pytest.approx(97e6, rel=0.01)
    assert sum(p.numel() for p in model.pixel.parameters()) == pytest.approx(580e6, rel=0.01)


def test_the_grids_of_the_papers_sizes():
    """256-512 px are 16 to 32 patches a side, 512-1024 px 32 to 64, never more than 64."""
    small, large = grids_between(256, 512), grids_between(512, 1024)
    assert (16, 16) in small and (32, 32) in small and (32, 32) in large and (64, 64) in large
    assert (14, 18) in small and (18, 14) in small
    for grids, smallest, largest in ((small, 256, 512), (large, 512, 1024)):
        areas = [height * width * 16**2 for height, width in grids]
        assert 0.9 * smallest**2 <= min(areas) and max(areas) <= 1.1 * largest**2
        assert max(map(max, grids)) <= 64
    assert best_grid(512, 512, [*small, *large], 16) == (32, 32)
