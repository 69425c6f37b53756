"""A whole chain of the smallest size, trained for a few steps by the package's own stages."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True)
class TinyChain:
    """Where the stages of the tiny chain wrote, and the configurations that made them."""

    root: Path
    model: Path
    tokenizer_run: object
    lm_run: object


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> TinyChain:
    """Every stage of `micro` at a fraction of its size and three steps each."""
    import torch

    from arm.configs import detokenizer, encode, export, lm, standins, tokenizer
    from arm.models.pretrained import Pretrained
    from arm.train import detokenizer as train_detokenizer
    from arm.train import encode as train_encode
    from arm.train import export as train_export
    from arm.train import lm as train_lm
    from arm.train import standins as train_standins
    from arm.train import tokenizer as train_tokenizer
    from arm.train.runtime import Loop

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("chain")
    loop = Loop(steps=3, log_every=1, save_every=1)

    base = standins.micro()
    small = replace(base.towers, width=32, num_layers=1, mlp=32, text_layers=1)
    train_standins.main(
        replace(
            base,
            out=root / "standins",
            towers=small,
            caption_lm=replace(base.caption_lm, width=32, num_layers=1, mlp=32),
            vae=replace(base.vae, channels=(8, 8, 8)),
            batch=4,
            vae_batch=2,
            towers_loop=loop,
            vae_loop=loop,
            eval_every=0,
        )
    )
    t = tokenizer.micro()
    pixel = replace(t.model.pixel, width=32, num_blocks=1, num_heads=2)
    tokenizer_run = replace(
        t,
        out=root / "tokenizer",
        pretrained=Pretrained.under(root / "standins"),
        model=replace(t.model, width=32, num_blocks=1, num_heads=2, pixel=pixel),
        batch=4,
        loop=loop,
        eval_every=3,
        eval_pictures=4,
    )
    train_tokenizer.main(tokenizer_run)
    pretrained = Pretrained.under(root / "standins")
    sizes = {"pretrained": pretrained, "tokenizer": root / "tokenizer"}
    flux = detokenizer.micro_flux()
    sana = detokenizer.micro_sana()
    few = {"batch": 2, "loop": loop, "num_steps": 2, **sizes}
    train_detokenizer.main(
        replace(
            flux,
            out=root / "flux",
            painter=replace(
                flux.painter, num_layers=1, num_single_layers=1, num_heads=1, axes=(4, 6, 6)
            ),
            **few,
        )
    )
    train_detokenizer.main(
        replace(
            sana,
            out=root / "sana",
            painter=replace(sana.painter, num_layers=1, num_heads=2, head_dim=8),
            **few,
        )
    )
    train_encode.main(
        replace(
            encode.micro(), out=root / "codes", num_shards=1, chains_per_shard=12, batch=4, **sizes
        )
    )
    m = lm.micro_pt()
    lm_run = replace(
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
    )
    train_lm.main(lm_run)
    e = export.micro_sft()
    train_export.main(
        replace(
            e,
            out=root / "model",
            backbone=root / "lm/model",
            detokenizers=(root / "flux/model", root / "sana/model"),
            **sizes,
        )
    )
    return TinyChain(root, root / "model", tokenizer_run, lm_run)
