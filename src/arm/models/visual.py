"""The visual part of the backbone: all parameters that a text-only Qwen2 lacks (ARM section 3).

B batch, T tokens, D width.
"""

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def code_signs(codes_X: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The bits of codes in [0, 2**bits) as -1 and +1, (..., bits). The lowest bit comes first."""
    shifts = torch.arange(bits, device=codes_X.device)
    return (2 * ((codes_X[..., None] >> shifts) & 1) - 1).to(dtype)


def bit_products(signs_CB: Tensor, order: int) -> Tensor:
    """1 and the products of up to `order` different bits, (C, F): parities, the Fourier basis on bits."""
    columns = [torch.ones_like(signs_CB[:, 0])]
    for size in range(1, order + 1):
        for chosen in combinations(range(signs_CB.shape[1]), size):
            columns.append(signs_CB[:, list(chosen)].prod(1))
    return torch.stack(columns, 1)


MAX_BITS_PER_PRODUCT = 3
"""Most bits in one product of what rare rows are composed of."""
RIDGE = 1e-3
"""Weight of the composed part's squared coefficients, against 1 for the mean squared error."""


@torch.no_grad()
def compose_rare_rows(visual: "Visual", counts_C: Tensor, min_count: int) -> int:
    """Gives codes that training saw fewer than `min_count` times the head's row that their bits predict.

    A code that hardly ever was a target has mostly been pushed away, and a new combination of known
    attributes needs such codes. The rows of the others are a smooth function of their bits, so a ridge
    regression of them on the products of up to three bits says what a rare code's row would be; of fewer
    where there are not twice as many rows to fit. Returns how many rows were replaced; none where too few
    codes are left to fit. Needs `share_bits`.
    """
    if visual.bit_head is None:
        raise ValueError("rows are composed of bits: the model must share them (share_bits)")
    rare_C = counts_C < min_count
    if not rare_C.any():
        return 0
    signs_CB = code_signs(torch.arange(len(counts_C)), *visual.bits).double()
    known = int((~rare_C).sum())
    for order in range(MAX_BITS_PER_PRODUCT, 0, -1):
        inputs_CF = bit_products(signs_CB, order)
        if known >= 2 * inputs_CF.shape[1]:
            break
    else:
        return 0
    # The part that is linear in the bits is in `bit_head` already: what is fitted is the rest.
    x_KF, rows_KD = inputs_CF[~rare_C], visual.head.weight.cpu()[~rare_C].double()
    penalty_F = x_KF.new_full(x_KF.shape[1:], RIDGE * known)
    penalty_F[0] = 0.0
    fit_FD = torch.linalg.solve(x_KF.T @ x_KF + penalty_F.diag(), x_KF.T @ rows_KD)
    composed = (inputs_CF[rare_C] @ fit_FD).to(visual.head.weight)
    visual.head.weight[rare_C.to(composed.device)] = composed
    return int(rare_C.sum())


class Visual(nn.Module):
    """The embedding of codes, and the linear head that scores the next one.

    share_bits: embed a code by a linear map of its bits (otherwise by a table), and add to the head's
    row of a code a part that is linear in its bits too, so that codes learn from those that differ
    in a few bits. max_side > 0 adds learned row and column embeddings, for grids up to this side: of
    the code's own place, and to every token that a code follows those of the place that comes next
    (as RAR's target-aware positions, arXiv 2411.00776): one head can then look up a place in a source.
    """

    def __init__(
        self, width: int, num_codes: int, code_bits: int, max_side: int, share_bits: bool
    ) -> None:
        super().__init__()
        self.max_side, self.code_bits = max_side, code_bits
        self.bit_head = None
        if share_bits:
            self.code_embedding = nn.Linear(code_bits, width)
            self.bit_head = nn.Linear(width, code_bits, bias=False)
        else:
            self.code_embedding = nn.Embedding(num_codes, width)
        if max_side:
            self.row_embedding = nn.Embedding(max_side, width)
            self.col_embedding = nn.Embedding(max_side, width)
            self.next_row_embedding = nn.Embedding(max_side, width)
            self.next_col_embedding = nn.Embedding(max_side, width)
        self.head = nn.Linear(width, num_codes, bias=False)

    @property
    def bits(self) -> tuple[int, torch.dtype]:
        """Bits of a code, and the dtype of the weights."""
        return self.code_bits, self.head.weight.dtype

    def embed(self, codes_BT: Tensor, rows_BT: Tensor | None, cols_BT: Tensor | None) -> Tensor:
        """(B, T, D) of codes in [0, C), rows and columns in [0, max_side)."""
        if self.bit_head is None:
            x_BTD = self.code_embedding(codes_BT)
        else:
            x_BTD = self.code_embedding(code_signs(codes_BT, *self.bits))
        if not self.max_side:
            return x_BTD
        if rows_BT is None or cols_BT is None:
            raise ValueError(
                f"a model with max_side {self.max_side} needs rows_BT and cols_BT of its codes"
            )
        return x_BTD + self.row_embedding(rows_BT) + self.col_embedding(cols_BT)

    def embed_next(self, rows_BT: Tensor, cols_BT: Tensor) -> Tensor:
        """(B, T, D) of the places of the codes that follow; zero where a row is negative."""
        places_BTD = self.next_row_embedding(rows_BT.clamp(min=0))
        places_BTD = places_BTD + self.next_col_embedding(cols_BT.clamp(min=0))
        return places_BTD.masked_fill((rows_BT < 0)[..., None], 0.0)

    def logits(self, h_XD: Tensor) -> Tensor:
        """(..., C) scores of the next code."""
        logits_XC = self.head(h_XD)
        if self.bit_head is None:
            return logits_XC
        every_C = torch.arange(logits_XC.shape[-1], device=h_XD.device)
        return logits_XC + F.linear(self.bit_head(h_XD), code_signs(every_C, *self.bits))
