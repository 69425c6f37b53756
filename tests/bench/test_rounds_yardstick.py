"""The matrices' product: its FLOPs as PyTorch counts them."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from arm.bench.rounds import matrix_products


def test_flops_are_those_of_a_call():
    products = matrix_products(torch.device("cpu"), side=32)
    with products.within(), FlopCounterMode(display=False) as counter:
        products.run()
    assert counter.get_total_flops() == products.flops == 2 * 32**3
    assert products.name == "matrices of 32 x 32 in fp32"
