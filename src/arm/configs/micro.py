"""`micro`: every stage of the model that ships with the package, in the order in which `chain:micro` runs them."""

from dataclasses import replace
from pathlib import Path

from arm.data.images import GridWeight
from arm.data.mixture import Dropout, Ratios
from arm.generate import Guidance
from arm.model_directory import Defaults
from arm.models.dit import DiTConfig
from arm.models.pretrained import Pretrained
from arm.models.tokenizer import TokenizerConfig
from arm.sampling import Sampling
from arm.sequence import Weights
from arm.train.chain import Stages
from arm.train.detokenizer import DetokenizerRun, Flux, Sana
from arm.train.export import ExportRun
from arm.train.lm import Backbone, LMRun
from arm.train.optim import Optim
from arm.train.standins import VAE, CaptionLM, StandinsRun, Towers
from arm.train.tokenizer import LossWeights, Timesteps, TokenizerRun
from arm.train.training import Loop
from arm.world.chains import EncodeRun
from arm.world.domain import World

GRIDS = (
    GridWeight(7, 7, 0.55),
    GridWeight(6, 8, 0.17),
    GridWeight(8, 6, 0.17),
    GridWeight(6, 6, 0.11),
)


def standins() -> StandinsRun:
    """48-64 px, patch 8, width 128. `arm train standins:micro`; one CPU core, about 25 minutes."""
    return StandinsRun(
        out=Path("runs/micro/standins"),
        domain=World(),
        towers=Towers(
            width=128, num_layers=4, num_heads=4, mlp=384, patch=8, image_size=56, text_layers=2
        ),
        caption_lm=CaptionLM(width=128, num_layers=2, num_heads=4, mlp=320),
        vae=VAE(channels=(16, 32, 32), latent_channels=8),
        grids=GRIDS,
        scale=1,
        batch=64,
        vae_batch=16,
        towers_loop=Loop(steps=2400, log_every=50, bf16=True),
        vae_loop=Loop(steps=1600, seed=2, log_every=50),
        optim=Optim(lr=2e-3, muon=True),
        vae_optim=Optim(lr=2e-3),
        eval_every=300,
    )


def tokenizer() -> TokenizerRun:
    """4,096 codes of 8-px patches. `arm train tokenizer:micro`; one CPU core, about 20 minutes."""
    return TokenizerRun(
        out=Path("runs/micro/tokenizer"),
        pretrained=Pretrained.under(Path("runs/micro/standins")),
        model=TokenizerConfig(
            code_bits=12,
            width=128,
            num_blocks=2,
            num_heads=4,
            pixel=DiTConfig(width=192, num_blocks=3, num_heads=6, mlp_ratio=3.0),
            mlp_ratio=3.0,
        ),
        weights=LossWeights(cap=1.0, pix=40.0, sig=1.0, feat=1.0, local=2.0),
        timesteps=Timesteps(power=2.0, highest=0.9, velocity_weighting=False),
        grids=GRIDS,
        scale=1,
        batch=32,
        loop=Loop(steps=2000, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=2e-3, muon=True),
        eval_every=500,
        domain=World(),
    )


def tokenizer_decoder() -> TokenizerRun:
    """The codes stay, de-projector and pixel DiT train on. One core, about 15 minutes."""
    return replace(
        tokenizer(),
        out=Path("runs/micro/tokenizer_decoder"),
        init_from=Path("runs/micro/tokenizer"),
        keep_codes=True,
        weights=LossWeights(cap=0.0, pix=40.0, sig=1.0, feat=1.0),
        timesteps=Timesteps(power=3.0, highest=0.6, velocity_weighting=False),
        singles=0.1,
        loop=Loop(steps=2400, seed=5, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=1.5e-3, muon=True),
    )


def tokenizer_pixel() -> TokenizerRun:
    """The pixel DiT alone, close to the noise, where its one sampling step starts. 12 minutes."""
    return replace(
        tokenizer(),
        out=Path("runs/micro/tokenizer_pixel"),
        init_from=Path("runs/micro/tokenizer_decoder"),
        keep_features=True,
        weights=LossWeights(cap=0.0, pix=40.0, sig=0.0, feat=0.0),
        timesteps=Timesteps(power=3.0, highest=0.5, velocity_weighting=False),
        singles=0.1,
        loop=Loop(steps=2400, seed=6, log_every=50, save_every=250, bf16=True),
        optim=Optim(lr=1.5e-3, muon=True),
        eval_every=400,
    )


def flux() -> DetokenizerRun:
    """A Flux-type painter of 1 M parameters on the stand-in VAE's latents. One core, about 10 minutes."""
    return DetokenizerRun(
        out=Path("runs/micro/flux"),
        pretrained=Pretrained.under(Path("runs/micro/standins")),
        tokenizer=Path("runs/micro/tokenizer_decoder"),
        painter=Flux(
            num_layers=2, num_single_layers=2, num_heads=4, axes=(4, 14, 14), condition_dim=128
        ),
        grids=GRIDS,
        scale=1,
        batch=32,
        drop_condition=0.1,
        num_steps=12,
        guidance_scale=1.5,
        timestep_power=2.0,
        loop=Loop(steps=2000, seed=30, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, muon=True),
        domain=World(),
    )


def sana() -> DetokenizerRun:
    """A Sana-type painter on the same latents. One core, about 10 minutes."""
    return replace(
        flux(),
        out=Path("runs/micro/sana"),
        painter=Sana(num_layers=4, num_heads=4, head_dim=32, condition_dim=128, sample_size=14),
        loop=Loop(steps=2000, seed=31, log_every=50, bf16=True),
    )


def encode_small() -> EncodeRun:
    """4,800 chains of pictures with at most two things on 6x6 grids, for pre-training."""
    return replace(
        encode(),
        out=Path("runs/micro/codes_small"),
        grids=(GridWeight(6, 6),),
        num_shards=5,
        max_things=2,
        seed=11,
    )


def encode() -> EncodeRun:
    """30,720 chains of three pictures on 7x7, 6x8 and 8x6 grids. One CPU core, about 5 minutes."""
    return EncodeRun(
        out=Path("runs/micro/codes"),
        pretrained=Pretrained.under(Path("runs/micro/standins")),
        tokenizer=Path("runs/micro/tokenizer"),
        grids=(GridWeight(7, 7, 0.7), GridWeight(6, 8, 0.15), GridWeight(8, 6, 0.15)),
        scale=1,
        num_shards=32,
    )


def encode_repeats() -> EncodeRun:
    """46,080 chains more, of which three in ten begin with several things of one shape: counting and
    prompts like "three stars" need them, and by chance they are rare. One CPU core, about 8 minutes.
    """
    return replace(
        encode(), out=Path("runs/micro/codes_repeats"), num_shards=48, seed=12, repeats=0.3
    )


def lm_pt() -> LMRun:
    """Pre-training on small grids (6x6, up to 2 things). One CPU core, about 6 minutes.

    The paper's ratios lean on drawing (.70); here understanding and editing get more, since the
    model is small enough to be short of gradient for each.
    """
    return LMRun(
        out=Path("runs/micro/lm_pt"),
        text_tokenizer=Path("runs/micro/standins/siglip"),
        shards=(Path("runs/micro/codes_small"),),
        init_from=None,
        backbone=Backbone(
            hidden_size=192, intermediate_size=512, num_layers=6, num_heads=6, num_kv_heads=6
        ),
        code_bits=12,
        max_side=12,
        grid_positions=True,
        image_stride=1,
        samples=32,
        row_length=208,
        weights=Weights(text=4.0, code=1.0, source_code=0.5),
        ratios=Ratios(
            text=0.06, image_to_text=0.28, text_to_image=0.34, editing=0.27, interleaved=0.05
        ),
        dropout=Dropout(text=0.05, image=0.0, both=0.05),
        loop=Loop(steps=500, seed=20, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.8, muon=True),
        domain=World(),
    )


def lm_ct() -> LMRun:
    """Continued training on larger grids (7x7, 6x8, 8x6, up to 4 things). About 35 minutes."""
    return replace(
        lm_pt(),
        out=Path("runs/micro/lm_ct"),
        shards=(Path("runs/micro/codes"),),
        init_from=Path("runs/micro/lm_pt/model"),
        image_stride=128,
        weights=Weights(text=4.0, code=1.0, source_code=0.2),
        ratios=Ratios(
            text=0.05,
            image_to_text=0.24,
            text_to_image=0.29,
            editing=0.27,
            interleaved=0.05,
            copying=0.10,
        ),
        loop=Loop(steps=2100, seed=21, log_every=50, bf16=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.5, muon=True),
    )


def lm_sft() -> LMRun:
    """Supervised fine-tuning, most of the training; the rate falls to zero. With
    `torchrun --nproc-per-node 2 -m arm train lm:micro_sft` on two cores about 70 minutes.
    """
    return replace(
        lm_ct(),
        out=Path("runs/micro/lm_sft"),
        shards=(Path("runs/micro/codes"), Path("runs/micro/codes_repeats")),
        init_from=Path("runs/micro/lm_ct/model"),
        samples=64,
        weights=Weights(text=4.0, code=1.0),
        ratios=Ratios(
            text=0.04,
            image_to_text=0.30,
            text_to_image=0.27,
            editing=0.33,
            interleaved=0.04,
            copying=0.02,
        ),
        loop=Loop(steps=3800, seed=22, log_every=50, save_every=100, bf16=True, compile=True),
        optim=Optim(lr=2e-3, warmup=50, weight_decay=0.01, floor=0.01, muon=True),
        min_count=100,
    )


def export_sft() -> ExportRun:
    """The shipped `micro-sft`: the supervised model. Seconds."""
    root = Path("runs/micro")
    return ExportRun(
        out=Path("src/arm/weights/micro-sft"),
        pretrained=Pretrained.under(root / "standins"),
        tokenizer=root / "tokenizer_pixel",
        backbone=root / "lm_sft/model",
        detokenizers=(root / "flux/model", root / "sana/model"),
        defaults=Defaults(
            scale=1,
            grids=((7, 7), (6, 8), (8, 6)),
            sampling=Sampling(temperature=0.3),
            edit_sampling=Sampling(temperature=0.0),
            guidance=Guidance(text=2.25, image=1.0),
            edit_guidance=Guidance(text=1.5, image=1.0),
            detokenizer="pixel",
        ),
    )


def export() -> ExportRun:
    """The shipped `micro`: the average that `synergy:micro_shipped` made of its policies. Seconds."""
    supervised = export_sft()
    return replace(
        supervised,
        out=Path("src/arm/weights/micro"),
        backbone=Path("runs/micro/synergy/seed0/averaged/backbone"),
        parts=supervised.out,
    )


def chain() -> Stages:
    """Everything that ships as `micro`, from nothing. Two CPU cores with bf16 units under torchrun,
    about 5 hours; resumable.
    """
    return Stages(
        out=Path("runs/micro/chain"),
        runs=(
            "standins:micro",
            "tokenizer:micro",
            "tokenizer:micro_decoder",
            "tokenizer:micro_pixel",
            "detokenizer:micro_flux",
            "detokenizer:micro_sana",
            "encode:micro_small",
            "encode:micro",
            "encode:micro_repeats",
            "lm:micro_pt",
            "lm:micro_ct",
            "lm:micro_sft",
            "export:micro_sft",
            "synergy:micro_shipped",
            "export:micro",
        ),
    )
