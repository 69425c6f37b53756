"""The visual part of the backbone: all parameters that a text-only Qwen2 lacks (ARM section 3).

B batch, T tokens, D width.
"""

import torch
from torch import Tensor, nn


class Visual(nn.Module):
    """The embedding of codes, and the linear head that scores the next one.

    embed_bits: embed a code by a linear map of its bits; otherwise by a table. max_side > 0 adds
    learned row and column embeddings, for grids up to this side.
    """

    def __init__(
        self, width: int, num_codes: int, code_bits: int, max_side: int, embed_bits: bool
    ) -> None:
        super().__init__()
        self.max_side = max_side
        if embed_bits:
            self.code_embedding = nn.Linear(code_bits, width)
        else:
            self.code_embedding = nn.Embedding(num_codes, width)
        if max_side:
            self.row_embedding = nn.Embedding(max_side, width)
            self.col_embedding = nn.Embedding(max_side, width)
        self.head = nn.Linear(width, num_codes, bias=False)

    def embed(self, codes_BT: Tensor, rows_BT: Tensor | None, cols_BT: Tensor | None) -> Tensor:
        """(B, T, D) of codes in [0, C), rows and columns in [0, max_side). Bit 0 is input 0."""
        if isinstance(self.code_embedding, nn.Embedding):
            x_BTD = self.code_embedding(codes_BT)
        else:
            shifts = torch.arange(self.code_embedding.in_features, device=codes_BT.device)
            signs = 2 * ((codes_BT[..., None] >> shifts) & 1) - 1
            x_BTD = self.code_embedding(signs.to(self.code_embedding.weight.dtype))
        if not self.max_side:
            return x_BTD
        if rows_BT is None or cols_BT is None:
            raise ValueError(
                f"a model with max_side {self.max_side} needs rows_BT and cols_BT of its codes"
            )
        return x_BTD + self.row_embedding(rows_BT) + self.col_embedding(cols_BT)
