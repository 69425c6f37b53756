"""The trained distribution is the sampled one."""

import numpy as np
import pytest
import torch

from arm.generate import Guidance, Request, drawing_request, generate
from arm.models.qwen2 import Qwen2, document_mask
from arm.rl.objective import exact_kl
from arm.rl.policy import code_policy, hidden_at_codes
from arm.sampling import Sampling, truncate
from arm.sequence import Image, Text, assistant, flatten, pack, user
from arm.train.sharding import Recompute, checkpoint_activations
from arm.vocab import Vocab
from closeness import assert_close_fp32
from tiny import build, sized_for

VOCAB = Vocab(text_size=12, num_codes=64, max_side=8, image_stride=32)
CONFIG = sized_for(VOCAB)
PICTURE = Image(np.arange(6).reshape(2, 3) * 9)
DRAW = (user(Text((3, 1, 4))),)
EDIT = (user(PICTURE, Text((4, 2))),)
SAMPLINGS = [
    Sampling(0.7),
    Sampling(1.0, top_k=10),
    Sampling(1.3, top_p=0.8),
    Sampling(0.7, top_k=30, top_p=0.9),
]


@pytest.fixture(scope="module")
def model() -> Qwen2:
    return build(CONFIG)


def requests(guidance: Guidance) -> list[Request]:
    return [
        drawing_request(DRAW, VOCAB, (2, 3), guidance),
        drawing_request(EDIT, VOCAB, (2, 3), guidance, has_image=True),
        drawing_request(EDIT, VOCAB, (1, 4), guidance, has_image=True),
        drawing_request((user(Text((7,))),), VOCAB, (3, 2), guidance),
    ]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("guidance", [Guidance(1, 1), Guidance(1.5, 1.25), Guidance(2.5, 1.0)])
def test_the_ratio_is_one_at_the_start(model: Qwen2, sampling: Sampling, guidance: Guidance):
    """Guided, tempered and cut alike: what sampling reports is what training computes."""
    asked = requests(guidance)
    drawn = generate(model, VOCAB, asked, images=sampling, seed=4, num_samples=3)
    every = [(r, result) for r, group in zip(asked, drawn, strict=True) for result in group]
    pictures = [result.codes for _, result in every if result.codes is not None]
    assert len(pictures) == 12
    policy = code_policy(model, VOCAB, [r for r, _ in every], pictures, sampling)
    for n, (_, result) in enumerate(every):
        size = len(result.logprobs)
        assert int(policy.mask_NT[n].sum()) == size
        assert policy.drawn_NT[n, :size].tolist() == pytest.approx(result.logprobs, abs=1e-4)


def test_in_16_bits_ties_are_cut_alike():
    """Rounded logits tie at the cut; what is left between the two passes is rounding alone."""
    coarse = build(CONFIG).bfloat16()
    sampling = Sampling(1.0, top_k=10)
    [request] = requests(Guidance(1, 1))[:1]
    drawn = generate(coarse, VOCAB, [request], images=sampling, seed=2, num_samples=32)[0]
    pictures = [r.codes for r in drawn if r.codes is not None]
    policy = code_policy(coarse, VOCAB, [request] * 32, pictures, sampling)
    sampled = torch.tensor([r.logprobs for r in drawn])
    off = (policy.drawn_NT.detach() - sampled).abs()
    assert float(off.mean()) < 0.02 and float(off.median()) < 0.01


def test_unguided_logprobs_of_a_guided_sampler_are_another_distribution(model: Qwen2):
    """The mistake to guard against: sampling with guidance, training without."""
    sampling = Sampling(1.0)
    asked = requests(Guidance(2.5, 1.5))[:2]
    drawn = generate(model, VOCAB, asked, images=sampling, seed=1)
    pictures = [g[0].codes for g in drawn if g[0].codes is not None]
    plain = code_policy(model, VOCAB, requests(Guidance(1, 1))[:2], pictures, sampling)
    assert (
        abs(float(plain.drawn_NT[0].detach().exp().sum()) - sum(np.exp(drawn[0][0].logprobs)))
        > 0.01
    )


def test_codes_are_read_as_supervised_training_reads_them(model: Qwen2):
    """Prompts of different lengths, each shared by two pictures, against whole sequences one by one."""
    asked = [r for r in requests(Guidance(1, 1)) for _ in range(2)]
    samples = [sample for sample in (DRAW, EDIT, EDIT, (user(Text((7,))),)) for _ in range(2)]
    rng = np.random.default_rng(0)
    pictures = [rng.integers(64, size=r.grid or (1, 1)) for r in asked]
    hidden_STD = hidden_at_codes(model, VOCAB, asked, pictures)
    for n, (sample, codes) in enumerate(zip(samples, pictures, strict=True)):
        batch = pack([flatten((*sample, assistant(Image(codes))), VOCAB)], 40, VOCAB)
        x = model.embed(batch.ids, batch.codes, batch.rows, batch.cols)
        whole = model(x, batch.positions, document_mask(batch.document_ids))[0]
        first = int((batch.codes[0] >= 0).nonzero()[-codes.size])
        expected = whole[first - 1 : first - 1 + codes.size]
        assert_close_fp32(hidden_STD[n, : codes.size], expected)


def test_a_shared_prompt_takes_the_gradients_of_all_its_pictures(model: Qwen2):
    [request] = requests(Guidance(1.5, 1.25))[1:2]
    pictures = [np.full((2, 3), code) for code in (3, 40, 11)]

    def gradients(together: bool) -> list[torch.Tensor]:
        model.zero_grad(set_to_none=True)
        for group in [pictures] if together else [[p] for p in pictures]:
            policy = code_policy(model, VOCAB, [request] * len(group), group, Sampling(0.7))
            policy.drawn_NT.sum().backward()
        found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        model.zero_grad(set_to_none=True)
        return found

    shared, apart = gradients(True), gradients(False)
    assert len(shared) == len(apart) > 10
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(shared, apart, strict=True))


@pytest.mark.parametrize("how", ["selective", "all"])
def test_what_a_block_makes_again_it_makes_the_same(model: Qwen2, how: Recompute):
    """The keys and values of a shared prompt leave its blocks, which are run again for the gradients."""
    [request] = requests(Guidance(1.5, 1.25))[1:2]
    pictures = [np.full((2, 3), code) for code in (3, 40, 11)]
    lean = build(CONFIG)
    checkpoint_activations(lean, how)
    for network in (model, lean):
        policy = code_policy(network, VOCAB, [request] * 3, pictures, Sampling(0.7))
        policy.drawn_NT.sum().backward()
    for ours, theirs in zip(lean.parameters(), model.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None and theirs.grad is not None:
            assert_close_fp32(ours.grad, theirs.grad)
    model.zero_grad(set_to_none=True)


def test_a_picture_does_not_depend_on_its_batch(model: Qwen2):
    asked = requests(Guidance(1.5, 1.25))
    pictures = [np.full(r.grid, 7) for r in asked if r.grid]
    together = code_policy(model, VOCAB, asked, pictures, Sampling(1.0))
    for n, (request, picture) in enumerate(zip(asked, pictures, strict=True)):
        alone = code_policy(model, VOCAB, [request], [picture], Sampling(1.0))
        size = picture.size
        assert_close_fp32(together.logprobs_NTK[n, :size], alone.logprobs_NTK[0, :size])


def test_a_drawn_code_is_never_cut(model: Qwen2):
    asked = [drawing_request(DRAW, VOCAB, (2, 3), Guidance(1, 1))]
    for code in range(0, 64, 7):
        policy = code_policy(model, VOCAB, asked, [np.full((2, 3), code)], Sampling(1.0, top_k=3))
        assert bool(policy.drawn_NT.isfinite().all())
        kept = (policy.logprobs_NTK > -torch.inf).sum(-1)
        assert set(kept.flatten().tolist()) == {3}


def test_keep_changes_nothing_inside_the_cut():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    plain = truncate(logits, Sampling(1.0, top_k=2))
    assert torch.equal(truncate(logits, Sampling(1.0, top_k=2), keep=torch.tensor([2])), plain)
    widened = truncate(logits, Sampling(1.0, top_k=2), keep=torch.tensor([3]))
    assert (widened > -torch.inf).tolist() == [[True, False, True, True]]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_reference_is_cut_where_the_policy_is(model: Qwen2, sampling: Sampling):
    asked, picture = [drawing_request(DRAW, VOCAB, (2, 3), Guidance(1, 1))], [np.full((2, 3), 9)]
    policy = code_policy(model, VOCAB, asked, picture, sampling)
    same = code_policy(model, VOCAB, asked, picture, sampling, support=policy)
    assert exact_kl(policy.logprobs_NTK, same.logprobs_NTK).abs().max() < 1e-6
    other = code_policy(build(CONFIG, seed=5), VOCAB, asked, picture, sampling, support=policy)
    assert torch.equal(other.logprobs_NTK == -torch.inf, policy.logprobs_NTK == -torch.inf)
    divergence = exact_kl(policy.logprobs_NTK, other.logprobs_NTK)
    assert bool((divergence > 0).all() and divergence.isfinite().all())


def test_gradients_reach_the_weights_and_are_finite(model: Qwen2):
    asked = requests(Guidance(1.5, 1.25))
    pictures = [np.full(r.grid, 3) for r in asked if r.grid]
    policy = code_policy(model, VOCAB, asked, pictures, Sampling(0.7, top_k=10))
    (-(policy.drawn_NT * policy.mask_NT).sum()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(grads) > 10 and all(bool(g.isfinite().all()) for g in grads)
    model.zero_grad(set_to_none=True)


def test_greedy_is_no_policy(model: Qwen2):
    asked = requests(Guidance(1, 1))[:1]
    with pytest.raises(ValueError, match="temperature above 0"):
        code_policy(model, VOCAB, asked, [np.zeros((2, 3), dtype=np.int64)], Sampling(0.0))
