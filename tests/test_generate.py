"""Generation against plain forward passes of the same model over the finished sequences."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from arm.generate import (
    Guidance,
    Request,
    Result,
    answering_request,
    drawing_request,
    generate,
    origins,
)
from arm.models.qwen2 import Qwen2
from arm.sampling import GREEDY, Sampling
from arm.sequence import Image, Sample, Text, Tokens, assistant, flatten, user
from arm.vocab import Vocab
from closeness import assert_close_fp32
from cut_by_hand import cut_by_hand
from tiny import build, sized_for

VOCAB = Vocab(text_size=12, num_codes=64, max_side=8, image_stride=32)
PICTURE = Image(np.arange(6).reshape(2, 3) * 9)
SHORT = (user(Text((3,))),)
LONG = (user(Text((1, 2, 3, 4, 5, 6, 7))), assistant(Text((8,))), user(Text((9, 10))))
SEEN = (user(PICTURE, Text((4, 2))),)
NO_GUIDANCE = Guidance(1.0, 1.0)
PLAIN = Sampling()


@pytest.fixture(scope="module")
def model() -> Qwen2:
    return build(sized_for(VOCAB))


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def draws(sample: Sample, grid: tuple[int, int], guidance: Guidance = NO_GUIDANCE) -> Request:
    return drawing_request(sample, VOCAB, grid, guidance)


def mixed_requests(guidance: Guidance = NO_GUIDANCE) -> list[Request]:
    return [
        draws(SHORT, (2, 3), guidance),
        answering_request(SEEN, VOCAB, 9),
        draws(LONG, (8, 1), guidance),
        answering_request(SHORT, VOCAB, 3, allow_image=True),
        drawing_request(SEEN, VOCAB, (1, 2), guidance, has_image=True),
        answering_request(LONG, VOCAB, 20),
    ]


def forced(model: Qwen2, stream: Tokens, result: Result, grid: tuple[int, int] | None) -> Tensor:
    """The logits of each sampled token from one uncached pass over prompt and sampled tokens."""
    ids = np.array(result.ids)
    none = np.full(len(ids), -1)
    codes, rows, cols = none, none, none
    if grid is not None:
        codes = ids - VOCAB.first_code
        rows, cols = np.divmod(np.arange(len(ids)), grid[1])
        ids = np.full(len(ids), VOCAB.pad)  # the id under a code is not read
    pairs = ((stream.ids, ids), (stream.codes, codes), (stream.rows, rows), (stream.cols, cols))
    columns = [torch.from_numpy(np.concatenate(pair))[None] for pair in pairs]
    positions = np.concatenate([stream.positions, stream.following + np.arange(len(ids))])
    hidden = model(model.embed(*columns), torch.from_numpy(positions)[None])[0]
    predicting = hidden[len(stream) - 1 : -1]
    return model.text_logits(predicting) if grid is None else model.visual_logits(predicting)


def chosen(logprobs_TC: Tensor, result: Result, grid: tuple[int, int] | None) -> Tensor:
    index = torch.tensor(result.ids) - (VOCAB.first_code if grid else 0)
    return logprobs_TC.gather(1, index[:, None])[:, 0]


def only(logits_TV: Tensor, allowed: Sequence[Sequence[int]]) -> Tensor:
    """-inf outside the allowed ids of each step."""
    masked = torch.full_like(logits_TV, -torch.inf)
    for t, ids in enumerate(allowed):
        masked[t, list(ids)] = logits_TV[t, list(ids)]
    return masked


def speech(result: Result, allow_image: bool) -> list[list[int]]:
    """What the text head may say at each step, by the rule and not by the code under test."""
    words = [*range(12), VOCAB.end] + [VOCAB.image] * allow_image
    allowed, before = [], -1
    for token in result.ids:
        after_image = list(VOCAB.heights()) if before == VOCAB.image else words
        allowed.append(list(VOCAB.widths()) if before in VOCAB.heights() else after_image)
        before = token
    return allowed


# Requests


def test_drawing_request_streams_by_hand():
    full = flatten(SHORT, VOCAB, open_image=(2, 3))
    empty = flatten((user(),), VOCAB, open_image=(2, 3))
    request = draws(SHORT, (2, 3), Guidance(text=1.5, image=9.0))
    assert [s.ids.tolist() for s in request.streams] == [full.ids.tolist(), empty.ids.tolist()]
    assert request.coefficients == (1.5, -0.5) and request.grid == (2, 3)
    assert draws(SHORT, (2, 3)).coefficients == (1.0,)


def test_editing_request_streams_by_hand():
    samples: list[Sample] = [SEEN, (user(PICTURE),), (user(),)]
    expected = [flatten(s, VOCAB, open_image=(2, 3)).ids.tolist() for s in samples]
    guidance = Guidance(text=1.5, image=1.25)
    request = drawing_request(SEEN, VOCAB, (2, 3), guidance, has_image=True)
    assert [s.ids.tolist() for s in request.streams] == expected
    assert request.coefficients == (1.5, -0.25, -0.25)  # they sum to 1
    plain = drawing_request(SEEN, VOCAB, (2, 3), NO_GUIDANCE, has_image=True)
    assert [s.ids.tolist() for s in plain.streams] == expected[:1] and plain.coefficients == (1,)


@pytest.mark.parametrize("scale", [1e300, -101.0, float("nan"), float("inf")])
def test_guidance_that_leaves_no_numbers(scale: float):
    for wrong in ({"text": scale}, {"image": scale}):
        with pytest.raises(ValueError, match="guidance scales must be numbers from -100 to 100"):
            Guidance(**wrong)
    assert Guidance(100.0, -100.0).text == 100


def test_answering_request():
    request = answering_request(SEEN, VOCAB, 5, allow_image=True)
    assert request.streams[0].ids[-1] == VOCAB.assistant and request.coefficients == (1.0,)
    assert (request.grid, request.max_text, request.allow_image) == (None, 5, True)


def test_origins_by_hand():
    assert origins(3, 7) == [(7, 0), (7, 1), (7, 2)]
    assert origins(2, 7, 4) == [(7, 4), (7, 5)] and origins(2, 7, [4, 9]) == [(7, 4), (7, 9)]
    assert origins(2, [7, 8]) == [(7, 0), (8, 0)] and origins(2, [7, 8], 4) == [(7, 4), (8, 4)]
    with pytest.raises(ValueError, match="1 seeds and 2 places for 2 requests"):
        origins(2, [7], [0, 1])


def test_no_requests(model: Qwen2):
    with pytest.raises(ValueError, match="no requests"):
        generate(model, VOCAB, [])


# Results


def test_a_mixed_batch_draws_whole_grids_and_answers_in_text(model: Qwen2):
    requests = mixed_requests(Guidance(1.5, 1.25))
    results = generate(model, VOCAB, requests, texts=PLAIN, seed=7)
    assert [len(group) for group in results] == [1] * 6
    for request, (result,) in zip(requests, results, strict=True):
        assert len(result.ids) == len(result.logprobs) > 0
        assert all(logprob <= 0 for logprob in result.logprobs)
        if request.grid is None:
            assert result.codes is None
            continue
        assert result.codes is not None and result.codes.shape == request.grid
        assert result.codes.min() >= 0 and result.codes.max() < 64
        assert (result.codes.ravel() + VOCAB.first_code).tolist() == result.ids
        assert result.text_ids == [] and result.wants_image is None


@pytest.mark.parametrize("guidance", [NO_GUIDANCE, Guidance(2.0, 1.5)])
def test_a_batch_equals_each_request_alone(model: Qwen2, guidance: Guidance):
    requests = mixed_requests(guidance)
    together = generate(model, VOCAB, requests, images=GREEDY)
    for request, (result,) in zip(requests, together, strict=True):
        ((alone,),) = generate(model, VOCAB, [request], images=GREEDY)
        assert alone.ids == result.ids and alone.text_ids == result.text_ids
        assert result.logprobs == [0.0] * len(result.ids)


def test_a_stream_of_weight_zero_changes_nothing(model: Qwen2):
    full, empty = (flatten(s, VOCAB, open_image=(3, 2)) for s in (LONG, (user(),)))
    bare = Request((full,), (1.0,), (3, 2))
    padded = Request((full, empty), (1.0, 0.0), (3, 2))
    ((one,),) = generate(model, VOCAB, [bare], seed=7)
    ((two,),) = generate(model, VOCAB, [padded], seed=7)
    assert one.ids == two.ids
    assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)


def test_the_same_seed_gives_the_same_result(model: Qwen2):
    def ids(seed: int) -> list[list[int]]:
        found = generate(model, VOCAB, mixed_requests(), texts=PLAIN, seed=seed)
        return [result.ids for (result,) in found]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_on_step_gets_what_has_been_sampled_and_changes_nothing(model: Qwen2):
    requests = mixed_requests()
    steps: list[list[list[int]]] = []
    observed = generate(
        model, VOCAB, requests, seed=3, num_samples=2,
        on_step=lambda results: steps.append([list(result.ids) for result in results]),
    )  # fmt: skip
    plain = generate(model, VOCAB, requests, seed=3, num_samples=2)
    expected = [result for group in plain for result in group]
    assert [result for group in observed for result in group] and len(steps[0]) == len(expected)
    for k, ids in enumerate(steps, 1):
        assert ids == [result.ids[:k] for result in expected]
    assert len(steps) == max(len(result.ids) for result in expected)
    assert [r.logprobs for g in observed for r in g] == [r.logprobs for r in expected]


def test_samples_share_the_prefill(model: Qwen2):
    requests = mixed_requests(Guidance(1.5, 1.25))
    streams = sum(len(request.streams) for request in requests)
    batches: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape[:2]))
    try:
        results = generate(model, VOCAB, requests, num_samples=4, seed=7)
    finally:
        hook.remove()
    longest = max(len(stream) for request in requests for stream in request.streams)
    assert batches[0] == (streams, longest) and batches[1] == (4 * streams, 1)
    assert all(tokens == 1 for _, tokens in batches[1:])
    assert batches[-1][0] < 4 * streams  # finished rows leave the batch
    assert [len(group) for group in results] == [4] * 6
    assert len({tuple(result.ids) for result in results[0]}) == 4


# Log-probabilities against one uncached pass for each stream


def test_drawing_guidance_by_formula(model: Qwen2):
    emptied = (user(), assistant(Text((8,))), user())  # of a chat, all the users' words are dropped
    full, empty = (flatten(s, VOCAB, open_image=(2, 3)) for s in (LONG, emptied))
    group = generate(
        model, VOCAB, [draws(LONG, (2, 3), Guidance(text=1.7))], num_samples=3, seed=7
    )[0]
    for result in group:
        logits_full, logits_empty = (forced(model, s, result, (2, 3)) for s in (full, empty))
        logits = 1.7 * logits_full + (1 - 1.7) * logits_empty
        expected = chosen(logits.log_softmax(-1), result, (2, 3))
        assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        unguided = chosen(logits_full.log_softmax(-1), result, (2, 3))
        assert (expected - unguided).abs().max() > 0.01


def test_editing_guidance_by_formula(model: Qwen2):
    branches: list[Sample] = [SEEN, (user(PICTURE),), (user(),)]
    streams = [flatten(s, VOCAB, open_image=(2, 3)) for s in branches]
    guidance, text, image = Guidance(text=1.5, image=1.25), 1.5, 1.25
    request = drawing_request(SEEN, VOCAB, (2, 3), guidance, has_image=True)
    found = generate(model, VOCAB, [draws(SHORT, (8, 2)), request], num_samples=3, seed=7)
    for result in found[1]:
        full, no_text, empty = (forced(model, s, result, (2, 3)) for s in streams)
        logits = text * full + (image - text) * no_text + (1 - image) * empty
        # the same as the usual nested form
        nested = empty + image * (no_text - empty) + text * (full - no_text)
        assert_close_fp32(logits, nested)
        expected = chosen(logits.log_softmax(-1), result, (2, 3))
        assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        PLAIN,
        Sampling(temperature=0.7),
        Sampling(temperature=1.3, top_k=5),
        Sampling(top_p=0.6),
        Sampling(temperature=0.8, top_k=9, top_p=0.85),
    ],
)
def test_logprobs_are_those_of_the_sampled_distribution(model: Qwen2, sampling: Sampling):
    requests = [
        draws(LONG, (3, 2)),
        answering_request(SEEN, VOCAB, 8),
        answering_request(SHORT, VOCAB, 8, allow_image=True),
    ]
    found = generate(model, VOCAB, requests, images=sampling, texts=sampling, num_samples=6, seed=7)
    for request, group in zip(requests, found, strict=True):
        for result in group:
            logits = forced(model, request.streams[0], result, request.grid)
            if request.grid is None:
                logits = only(logits, speech(result, request.allow_image))
            cut = np.stack([cut_by_hand(row, sampling) for row in logits.double().numpy()])
            expected = chosen(torch.from_numpy(cut), result, request.grid)
            assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_greedy_takes_the_largest_logit(model: Qwen2):
    request = draws(SEEN, (2, 2))
    ((result,),) = generate(model, VOCAB, [request], images=GREEDY)
    logits = forced(model, request.streams[0], result, (2, 2))
    taken = logits.gather(-1, torch.tensor(result.ids)[:, None] - VOCAB.first_code)[:, 0]
    assert_close_fp32(taken, logits.amax(-1))  # of two that tie, kernels may prefer either


# What text may say


@pytest.mark.parametrize("allow_image", [True, False])
@pytest.mark.parametrize("max_text", [1, 6])
def test_text_speaks_only_text(model: Qwen2, allow_image: bool, max_text: int):
    request = answering_request(SEEN, VOCAB, max_text, allow_image)
    (group,) = generate(model, VOCAB, [request], texts=Sampling(2.0), num_samples=200, seed=7)
    for result in group:
        *begun, last = result.ids
        assert result.codes is None
        if result.wants_image is not None:
            height, width = result.wants_image
            assert result.ids[-3:] == [VOCAB.image, VOCAB.height(height), VOCAB.width(width)]
            begun = result.ids[:-3]
            assert len(begun) < max_text
        elif last != VOCAB.end:
            assert len(result.ids) == max_text
            begun = result.ids
        assert all(token < VOCAB.text_size for token in begun)
        assert result.text_ids == begun and len(begun) <= max_text
    wanted = [result.wants_image for result in group if result.wants_image is not None]
    assert bool(wanted) == allow_image
    assert any(result.ids[-1] == VOCAB.end for result in group)
    if max_text > 1 and allow_image:
        assert len(set(wanted)) > 10  # all sorts of shapes, not always the first
