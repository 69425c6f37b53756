"""Masks and caches against plain runs, the embedding of codes, the heads.

Parity with transformers' Qwen2 is in test_backbone.py, since it goes by way of files.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arm.models.kv_cache import KVCache
from arm.models.qwen2 import Qwen2, document_mask
from arm.models.visual import Visual, bit_products, compose_rare_rows
from closeness import assert_close_fp32
from tiny import TEXT, VISUAL, build, seeded


def random_ids(*shape: int, seed: int = 3) -> Tensor:
    return torch.randint(0, TEXT.vocab_size, shape, generator=seeded(seed))


def positions(batch: int, tokens: int) -> Tensor:
    return torch.arange(tokens).expand(batch, tokens)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 0},
        {"num_kv_heads": 3},
        {"num_heads": 5, "num_kv_heads": 5},
        {"head_dim": 7},
        {"num_codes": 12, "code_bits": 4},
        {"num_codes": 16, "code_bits": 0},
        {"max_side": -1},
    ],
)
def test_config_rejects_sizes_that_do_not_fit(changes):
    with pytest.raises(ValueError, match=r"^.+$"):
        replace(TEXT, **changes)


def test_init_weights_scales():
    model = Qwen2(replace(VISUAL, num_layers=8, hidden_size=64))
    model.init_weights(seeded())
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            bits = {"visual.code_embedding.weight": 0.01}
            expected = 0.005 if "o_proj" in name or "down_proj" in name else bits.get(name, 0.02)
            assert parameter.std().item() == pytest.approx(expected, rel=0.15), name
    again = Qwen2(model.config)
    again.init_weights(seeded())
    assert torch.equal(again.visual_logits(torch.ones(64)), model.visual_logits(torch.ones(64)))


def test_document_mask_by_hand():
    rows = ["100000", "110000", "001000", "001100", "001110", "000001"]
    expected = torch.tensor([[character == "1" for character in row] for row in rows])
    mask_B1TT = document_mask(torch.tensor([[0, 0, 1, 1, 1, -1], [-1, -2, -2, 7, 7, 7]]))
    assert mask_B1TT.shape == (2, 1, 6, 6) and mask_B1TT.dtype == torch.bool
    assert torch.equal(mask_B1TT[0, 0], expected)
    assert torch.equal(mask_B1TT[1, 0, :3].int(), torch.eye(6)[:3].int())
    assert torch.equal(mask_B1TT[1, 0, 3:, 3:].int(), torch.ones(3, 3).tril().int())


def test_packed_documents_equal_each_alone():
    model = build(TEXT)
    ids_BT = random_ids(1, 9)
    lengths = (2, 5)
    document_ids_BT = torch.tensor([[4, 4, 2, 2, 2, 2, 2, -1, -1]])
    positions_BT = torch.tensor([[0, 1, 0, 1, 2, 3, 4, 0, 1]])
    packed_BTD = model(model.embed(ids_BT), positions_BT, document_mask(document_ids_BT))
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        alone_BTD = model(model.embed(ids_BT[:, part]), positions(1, length))
        assert_close_fp32(packed_BTD[:, part], alone_BTD)
        start += length
    assert packed_BTD.isfinite().all()


def test_padding_gives_no_nan_in_values_and_gradients():
    model = build(VISUAL)
    with torch.enable_grad():
        ids_BT = random_ids(2, 4)
        mask = document_mask(torch.tensor([[-1, -1, 0, 0], [-1, -1, -1, -1]]))
        h_BTD = model(model.embed(ids_BT), positions(2, 4), mask)
        assert h_BTD.isfinite().all()
        model.text_logits(h_BTD).square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("steps", [(1,) * 8, (3, 1, 1, 1, 2), (5, 3), (8,)])
def test_cached_decoding_equals_uncached(steps):
    model = build(TEXT)
    ids_BT = random_ids(2, 8)
    whole_BTD = model(model.embed(ids_BT), positions(2, 8))
    cache = KVCache.empty(TEXT, batch=2, max_tokens=10)
    parts = []
    for tokens in steps:
        part = slice(cache.length, cache.length + tokens)
        parts.append(model(model.embed(ids_BT[:, part]), positions(2, 8)[:, part], kv_cache=cache))
    assert cache.length == 8
    assert_close_fp32(torch.cat(parts, dim=1), whole_BTD)


def test_left_padded_rows_equal_each_row_alone():
    model = build(TEXT)
    ids_BT, padding_B = random_ids(3, 8), torch.tensor([0, 4, 2])
    positions_BT = (torch.arange(8) - padding_B[:, None]).clamp(min=0)
    document_ids_BT = torch.where(torch.arange(8) >= padding_B[:, None], 0, -1)
    masked_BTD = model(model.embed(ids_BT), positions_BT, document_mask(document_ids_BT))

    cache = KVCache.empty(TEXT, batch=3, max_tokens=8)
    cache.hide_left(padding_B)
    steps = [
        model(model.embed(ids_BT[:, part]), positions_BT[:, part], kv_cache=cache)
        for part in (slice(0, 5), slice(5, 6), slice(6, 8))
    ]
    cached_BTD = torch.cat(steps, dim=1)
    assert cached_BTD.isfinite().all()
    for row, padding in enumerate(padding_B.tolist()):
        alone_TD = model(model.embed(ids_BT[row : row + 1, padding:]), positions(1, 8 - padding))[0]
        for padded_BTD in (masked_BTD, cached_BTD):
            assert_close_fp32(padded_BTD[row, padding:], alone_TD)


def test_an_explicit_mask_over_the_cache_hides_what_it_says():
    model = build(TEXT)
    ids_BT = random_ids(1, 5)
    cache = KVCache.empty(TEXT, batch=1, max_tokens=5)
    model(
        model.embed(ids_BT[:, :4]),
        positions(1, 4),
        document_mask(torch.tensor([[0, 0, 1, 1]])),
        cache,
    )
    mask_B1TS = torch.tensor([[[[False, False, True, True, True]]]])
    last_BTD = model(model.embed(ids_BT[:, 4:]), torch.tensor([[4]]), mask_B1TS, cache)
    alone_BTD = model(model.embed(ids_BT[:, 2:]), torch.tensor([[2, 3, 4]]))
    assert_close_fp32(last_BTD[:, 0], alone_BTD[:, 2])


def test_cache_repeat_and_select():
    model = build(TEXT)
    prompts_BT, padding_B = random_ids(2, 4), torch.tensor([1, 0])
    cache = KVCache.empty(TEXT, batch=2, max_tokens=6)
    cache.hide_left(padding_B)
    positions_BT = (torch.arange(4) - padding_B[:, None]).clamp(min=0)
    model(model.embed(prompts_BT), positions_BT, kv_cache=cache)
    group, next_B1 = cache.repeat(3), random_ids(6, 1, seed=9)
    assert group.length == 4 and group.max_tokens == 6
    next_positions_B1 = (4 - padding_B).repeat_interleave(3)[:, None]
    repeated_BTD = model(model.embed(next_B1), next_positions_B1, kv_cache=group)
    for sample in range(6):
        row = sample // 3
        ids_1T = torch.cat((prompts_BT[row, padding_B[row] :], next_B1[sample]))[None]
        alone_BTD = model(model.embed(ids_1T), positions(1, ids_1T.shape[1]))
        assert_close_fp32(repeated_BTD[sample, 0], alone_BTD[0, -1])
    assert (
        cache.length == 4 and (cache.k_LBKSH[:, :, :, 4:] == 0).all()
    )  # the shared prefill is untouched

    chosen = torch.tensor([5, 0, 5])
    kept = group.select(chosen)
    more_B1 = random_ids(6, 1, seed=10)
    kept_BTD = model(model.embed(more_B1[chosen]), next_positions_B1[chosen] + 1, kv_cache=kept)
    all_BTD = model(model.embed(more_B1), next_positions_B1 + 1, kv_cache=group)
    assert_close_fp32(kept_BTD, all_BTD[chosen])


def test_cache_mask_by_hand():
    cache = KVCache.empty(TEXT, batch=2, max_tokens=6)
    assert cache.mask(3) is None
    cache.advance(2)
    assert cache.mask(1) is None
    causal_B1TS = cache.mask(2)
    assert causal_B1TS is not None
    assert causal_B1TS.int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]]]
    cache.hide_left(torch.tensor([0, 3]))
    hidden_B1TS = cache.mask(2)
    assert hidden_B1TS is not None
    assert hidden_B1TS.int().tolist() == [
        [[[1, 1, 1, 0], [1, 1, 1, 1]]],
        [[[0, 0, 1, 0], [0, 0, 0, 1]]],
    ]


def test_cache_and_mask_errors():
    model = build(TEXT)
    cache = KVCache.empty(TEXT, batch=2, max_tokens=5)
    x_BTD = model.embed(random_ids(2, 4))
    model(x_BTD, positions(2, 4), kv_cache=cache)
    with pytest.raises(ValueError, match=r"8 .* 5"):
        model(x_BTD, positions(2, 4), kv_cache=cache)
    with pytest.raises(ValueError, match=r"7 .* 5"):
        cache.advance(3)
    assert cache.length == 4
    with pytest.raises(ValueError, match=r"1 rows .* 2 rows"):
        model(x_BTD[:1, :1], positions(1, 1), kv_cache=cache)
    with pytest.raises(ValueError, match=r"mask .* 4 new of 4"):
        model(x_BTD, positions(2, 4), torch.ones(2, 1, 4, 5, dtype=torch.bool))


def test_cache_views_share_memory_and_keep_dtype():
    cache = KVCache.empty(TEXT, batch=1, max_tokens=4, dtype=torch.bfloat16)
    k_BKTH = torch.ones(1, 2, 3, 8)
    k_all, v_all = cache.append(1, k_BKTH, 2 * k_BKTH)
    assert k_all.shape == v_all.shape == (1, 2, 3, 8) and k_all.dtype == torch.bfloat16
    assert k_all.data_ptr() == cache.k_LBKSH[1].data_ptr()
    assert (v_all == 2).all() and (cache.k_LBKSH[0] == 0).all() and cache.length == 0


@pytest.mark.parametrize("share_bits", [True, False])
@pytest.mark.parametrize("max_side", [0, 5])
def test_embed_mixes_text_and_codes(share_bits, max_side):
    model = build(replace(VISUAL, share_bits=share_bits, max_side=max_side))
    visual = model.visual
    assert visual is not None
    ids_BT = torch.tensor([[7, 1, 36, 2]])
    codes_BT = torch.tensor([[-1, 6, 15, -1]])
    rows_BT, cols_BT = torch.tensor([[-1, 0, 4, -1]]), torch.tensor([[-1, 2, 3, -1]])
    x_BTD = model.embed(ids_BT, codes_BT, rows_BT, cols_BT)
    # The first token is followed by a code at (0, 2), the second by one at (4, 3), the others by none.
    after_TD = torch.zeros(4, 32)
    if max_side:
        after_TD[0] = visual.next_row_embedding.weight[0] + visual.next_col_embedding.weight[2]
        after_TD[1] = visual.next_row_embedding.weight[4] + visual.next_col_embedding.weight[3]
    text_2D = model.embed_tokens.weight[[7, 2]]
    assert_close_fp32(x_BTD[0, [0, 3]], text_2D + after_TD[[0, 3]])
    for t, code, row, col, bits in ((1, 6, 0, 2, [-1.0, 1.0, 1.0, -1.0]), (2, 15, 4, 3, [1.0] * 4)):
        if isinstance(visual.code_embedding, torch.nn.Embedding):
            expected_D = visual.code_embedding.weight[code]
        else:
            expected_D = (
                visual.code_embedding.weight @ torch.tensor(bits) + visual.code_embedding.bias
            )
        if max_side:
            expected_D = (
                expected_D + visual.row_embedding.weight[row] + visual.col_embedding.weight[col]
            )
        assert_close_fp32(x_BTD[0, t], expected_D + after_TD[t])

    under_codes = torch.tensor([[7, 10**6, -5, 2]])
    assert torch.equal(model.embed(under_codes, codes_BT, rows_BT, cols_BT), x_BTD)
    elsewhere = (
        model.embed(ids_BT, codes_BT, rows_BT.roll(1), cols_BT.roll(1)) if not max_side else x_BTD
    )
    assert torch.equal(elsewhere, x_BTD)
    none_BT = torch.full_like(ids_BT, -1)
    assert torch.equal(model.embed(ids_BT, none_BT, none_BT, none_BT), model.embed(ids_BT))


def test_every_code_and_side_matters_to_the_embedding():
    model = build(VISUAL)
    codes_BT = torch.arange(16)[None]
    ids_BT, zero_BT = torch.zeros_like(codes_BT), torch.zeros(1, 17, dtype=torch.long)
    x_BTD = model.embed(ids_BT, codes_BT, zero_BT, zero_BT)
    assert len({tuple(vector.tolist()) for vector in x_BTD[0]}) == 16
    for moved_BTD in (
        model.embed(ids_BT, codes_BT, zero_BT + 1, zero_BT),
        model.embed(ids_BT, codes_BT, zero_BT, zero_BT + 1),
    ):
        shift_TD = (moved_BTD - x_BTD)[0]
        assert shift_TD.abs().min() > 0
        assert_close_fp32(shift_TD, shift_TD[:1].expand_as(shift_TD))


def test_the_place_that_follows_the_last_token():
    model = build(VISUAL)
    ids_BT, none_BT = torch.tensor([[3]]), torch.tensor([[-1]])
    plain_D = model.embed(ids_BT, none_BT, none_BT, none_BT)[0, 0]
    rows_BT, cols_BT = torch.tensor([[-1, 2]]), torch.tensor([[-1, 1]])
    followed_D = model.embed(ids_BT, none_BT, rows_BT, cols_BT)[0, 0]
    visual = model.visual
    assert visual is not None and torch.equal(plain_D, model.embed_tokens.weight[3])
    place_D = visual.next_row_embedding.weight[2] + visual.next_col_embedding.weight[1]
    assert_close_fp32(followed_D, plain_D + place_D)


def test_heads_are_separate_and_take_any_leading_dimensions():
    model = build(VISUAL)
    h_BTD = model(model.embed(random_ids(2, 3)), positions(2, 3))
    assert model.visual_logits(h_BTD).shape == (2, 3, 16)
    assert_close_fp32(model.visual_logits(h_BTD[0, 1]), model.visual_logits(h_BTD)[0, 1])
    assert model.text_logits(h_BTD[:, -1]).shape == (2, 37)


def signs(codes: int, bits: int) -> Tensor:
    return torch.tensor([[1.0 if c >> i & 1 else -1.0 for i in range(bits)] for c in range(codes)])


def visual_with_rows(rows_CD: Tensor, rare: list[int], bits: int) -> tuple[Visual, Tensor]:
    """A visual part whose head has these rows but for the rare ones, and how often codes were seen."""
    visual = Visual(rows_CD.shape[1], len(rows_CD), bits, max_side=0, share_bits=True)
    counts_C = torch.full((len(rows_CD),), 100)
    counts_C[rare] = torch.arange(len(rare)) % 30
    with torch.no_grad():
        visual.head.weight.copy_(rows_CD)
        visual.head.weight[rare] = -7.0
    return visual, counts_C


@pytest.mark.gpu
def test_rare_rows_are_composed_on_a_gpu_as_elsewhere():
    rows_CD = torch.randn(16, 8, generator=seeded())
    found = []
    for device in ("cpu", "cuda"):
        visual, counts_C = visual_with_rows(rows_CD, [3, 9], 4)
        compose_rare_rows(visual.to(device), counts_C, 30)
        found.append(visual.head.weight.detach().cpu())
    assert_close_fp32(*found)


def test_rare_rows_are_composed_of_their_bits(monkeypatch: pytest.MonkeyPatch):
    signs_CB = signs(16, 4)
    rows_CD = torch.cat([signs_CB, torch.ones(16, 1)], 1) @ torch.randn(5, 32, generator=seeded())
    visual, counts_C = visual_with_rows(rows_CD, [3, 9], 4)
    kept = [c for c in range(16) if c not in (3, 9)]
    assert compose_rare_rows(visual, counts_C, 30) == 2
    # The ridge draws the rows a little to their mean; without it they are what they were.
    assert 1e-4 < (visual.head.weight - rows_CD).abs().max() < 0.02
    monkeypatch.setattr("arm.models.visual.RIDGE", 0.0)
    compose_rare_rows(visual, counts_C, 30)
    assert_close_fp32(visual.head.weight.detach(), rows_CD)
    assert torch.equal(visual.head.weight.detach()[kept], rows_CD[kept])
    assert compose_rare_rows(visual, counts_C, 0) == 0  # none is rare
    before = visual.head.weight.clone()
    assert compose_rare_rows(visual, torch.zeros(16), 1) == 0  # none is left to fit
    assert torch.equal(before, visual.head.weight)
    table = build(replace(VISUAL, share_bits=False)).visual
    assert table is not None
    with pytest.raises(ValueError, match="share_bits"):
        compose_rare_rows(table, counts_C, 30)


@pytest.mark.parametrize(
    ("bits_together", "known", "found"),
    [(3, 200, True), (2, 80, True), (3, 80, False), (2, 60, False)],
)
def test_rare_rows_depend_on_as_many_bits_together_as_the_known_rows_can_tell(
    bits_together: int, known: int, found: bool
):
    signs_CB = signs(256, 8)
    rows_CD = signs_CB[:, 2 : 2 + bits_together].prod(1, keepdim=True) * torch.ones(1, 8)
    rare = torch.randperm(256, generator=seeded())[known:].tolist()
    visual, counts_C = visual_with_rows(rows_CD, rare, 8)
    assert compose_rare_rows(visual, counts_C, 30) == 256 - known
    right = (visual.head.weight - rows_CD).abs().max() < 0.05
    assert bool(right) == found


def test_products_of_bits_are_each_combination_once():
    products_CF = bit_products(signs(8, 3), 3)
    assert products_CF.shape == (8, 8)
    assert_close_fp32(products_CF.T @ products_CF, 8 * torch.eye(8))  # orthogonal


def test_a_code_is_scored_by_its_row_and_its_bits():
    visual = build(VISUAL).visual
    assert visual is not None and visual.bit_head is not None
    signs_C4 = torch.tensor(
        [[1.0 if code >> i & 1 else -1.0 for i in range(4)] for code in range(16)]
    )
    matrix_CD = visual.head.weight + signs_C4 @ visual.bit_head.weight
    h_D = torch.randn(32, generator=seeded())
    assert_close_fp32(visual.logits(h_D), matrix_CD @ h_D)


def test_visual_calls_that_cannot_be_answered():
    codes_BT = torch.zeros(1, 2, dtype=torch.long)
    text_only, placed = build(TEXT), build(VISUAL)
    with pytest.raises(ValueError, match="num_codes is 0"):
        text_only.embed(codes_BT, codes_BT)
    with pytest.raises(ValueError, match="num_codes is 0"):
        text_only.visual_logits(torch.zeros(32))
    with pytest.raises(ValueError, match="rows_BT and cols_BT"):
        placed.embed(codes_BT, codes_BT)


def test_bfloat16_runs_with_a_cache_and_autocast():
    model = build(VISUAL)
    ids_BT = random_ids(1, 6)
    exact_BTD = model(model.embed(ids_BT), positions(1, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed_BTD = model(model.embed(ids_BT), positions(1, 6))
    low = model.to(torch.bfloat16)
    cache = KVCache.empty(VISUAL, 1, 6, dtype=torch.bfloat16)
    parts = [
        low(low.embed(ids_BT[:, t : t + 1]), torch.tensor([[t]]), kv_cache=cache) for t in range(6)
    ]
    for h_BTD in (mixed_BTD, torch.cat(parts, dim=1)):
        assert (h_BTD.float() - exact_BTD).abs().mean() < 0.05
