"""Counting FLOPs and live memory, by hand."""

import torch

from arm.train.measure import LiveStorages, flop_counter


def test_grouped_heads_of_the_gpus_kernel_by_hand():
    """4 query heads on 2 key/value heads; on the meta device, so no GPU is needed."""
    q_BNTH, k_BKSH = (torch.empty(1, heads, 8, 16, device="meta") for heads in (4, 2))
    with flop_counter() as counter:
        torch.ops.aten._scaled_dot_product_flash_attention(q_BNTH, k_BKSH, k_BKSH)
    assert counter.get_total_flops() == 2 * (2 * 4 * 8 * 8 * 16)  # scores, and what they weigh


def test_live_storages_by_hand():
    storages, w = LiveStorages(), torch.zeros(10, 10, requires_grad=True)
    storages.track(w)
    assert storages.live_bytes == 400
    with storages:
        a = torch.ones(10, 10)
        view = a.view(100)
        product = a @ w
        assert storages.live_bytes == 1200  # a view has no bytes of its own
        del a, view
        assert storages.live_bytes == 1200  # the backward pass needs it
        product.sum().backward()
        del product
        assert storages.live_bytes == 1200 - 400 * 2 + 400 and w.grad is not None
    assert storages.peak >= 1600
