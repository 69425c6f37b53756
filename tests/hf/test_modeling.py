"""The model as transformers runs it against the backbone and the engine as we run them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, DynamicCache, Trainer, TrainingArguments
from transformers.cache_utils import Cache, DynamicSlidingWindowLayer

from arm.errors import WeightsError
from arm.generate import Guidance, answering_request, drawing_request, generate
from arm.hf import ArmConfig, ArmForCausalLM
from arm.hf.grammar import Next, answer_labels, picture_codes, read_ids
from arm.hf.modeling import CACHE_FIELD
from arm.models.qwen2 import document_mask
from arm.sampling import GREEDY
from arm.sequence import Image, PackedBatch, Sample, Text, Tokens, assistant, flatten, pack, user
from arm.vocab import Vocab
from closeness import assert_close_fp32
from conftest import TinyChain
from tiny import build, sized_for

VOCAB = Vocab(text_size=12, num_codes=64, max_side=8, image_stride=16)
CODES = np.arange(6).reshape(2, 3) * 9
UNDERSTANDING = (user(Image(CODES), Text((4, 2))), assistant(Text((7,))))
DRAWING = (user(Text((1, 2, 3))), assistant(Image(CODES.T)))
EDITING = (user(Image(CODES), Text((5,))), assistant(Image(CODES[:1])))
SAMPLES = (UNDERSTANDING, DRAWING, EDITING)


@pytest.fixture(scope="module")
def random_model() -> ArmForCausalLM:
    """Large random weights, in whose greedy text pictures come by themselves."""
    model = ArmForCausalLM(ArmConfig.from_backbone(build(sized_for(VOCAB)), VOCAB)).eval()
    model.model.load_state_dict(build(sized_for(VOCAB)).state_dict())
    return model


def ids_of(*rows: Tokens, left: bool = True) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    pads = [(longest - len(r), 0) if left else (0, longest - len(r)) for r in rows]
    ids = [np.pad(r.ids, p, constant_values=VOCAB.pad) for r, p in zip(rows, pads, strict=True)]
    masks = [np.pad(np.ones(len(r), int), p) for r, p in zip(rows, pads, strict=True)]
    return {
        name: torch.from_numpy(np.stack(x))
        for name, x in (("input_ids", ids), ("attention_mask", masks))
    }


def close(a: Tensor, b: Tensor) -> None:
    assert_close_fp32(a, b)


def hidden(model: ArmForCausalLM, batch: PackedBatch) -> Tensor:
    """Our own path from packed samples to hidden states (B, T, D)."""
    own = model.model
    x_BTD = own.embed(batch.ids, batch.codes, batch.rows, batch.cols)
    return own(x_BTD, batch.positions, document_mask(batch.document_ids))


@pytest.mark.parametrize("sample", SAMPLES)
@torch.no_grad()
def test_logits_equal_our_heads(random_model: ArmForCausalLM, sample: Sample):
    batch = pack([flatten(sample, VOCAB)], len(flatten(sample, VOCAB)), VOCAB)
    own, h_BTD = random_model.model, hidden(random_model, batch)
    logits = random_model(batch.ids).logits
    assert logits.shape == (1, batch.ids.shape[1], VOCAB.size)
    code = torch.cat([batch.codes[:, 1:] >= 0, torch.tensor([[False]])], 1)
    close(logits[~code][:, : VOCAB.first_code], own.text_logits(h_BTD[~code]))
    close(logits[code][:, VOCAB.first_code :], own.visual_logits(h_BTD[code]))
    assert (logits[~code][:, VOCAB.first_code :] == -torch.inf).all()
    assert (logits[code][:, : VOCAB.first_code] == -torch.inf).all()


@torch.no_grad()
def test_the_loss_by_hand_and_as_in_training(random_model: ArmForCausalLM):
    rows = [flatten(sample, VOCAB) for sample in SAMPLES]
    inputs = ids_of(*rows, left=False)
    labels = answer_labels(inputs["input_ids"], VOCAB)
    output = random_model(**inputs, labels=labels)
    logprobs = output.logits.log_softmax(-1)
    by_hand = [
        -logprobs[b, t - 1, labels[b, t]]
        for b in range(3)
        for t in range(1, labels.shape[1])
        if labels[b, t] != -100
    ]
    assert len(by_hand) == sum(int((row.weights > 0).sum()) for row in rows) > 0
    close(output.loss, torch.stack(by_hand).mean())
    batch = pack(rows, sum(map(len, rows)), VOCAB)
    h_XD = hidden(random_model, batch)[:, :-1][batch.weights[:, 1:] > 0]
    codes, ids = (x[:, 1:][batch.weights[:, 1:] > 0] for x in (batch.codes, batch.ids))
    own, code = random_model.model, codes >= 0
    losses = [
        F.cross_entropy(own.visual_logits(h_XD[code]), codes[code], reduction="none"),
        F.cross_entropy(own.text_logits(h_XD[~code]), ids[~code], reduction="none"),
    ]
    close(output.loss, torch.cat(losses).mean())


@pytest.mark.parametrize("left", [True, False])
@torch.no_grad()
def test_padding_changes_nothing(random_model: ArmForCausalLM, left: bool):
    rows = [flatten(sample, VOCAB, open_image=(2, 2)) for sample in SAMPLES]
    inputs = ids_of(*rows, left=left)
    alone = [random_model(torch.from_numpy(row.ids)[None]).logits[0] for row in rows]
    real = inputs["attention_mask"].bool()
    for given in (inputs, {"input_ids": inputs["input_ids"]}):  # <pad> needs no mask
        together = random_model(**given).logits
        for b, logits in enumerate(alone):
            close(together[b][real[b]], logits)


@torch.no_grad()
def test_a_cache_filled_in_pieces_gives_the_same_logits(random_model: ArmForCausalLM):
    inputs = ids_of(*(flatten(sample, VOCAB) for sample in SAMPLES))
    ids, mask = inputs.values()
    whole = random_model(**inputs, use_cache=False)
    assert CACHE_FIELD not in whole
    cache: Any = None
    pieces, ends = [], [0, 3, 4, 5, 9, 10, ids.shape[1]]
    for start, end in pairwise(ends):
        output = random_model(
            ids[:, start:end], mask[:, :end], use_cache=True, **{CACHE_FIELD: cache}
        )
        cache = output[CACHE_FIELD]
        pieces.append(output.logits)
    assert isinstance(cache, DynamicCache)
    close(torch.cat(pieces, 1)[mask.bool()], whole.logits[mask.bool()])


@torch.no_grad()
def test_a_cache_may_be_repeated_and_reordered(random_model: ArmForCausalLM):
    ids = ids_of(*(flatten(sample, VOCAB, open_image=(2, 2)) for sample in SAMPLES[:2]))[
        "input_ids"
    ]
    cache = random_model(ids, use_cache=True)[CACHE_FIELD]
    cache.reorder_cache(torch.tensor([1, 0]))
    new = torch.tensor([[VOCAB.code(5)], [VOCAB.code(6)]])
    logits = random_model(new, **{CACHE_FIELD: cache}).logits
    close(logits[:, -1], random_model(torch.cat([ids.flip(0), new], 1)).logits[:, -1])


@torch.no_grad()
def test_caches_that_cannot_be_used(random_model: ArmForCausalLM):
    foreign = DynamicCache()
    foreign.update(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8), 0)
    with pytest.raises(ValueError, match="3 tokens without their ids"):
        random_model(torch.tensor([[1]]), **{CACHE_FIELD: foreign})
    sliding = Cache(layers=[DynamicSlidingWindowLayer(sliding_window=8) for _ in range(2)])
    with pytest.raises(ValueError, match="a cache of DynamicSlidingWindowLayer is not supported"):
        random_model(torch.tensor([[1]]), **{CACHE_FIELD: sliding})


def engine(
    model: ArmForCausalLM, prompts: Sequence[Sample], grid: tuple[int, int] | None, scale=1.0
):
    """Greedy results of our own engine: answers without a grid, pictures with one."""
    if grid is None:
        requests = [answering_request(p, VOCAB, 12, allow_image=True) for p in prompts]
    else:
        requests = [drawing_request(p, VOCAB, grid, Guidance(scale, 1.0)) for p in prompts]
    return [r[0] for r in generate(model.model, VOCAB, requests, images=GREEDY)]


PROMPTS = ((user(Text((3,))),), (user(Text((1, 2, 4, 5))),), (user(Image(CODES), Text((4, 2))),))


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_greedy_answers_equal_our_engine(random_model: ArmForCausalLM, options: dict[str, Any]):
    inputs = ids_of(*(flatten(p, VOCAB, open_answer=True) for p in PROMPTS))
    out = random_model.generate(**inputs, max_new_tokens=12, do_sample=False, **options)
    said = out[:, inputs["input_ids"].shape[1] :].tolist()
    for row, result in zip(said, engine(random_model, PROMPTS, None), strict=True):
        assert row[: len(result.ids)] == result.ids


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"prefill_chunk_size": 4}])
def test_greedy_pictures_equal_our_engine(random_model: ArmForCausalLM, options: dict[str, Any]):
    inputs = ids_of(*(flatten(p, VOCAB, open_image=(3, 4)) for p in PROMPTS))
    out = random_model.generate(**inputs, max_new_tokens=13, do_sample=False, **options)
    results = engine(random_model, PROMPTS, (3, 4))
    start = inputs["input_ids"].shape[1]
    for row, result in zip(out[:, start:].tolist(), results, strict=True):
        assert row == [*result.ids, VOCAB.image_end]


def test_guided_pictures_equal_our_engine(random_model: ArmForCausalLM):
    prompts = PROMPTS[:2]
    inputs = ids_of(*(flatten(p, VOCAB, open_image=(3, 4)) for p in prompts))
    empty = ids_of(*[flatten((user(),), VOCAB, open_image=(3, 4))] * 2)
    out = random_model.generate(
        **inputs, max_new_tokens=12, guidance_scale=2.5, do_sample=False,
        negative_prompt_ids=empty["input_ids"],
        negative_prompt_attention_mask=empty["attention_mask"],
    )  # fmt: skip
    results = engine(random_model, prompts, (3, 4), scale=2.5)
    assert [r.ids for r in results] != [r.ids for r in engine(random_model, prompts, (3, 4))]
    assert out[:, -12:].tolist() == [r.ids for r in results]


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 3.0, "num_return_sequences": 6},
        {"do_sample": True, "top_k": 3, "num_return_sequences": 4},
        {"num_beams": 3, "num_return_sequences": 3},
        {"do_sample": False, "prompt_lookup_num_tokens": 3},
    ],
)
def test_nothing_leaves_the_grammar(random_model: ArmForCausalLM, options: dict[str, Any]):
    """Every row that is sampled reads back: no code outside of a picture, no word in one."""
    torch.manual_seed(0)
    prompt = torch.tensor([[VOCAB.user, 3, VOCAB.end, VOCAB.assistant, VOCAB.image]])
    out = random_model.generate(prompt, max_new_tokens=40, **options)
    assert out.shape[1] > 8
    for row in out:
        cut = row[: int((row != VOCAB.pad).sum())][None]
        if int(read_ids(cut, VOCAB).following) in (Next.TEXT, Next.IMAGE_END):
            assert len(picture_codes(cut, VOCAB)) >= 1
        assert not ((cut[:, 5:] >= VOCAB.text_size) & (cut[:, 5:] <= VOCAB.assistant)).any()


def test_prompt_lookup_and_words_alone(random_model: ArmForCausalLM):
    prompt = ids_of(flatten((user(Text((1, 2, 1, 2, 1))),), VOCAB, open_answer=True))
    plain = random_model.generate(**prompt, max_new_tokens=12, do_sample=False)
    ahead = random_model.generate(
        **prompt, max_new_tokens=12, do_sample=False, prompt_lookup_num_tokens=3
    )
    assert ahead.tolist() == plain.tolist()
    words = random_model.generate(
        **prompt, max_new_tokens=12, suppress_tokens=[VOCAB.image, VOCAB.end]
    )
    assert (words[:, prompt["input_ids"].shape[1] :] < VOCAB.text_size).all()


def tuning(model: ArmForCausalLM) -> list[dict[str, Tensor]]:
    rows = [torch.from_numpy(flatten(sample, VOCAB).ids) for sample in SAMPLES]
    return [{"input_ids": ids, "labels": answer_labels(ids[None], VOCAB)[0]} for ids in rows]


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    def padded(name: str, value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence([r[name] for r in rows], True, value)

    return {"input_ids": padded("input_ids", VOCAB.pad), "labels": padded("labels", -100)}


def test_fine_tuning_with_the_trainer(random_model: ArmForCausalLM, tmp_path: Path):
    pytest.importorskip("accelerate")
    model = ArmForCausalLM(random_model.config)
    model.load_state_dict(random_model.state_dict())
    settings = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=3, max_steps=3, learning_rate=1e-2,
        lr_scheduler_type="constant", logging_steps=1, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model, settings, train_dataset=tuning(model), data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3 and losses[2] < losses[1] < losses[0]
    assert set(trainer.evaluate(tuning(model))) >= {"eval_loss"}
    trainer.save_model(str(tmp_path / "tuned"))
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    assert torch.equal(back.model.visual.head.weight, model.model.visual.head.weight)


def test_a_step_in_mixed_precision(random_model: ArmForCausalLM):
    batch = collate(tuning(random_model))
    with torch.autocast("cpu", torch.bfloat16):
        found = random_model(**batch)
    assert found.loss.isfinite() and found.loss.item() == pytest.approx(
        random_model(**batch).loss.item(), rel=0.05
    )


def test_lora_by_peft(random_model: ArmForCausalLM):
    peft = pytest.importorskip("peft")
    model = ArmForCausalLM(random_model.config)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2)
    wrapped = peft.get_peft_model(model, config)
    wrapped(**collate(tuning(model))).loss.backward()
    assert any(p.grad is not None and "lora_A" in n for n, p in wrapped.named_parameters())
    with pytest.raises(ValueError, match="inputs_embeds, output_attentions and"):
        model(torch.zeros(1, 3, dtype=torch.long), output_attentions=True)


def test_the_chain_answers_and_draws_as_our_engine(chain: TinyChain, exported: Path):
    from arm.pipeline import Arm

    arm = Arm.from_pretrained(chain.model)
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    vocab = arm.vocab
    asked = (
        user(
            Image(np.arange(49).reshape(7, 7)),
            Text(arm.text_tokenizer.ids("what color is the star")),
        ),
    )
    answer = generate(arm.model, vocab, [answering_request(asked, vocab, 8)])[0][0]
    prompt = torch.from_numpy(flatten(asked, vocab, open_answer=True).ids)[None]
    options = {"suppress_tokens": [model.config.image_token_id], "max_new_tokens": 8}
    assert model.generate(prompt, **options)[0, prompt.shape[1] :].tolist() == answer.ids
    drawn = (user(Text(arm.text_tokenizer.ids("a red star"))),)
    request = drawing_request(drawn, vocab, (6, 8), Guidance(1.0, 1.0))
    picture = generate(arm.model, vocab, [request], images=GREEDY)[0][0]
    prompt = torch.from_numpy(flatten(drawn, vocab, open_image=(6, 8)).ids)[None]
    out = model.generate(prompt, max_new_tokens=49)
    assert out[0, prompt.shape[1] :].tolist() == [*picture.ids, vocab.image_end]


def test_weights_that_do_not_fit(random_model: ArmForCausalLM, tmp_path: Path):
    random_model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    from safetensors.torch import load, save_file

    tensors = load(whole)
    kept = {name: t for name, t in tensors.items() if "visual.head" not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"lack 1 tensors, as model\.visual\.head\.weight"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    save_file({**tensors, "more": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="hold, unlike the model, 1 tensors, as more"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot grow"):
        random_model.resize_token_embeddings(500)
