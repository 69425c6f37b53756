"""Every stage of `micro` at a fraction of its size and three steps each, as runs: `tests.tiny_stages:lm`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from arm.configs import micro
from arm.models.pretrained import Pretrained
from arm.train.chain import Stages
from arm.train.training import Loop

NAMES = ("standins", "tokenizer", "flux", "sana", "encode", "lm", "export")


def stages(root: Path) -> dict[str, Any]:
    """The configurations, in order; all write below `root`."""
    loop = Loop(steps=3, log_every=1, save_every=1)
    parts = {"pretrained": Pretrained.under(root / "standins"), "tokenizer": root / "tokenizer"}
    s, t, m = micro.standins(), micro.tokenizer(), micro.lm_pt()
    flux, sana = micro.flux(), micro.sana()
    pixel = replace(t.model.pixel, width=32, num_blocks=1, num_heads=2)
    flux_size = {"num_layers": 1, "num_single_layers": 1, "num_heads": 1, "axes": (4, 6, 6)}
    few = {"batch": 2, "loop": loop, "num_steps": 2, **parts}
    return {
        "standins": replace(
            s,
            out=root / "standins",
            towers=replace(s.towers, width=32, num_layers=1, mlp=32, text_layers=1),
            caption_lm=replace(s.caption_lm, width=32, num_layers=1, mlp=32),
            vae=replace(s.vae, channels=(8, 8, 8)),
            batch=4,
            vae_batch=2,
            towers_loop=loop,
            vae_loop=loop,
            eval_every=0,
        ),
        "tokenizer": replace(
            t,
            out=root / "tokenizer",
            pretrained=parts["pretrained"],
            model=replace(t.model, width=32, num_blocks=1, num_heads=2, pixel=pixel),
            batch=4,
            loop=loop,
            eval_every=3,
            eval_pictures=4,
        ),
        "flux": replace(flux, out=root / "flux", painter=replace(flux.painter, **flux_size), **few),
        "sana": replace(
            sana,
            out=root / "sana",
            painter=replace(sana.painter, num_layers=1, num_heads=2, head_dim=8),
            **few,
        ),
        "encode": replace(
            micro.encode(), out=root / "codes", num_shards=1, chains_per_shard=12, batch=4, **parts
        ),
        "lm": replace(
            m,
            out=root / "lm",
            text_tokenizer=root / "standins/siglip",
            shards=(root / "codes",),
            backbone=replace(
                m.backbone,
                hidden_size=32,
                intermediate_size=32,
                num_layers=1,
                num_heads=2,
                num_kv_heads=1,
            ),
            samples=4,
            loop=loop,
        ),
        "export": replace(
            micro.export_sft(),
            out=root / "model",
            backbone=root / "lm/model",
            detokenizers=(root / "flux/model", root / "sana/model"),
            **parts,
        ),
    }


def _stage(name: str) -> Any:
    """The stage below the folder that the environment names."""
    return stages(Path(os.environ["TINY_ROOT"]))[name]


def standins_run() -> Any:
    return _stage("standins")


def tokenizer_run() -> Any:
    return _stage("tokenizer")


def flux_run() -> Any:
    return _stage("flux")


def sana_run() -> Any:
    return _stage("sana")


def encode_run() -> Any:
    return _stage("encode")


def lm_run() -> Any:
    """Forty rows in place of a few, so that two processes share them."""
    return replace(_stage("lm"), samples=40)


def export_run() -> Any:
    return _stage("export")


def chain() -> Stages:
    """All of them by one command."""
    names = tuple(f"tests.tiny_stages:{name}_run" for name in NAMES)
    return Stages(Path(os.environ["TINY_ROOT"]) / "chain", names)
