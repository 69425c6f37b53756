"""Training the visual tokenizer on real parts' classes and on users' pictures."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arm.config import load_run
from arm.configs import finetune, micro
from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight
from arm.errors import ConfigError, WeightsError
from arm.losses import caption_cross_entropy, sigmoid_contrastive
from arm.models.dit import DiTConfig
from arm.models.pretrained import Pretrained
from arm.models.text import caption_logits, encode_captions
from arm.models.tokenizer import TokenizerConfig, VisualTokenizer
from arm.train import parallel
from arm.train.optim import Optim
from arm.train.picture_data import gather_captions
from arm.train.tokenizer import (
    LossWeights,
    Timesteps,
    TokenizerRun,
    build,
    caption_loss,
    main,
)
from arm.train.training import Loop
from arm.world.domain import World
from arm.world.training import world_batch
from checkpoints import caption_lm, fixed_size_towers, gemma_like, naflex_towers, qwen_like, save
from closeness import assert_close_fp32
from shades import folder_of

GRIDS = (GridWeight(4, 4), GridWeight(4, 6))


def run_of(tmp_path: Path, towers: Any = naflex_towers, **changes: Any) -> TokenizerRun:
    """The paper's tokenizer at the smallest size, its parts read from files."""
    parts = Pretrained(
        siglip=save(tmp_path / "towers", towers(), gemma_like()),
        caption_lm=save(tmp_path / "lm", caption_lm(), qwen_like()),
        vae="none",
    )
    pixel = DiTConfig(width=16, num_blocks=1, num_heads=2)
    run = TokenizerRun(
        out=tmp_path / "out",
        pretrained=parts,
        model=TokenizerConfig(code_bits=6, width=16, num_blocks=1, num_heads=2, pixel=pixel),
        weights=LossWeights(),
        timesteps=Timesteps(),
        grids=GRIDS,
        scale=1,
        batch=4,
        loop=Loop(steps=2, log_every=1),
        optim=Optim(lr=1e-3, warmup=1),
        eval_every=2,
        eval_pictures=4,
        data=(str(folder_of(tmp_path / "data", 24, 16)),),
    )
    return replace(run, **changes)


def test_a_finished_run_notices_another_tokenizer_below_its_own(tmp_path: Path):
    """Parts that stay as they are stand in no checkpoint: they must be those that it was trained on."""
    first = run_of(tmp_path, eval_every=0)
    main(first)
    second = replace(first, out=tmp_path / "second", init_from=first.out, keep_codes=True)
    main(second)
    main(second)
    main(replace(first, loop=replace(first.loop, steps=3)))
    with pytest.raises(WeightsError, match="trained with another tokenizer"):
        main(second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"width": 32},
            r"out has width 16, the run has model\.width=32; set model\.width=16, or name",
        ),
        (
            {"pixel": DiTConfig(16, 2, 2)},
            r"has pixel\.num_blocks 1, .* model\.pixel\.num_blocks=2;",
        ),
    ],
)
def test_a_start_of_another_size_is_told(tmp_path: Path, changes: dict[str, Any], message: str):
    run = run_of(tmp_path)
    build(run)[0].tokenizer.save(run.out)
    run = replace(run, init_from=run.out)
    build(run)
    with pytest.raises(WeightsError, match=message):
        build(replace(run, model=replace(run.model, **changes)))


def test_the_runs_that_ship_have_the_sizes_of_what_they_start_from():
    for run in (micro.tokenizer_decoder(), micro.tokenizer_pixel()):
        assert run.model == micro.tokenizer().model
    trainer, *_ = build(finetune.tokenizer())
    assert trainer.tokenizer.patch == 8


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk", [0, 3, 2048])
def test_the_caption_loss_needs_the_logits_of_no_padding(tied: bool, chunk: int):
    """The same loss and gradients as with the logits of every position at once."""
    ids, mask = encode_captions(qwen_like(), ["ab", "abcdef", "", "b"])
    found = []
    for chunked in (False, True):
        lm = caption_lm()
        if not tied:
            head = torch.nn.Linear(24, 64, bias=False)
            head.weight.data.copy_(lm.lm_head.weight.data.flip(0))
            lm.lm_head = head
        prefix = torch.randn(4, 3, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
        rows: list[tuple[int, ...]] = []
        lm.lm_head.register_forward_hook(lambda _, x, y, rows=rows: rows.append(tuple(y.shape)))
        if chunked:
            loss = caption_loss(lm, prefix, ids, mask, chunk)
            assert rows[0] == (min(chunk or 13, 13), 64) and int(mask.sum()) == 13
        else:
            loss = caption_cross_entropy(caption_logits(lm, prefix, ids), ids, mask)
        loss.backward()
        gradients = {n: p.grad for n, p in lm.named_parameters() if p.grad is not None}
        found.append((loss.detach(), prefix.grad, gradients))
    assert found[0][2].keys() == found[1][2].keys() and "model.embed_tokens.weight" in found[0][2]
    (ours, our_prefix, our_gradients), (theirs, their_prefix, their_gradients) = found
    assert_close_fp32(ours, theirs)
    assert_close_fp32(our_prefix, their_prefix)
    for name, gradient in our_gradients.items():
        assert_close_fp32(gradient, their_gradients[name])


def test_a_step_makes_no_logits_of_padding(tmp_path: Path):
    run = run_of(tmp_path)
    trainer, _, text_tokenizers = build(run)
    batch = replace(world_batch(0, 0, 4, GRIDS[:1], 16, scale=1), images=torch.rand(4, 3, 16, 16))
    _, mask = encode_captions(text_tokenizers.captions, batch.details, most=256)
    assert trainer.caption_lm is not None and not mask.all()
    rows: list[int] = []
    trainer.caption_lm.lm_head.register_forward_hook(
        lambda _, x, logits: rows.append(logits[..., 0].numel())
    )
    trainer.losses(batch, text_tokenizers, run.weights, run.timesteps)
    assert rows == [int(mask.sum())]


@pytest.mark.parametrize("towers", [fixed_size_towers, naflex_towers])
def test_all_four_losses_on_users_pictures(towers: Any, tmp_path: Path):
    run = run_of(tmp_path, towers)
    main(run)
    lines = [json.loads(x) for x in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert {"cap", "pix", "sig", "feat", "loss"} <= lines[0].keys()
    losses = lines[0]
    weighed = losses["cap"] + 5 * losses["pix"] + 5 * losses["sig"] + losses["feat"]
    assert losses["loss"] == pytest.approx(weighed, rel=1e-4)
    # random parts: a caption's letters cost about log 64, the vocabulary of the captioning model
    assert losses["cap"] == pytest.approx(4.16, abs=0.5)
    scores = lines[-1]
    assert {"psnr", "ssim", "codes_used", "perplexity", "retrieval"} <= scores.keys()
    assert scores["pictures"] == 3 and 0 <= scores["retrieval"] <= 1 and scores["psnr"] > 0
    model = towers().vision_model
    assert VisualTokenizer.load(run.out, model).encode(torch.zeros(1, 3, 16, 24)).shape == (1, 4, 6)


def test_each_text_tokenizer_serves_its_own_model(tmp_path: Path):
    trainer, siglip, text_tokenizers = build(run_of(tmp_path))
    assert (text_tokenizers.tower.pad_token, text_tokenizers.tower.eos_token) == ("<pad>", "<eos>")
    assert (
        text_tokenizers.captions is not None
        and text_tokenizers.captions.eos_token == "<|endoftext|>"
    )
    assert trainer.caption_lm is not None and siglip is trainer.siglip
    trained = {name for name, p in trainer.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("siglip.", "caption_lm.")) for name in trained)
    assert {"log_scale", "bias", "caption_adapter.weight"} <= trained


def test_without_captioning_no_captioning_model_is_read(tmp_path: Path):
    run = run_of(tmp_path)
    parts = replace(run.pretrained, caption_lm=str(tmp_path / "nowhere"))
    trainer, _, text_tokenizers = build(
        replace(run, pretrained=parts, weights=LossWeights(cap=0.0))
    )
    assert trainer.caption_lm is None and text_tokenizers.captions is None
    assert not any("caption" in name for name, _ in trainer.named_parameters())


def test_bf16_parts_give_fp32_losses_and_gradients(tmp_path: Path):
    run = run_of(tmp_path)
    trainer, _, text_tokenizers = build(run)
    batch = replace(world_batch(0, 0, 4, GRIDS[:1], 16, scale=1), images=torch.rand(4, 3, 16, 16))
    exact = trainer.losses(batch, text_tokenizers, run.weights, run.timesteps)
    trainer.siglip.bfloat16()
    assert trainer.caption_lm is not None
    trainer.caption_lm.bfloat16()
    losses = trainer.losses(batch, text_tokenizers, run.weights, run.timesteps)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    for name in ("cap", "sig"):
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.05)
    losses["loss"].backward()
    gradient = trainer.tokenizer.projector.enter.weight.grad
    assert gradient is not None and gradient.dtype == torch.float32


def test_users_pictures_have_no_twins(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"set weights\.local=0 beside data"):
        load_run("tokenizer:micro", ['data=["somewhere"]'])
    load_run("tokenizer:micro", ['data=["somewhere"]', "weights.local=0"])
    with pytest.raises(ValueError, match="the tokenizer cannot be sharded"):
        loop = Loop(steps=1, parallel=replace(Loop(steps=1).parallel, shard=True))
        run_of(tmp_path, loop=loop)


def test_captions_that_the_tower_does_not_know_have_no_say():
    """To it "A dog" and "a dog" are one text, while "hat" and "dress" are none at all."""
    tower = SimpleNamespace(unk_token_id=1, eos_token_id=0, pad_token_id=0)
    ids = torch.tensor([[7, 8, 0], [1, 0, 0], [7, 8, 0], [1, 1, 0]])
    names = ("A dog", "hat", "a dog", "long dress")
    batch = PictureBatch(torch.zeros(4, 3, 8, 8), names, names, ())
    found = gather_captions(batch, tower, ids, torch.zeros(4, 2))
    assert found.same.int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    assert found.counted is not None and found.counted.int().tolist() == [[1, 0, 1, 0]] * 4
    tower.unk_token_id = None
    assert gather_captions(batch, tower, ids, torch.zeros(4, 2)).counted is None


@pytest.mark.parametrize("with_scenes", [True, False])
def test_negatives_come_from_all_processes(with_scenes: bool, monkeypatch: pytest.MonkeyPatch):
    """Two processes with half of a batch each: their mean loss and gradient are those of the whole."""
    tower = SimpleNamespace(unk_token_id=1, eos_token_id=0, pad_token_id=0)
    ids = torch.tensor([[5, 0], [6, 0], [5, 0], [1, 0], [6, 0], [7, 0]])
    whole = world_batch(1, 0, 6, (GridWeight(6, 6),), 8)
    if not with_scenes:
        whole = replace(whole, truths=())
    generator = torch.Generator().manual_seed(0)
    images, text = (torch.randn(6, 5, generator=generator) for _ in range(2))
    scale, bias = torch.tensor(1.0), torch.tensor(-2.0)

    def loss(batch: PictureBatch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        mine = images[rows].clone().requires_grad_()
        found = gather_captions(batch, tower, ids[rows], text[rows], World())
        value = sigmoid_contrastive(mine, found.text, found.same, scale, bias, found.counted)
        (gradient,) = torch.autograd.grad(value, mine)
        return value, gradient

    wanted, wanted_gradient = loss(whole, slice(None))
    rows = [slice(0, 3), slice(3, 6)]
    parts = [
        PictureBatch(whole.images[r], whole.captions[r], whole.details[r], whole.truths[r])
        for r in rows
    ]

    def gather(found: list[Any], _: Any) -> None:
        found[:] = [(ids[r], text[r], p.truths) for p, r in zip(parts, rows, strict=True)]

    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    # each process's captions stand where its rank puts them, so `same` is true off the diagonal
    halves = [loss(part, r) for part, r in zip(parts, rows, strict=True)]
    assert_close_fp32(sum(v for v, _ in halves) / 2, wanted)
    assert_close_fp32(torch.cat([g for _, g in halves]) / 2, wanted_gradient)
